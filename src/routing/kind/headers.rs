//! Headers exchanges: a binding's arguments are compared with the message's headers.
//!
//! The argument `x-match` says how many of them must agree: `all` (also if it is absent) or `any`. Both leave out
//! every argument whose name begins with `x-`; `all-with-x` and `any-with-x` leave out `x-match` alone. An argument
//! without a value asks only that the header is there. `all` of no arguments matches every message, `any` none.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::{Entity, FieldTable, FieldValue, Refusal, ReplyCode};
use crate::routing::sorted::SortedMap;
use crate::routing::target::{Target, count_down, count_up};
use crate::routing::values::{self, Shown, ShownText};
use crate::routing::{Binding, Routed};

const X_MATCH: &str = "x-match";

/// The headers of a message that has none.
static NO_HEADERS: FieldTable = FieldTable(BTreeMap::new());

/// Refuses a binding whose `x-match` is not one of the four: 406.
pub(in crate::routing) fn check_arguments(binding: &Binding) -> Result<(), Refusal> {
    let (text, got) = match binding.arguments.value(X_MATCH) {
        None => return Ok(()),
        Some(FieldValue::Text(text)) if Mode::parse(text).is_some() => return Ok(()),
        Some(FieldValue::Text(text)) => (
            format!(
                "Invalid x-match field value '{}'; expected all, any, all-with-x, or any-with-x",
                ShownText(text)
            ),
            ShownText(text).to_string(),
        ),
        Some(value) => (
            format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                values::type_name(value),
                values::plain(value)
            ),
            values::type_name(value).to_owned(),
        ),
    };
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Binding, &*binding.key)
        .field(X_MATCH, "all, any, all-with-x or any-with-x", got)
        .hint("leave x-match out to match all"))
}

/// How many arguments must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    All,
    Any,
}

/// What `x-match` says.
#[derive(Debug, Clone, Copy)]
struct Mode {
    quantity: Quantity,
    with_x: bool,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        let (quantity, with_x) = match text {
            "all" => (Quantity::All, false),
            "any" => (Quantity::Any, false),
            "all-with-x" => (Quantity::All, true),
            "any-with-x" => (Quantity::Any, true),
            _ => return None,
        };
        Some(Self { quantity, with_x })
    }

    /// The mode of a binding that was checked when it was made.
    fn of(arguments: &FieldTable) -> Self {
        let all = Self { quantity: Quantity::All, with_x: false };
        arguments.text(X_MATCH).and_then(Self::parse).unwrap_or(all)
    }

    /// The arguments that are compared.
    fn compared(self, arguments: &FieldTable) -> impl Iterator<Item = (&str, &FieldValue)> {
        let skipped = if self.with_x { X_MATCH } else { "x-" };
        arguments
            .iter()
            .filter(move |(name, _)| if self.with_x { *name != skipped } else { !name.starts_with(skipped) })
    }
}

/// Whether a message's header is what an argument wants.
fn agrees(wanted: &FieldValue, is: &FieldValue) -> bool {
    *wanted == FieldValue::Void || values::compare(wanted, is).is_eq()
}

fn matches(mode: Mode, arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mut compared = mode.compared(arguments);
    let agrees =
        |(name, wanted): (&str, &FieldValue)| headers.value(name).is_some_and(|is| agrees(wanted, is));
    match mode.quantity {
        Quantity::All => compared.all(agrees),
        Quantity::Any => compared.any(agrees),
    }
}

/// Bindings by the fields for which they are worth a look.
///
/// A binding for `any` stands under each of its arguments, one for `all` under one of them alone: the one that the
/// fewest bindings stand under at that time. So a message looks only at bindings that share a field with it.
#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Index {
    /// Under an argument with a value.
    by_value: Candidates,
    /// Under an argument that asks for presence.
    by_presence: Candidates,
    /// Number of bindings by target, of those that match every message.
    always: SortedMap<Target, u32>,
}

impl Index {
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        let mode = Mode::of(&binding.arguments);
        let fields = mode.compared(&binding.arguments);
        match mode.quantity {
            Quantity::Any => {
                fields
                    .for_each(|(name, wanted)| self.under(wanted).add(name, wanted, mode, binding, &target));
            }
            Quantity::All => match fields.min_by_key(|(name, wanted)| self.under(wanted).crowd(name, wanted))
            {
                Some((name, wanted)) => self.under(wanted).add(name, wanted, mode, binding, &target),
                None => count_up(&mut self.always, target),
            },
        }
    }

    pub(super) fn remove(&mut self, binding: &Arc<Binding>, target: &Target) {
        let mode = Mode::of(&binding.arguments);
        let mut fields = mode.compared(&binding.arguments).peekable();
        if mode.quantity == Quantity::All && fields.peek().is_none() {
            count_down(&mut self.always, target);
        }
        fields.for_each(|(name, wanted)| self.under(wanted).remove(name, wanted, binding));
    }

    pub(super) fn route(&self, headers: Option<&FieldTable>, out: &mut Routed) {
        let headers = headers.unwrap_or(&NO_HEADERS);
        self.always.for_each(|target, _| out.take(target));
        for (name, value) in headers.iter() {
            if !self.by_value.bindings.is_empty() {
                self.by_value.route(values::hash_field(name, Some(value)), headers, out);
            }
            if !self.by_presence.bindings.is_empty() {
                self.by_presence.route(values::hash_field(name, None), headers, out);
            }
        }
    }

    fn under(&mut self, wanted: &FieldValue) -> &mut Candidates {
        if *wanted == FieldValue::Void { &mut self.by_presence } else { &mut self.by_value }
    }
}

#[derive(Debug, Clone, Default)]
struct Candidates {
    bindings: SortedMap<Candidate, (Mode, Target)>,
    /// Number of bindings by field.
    crowds: SortedMap<u64, u32>,
}

/// A binding under one of its fields.
#[derive(Debug, Clone)]
struct Candidate {
    field: u64,
    binding: Arc<Binding>,
}

impl Candidates {
    fn add(&mut self, name: &str, wanted: &FieldValue, mode: Mode, binding: &Arc<Binding>, target: &Target) {
        let field = field(name, wanted);
        let candidate = Candidate { field, binding: Arc::clone(binding) };
        // A binding is there already if the hashes of two of its fields are equal.
        if self.bindings.insert(candidate, (mode, target.clone())).is_none() {
            count_up(&mut self.crowds, field);
        }
    }

    fn remove(&mut self, name: &str, wanted: &FieldValue, binding: &Arc<Binding>) {
        let field = field(name, wanted);
        let candidate = Candidate { field, binding: Arc::clone(binding) };
        if self.bindings.remove(|stored| stored.cmp(&candidate)).is_some() {
            count_down(&mut self.crowds, &field);
        }
    }

    fn crowd(&self, name: &str, wanted: &FieldValue) -> u32 {
        let field = field(name, wanted);
        self.crowds.find(|stored| stored.cmp(&field)).map_or(0, |(_, count)| *count)
    }

    fn route(&self, field: u64, headers: &FieldTable, out: &mut Routed) {
        self.bindings.for_each_equal(
            |candidate| candidate.field.cmp(&field),
            |candidate, (mode, target)| {
                if matches(*mode, &candidate.binding.arguments, headers) {
                    out.take(target);
                }
            },
        );
    }
}

/// The field of a message that an argument looks for.
fn field(name: &str, wanted: &FieldValue) -> u64 {
    values::hash_field(name, (*wanted != FieldValue::Void).then_some(wanted))
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.field.cmp(&other.field).then_with(|| self.binding.compare(&other.binding))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// What decided about a binding's arguments and a message's headers.
#[derive(Debug)]
pub(in crate::routing) struct Verdict<'a> {
    quantity: Quantity,
    compared: usize,
    /// For `all` the first argument that does not agree; for `any` the first one that does, or else the first one.
    deciding: Option<Compared<'a>>,
}

/// One argument beside its header.
#[derive(Debug)]
struct Compared<'a> {
    name: &'a str,
    wanted: &'a FieldValue,
    is: Option<&'a FieldValue>,
}

impl Compared<'_> {
    fn agrees(&self) -> bool {
        self.is.is_some_and(|is| agrees(self.wanted, is))
    }
}

impl<'a> Verdict<'a> {
    pub(super) fn new(arguments: &'a FieldTable, headers: &'a FieldTable) -> Self {
        let mode = Mode::of(arguments);
        let compare = || {
            mode.compared(arguments).map(|(name, wanted)| Compared { name, wanted, is: headers.value(name) })
        };
        let deciding = match mode.quantity {
            Quantity::All => compare().find(|compared| !compared.agrees()),
            Quantity::Any => compare().find(Compared::agrees).or_else(|| compare().next()),
        };
        Self { quantity: mode.quantity, compared: compare().count(), deciding }
    }

    pub(super) fn matched(&self) -> bool {
        match self.quantity {
            Quantity::All => self.deciding.is_none(),
            Quantity::Any => self.deciding.as_ref().is_some_and(Compared::agrees),
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.quantity, &self.deciding, self.compared) {
            (Quantity::All, None, 0) => f.write_str("the binding asks for no header, so all of them agree"),
            (Quantity::All, None, 1) => f.write_str("the one header that the binding asks for agrees"),
            (Quantity::All, None, count) => write!(f, "all {count} headers that the binding asks for agree"),
            (Quantity::Any, None, _) => {
                f.write_str("the binding asks for no header, so not any of them agrees")
            }
            (_, Some(one), _) if self.quantity == Quantity::All || one.agrees() => one.fmt(f),
            (_, Some(one), 1) => one.fmt(f),
            (_, Some(first), count) => write!(f, "none of {count} headers agrees, the first: {first}"),
        }
    }
}

impl fmt::Display for Compared<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ShownText(self.name);
        match self.is {
            None => {
                write!(f, "header `{name}` is absent, the binding wants ")?;
                match self.wanted {
                    FieldValue::Void => f.write_str("it to be there"),
                    wanted => Shown(wanted).fmt(f),
                }
            }
            Some(_) if *self.wanted == FieldValue::Void => write!(f, "header `{name}` is there"),
            Some(is) if self.agrees() => write!(f, "header `{name}` is {}", Shown(is)),
            Some(is) => {
                write!(f, "header `{name}` is {}, the binding wants {}", Shown(is), Shown(self.wanted))
            }
        }
    }
}

#[cfg(test)]
mod tests;
