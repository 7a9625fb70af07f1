//! Policies: what holds for queues and exchanges whose names match a pattern, beside what they were declared with.
//!
//! Of the policies of a virtual host one at most holds for a queue or exchange, and of the operators' policies one at most. What
//! follows for a queue are arguments again: its shard sees no difference between what was declared and what a policy says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::dead_letters::address_of;
use super::limits::{NoLimit, delivery_limit_of, expiry_of, lease_of, limits_of, retry_of};
use crate::auth::Pattern;
use crate::model::{
    CONSUMER_TIMEOUT, DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, DELAYED_RETRY_JITTER, DELAYED_RETRY_MAX,
    DELAYED_RETRY_MIN, DELAYED_RETRY_MULTIPLIER, DELAYED_RETRY_TYPE, DELIVERY_LIMIT, EXPIRES, ExchangeName,
    FieldTable, FieldValue, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL, NAME_BYTES_MAX, OVERFLOW,
};

/// Policies of a virtual host, and as many of operators.
pub(super) const POLICIES_MAX: usize = 1_000;
/// What the keys of a definition lack of the names of arguments.
const PREFIX: &str = "x-";

/// The arguments of queues that a policy can say something about.
const OF_POLICIES: [&str; 14] = [
    CONSUMER_TIMEOUT,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    DELAYED_RETRY_JITTER,
    DELAYED_RETRY_MAX,
    DELAYED_RETRY_MIN,
    DELAYED_RETRY_MULTIPLIER,
    DELAYED_RETRY_TYPE,
    DELIVERY_LIMIT,
    EXPIRES,
    MAX_LENGTH,
    MAX_LENGTH_BYTES,
    MESSAGE_TTL,
    OVERFLOW,
];
/// What a policy can say of exchanges.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
/// Those of queues that an operator's policy can.
const OF_OPERATORS: [&str; 5] = [DELIVERY_LIMIT, EXPIRES, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL];
/// Those of which the smallest of all that is said holds.
const OF_WHICH_THE_LEAST_HOLDS: [&str; 6] =
    [CONSUMER_TIMEOUT, DELIVERY_LIMIT, EXPIRES, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL];

/// Whose a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Of whoever runs the applications.
    User,
    /// Of whoever runs the broker: it bounds what the others say.
    Operator,
}

impl PolicyKind {
    /// In words.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "policy",
            Self::Operator => "operator policy",
        }
    }

    fn keys(self) -> impl Iterator<Item = &'static str> {
        let (of_queues, of_exchanges): (&[&'static str], _) = match self {
            Self::User => (&OF_POLICIES, Some(ALTERNATE_EXCHANGE)),
            Self::Operator => (&OF_OPERATORS, None),
        };
        of_exchanges.into_iter().chain(of_queues.iter().map(|name| key_of(name)))
    }
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppliesTo {
    /// Queues.
    Queues,
    /// Exchanges.
    Exchanges,
    /// Both.
    All,
}

impl AppliesTo {
    /// All of them.
    pub const EACH: [Self; 3] = [Self::Queues, Self::Exchanges, Self::All];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queues => "queues",
            Self::Exchanges => "exchanges",
            Self::All => "all",
        }
    }

    /// What a word stands for. Every queue is a classic one.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = if name == "classic_queues" { "queues" } else { name };
        Self::EACH.into_iter().find(|one| one.as_str() == name)
    }

    fn includes(self, what: Self) -> bool {
        self == Self::All || self == what
    }
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whose it is.
    pub kind: PolicyKind,
    /// Unique among those of its kind in its virtual host.
    pub name: Arc<str>,
    /// Looked for anywhere in their names.
    pub pattern: Pattern,
    /// In whose names.
    pub applies_to: AppliesTo,
    /// Of those that match, one of the highest holds.
    pub priority: i32,
    /// What is to hold: arguments of queues, without the "x-" of their names.
    pub definition: FieldTable,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.kind, Arc::clone(&one.name), one.priority, one.applies_to);
        of(self) == of(other)
            && self.pattern.as_str() == other.pattern.as_str()
            && self.definition == other.definition
    }
}

/// What is wrong with a definition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DefinitionFault {
    /// The key, or "definition".
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl fmt::Display for DefinitionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is {}, and is to be {}", self.field, self.got, self.expected)
    }
}

impl Policy {
    /// What is wrong with its definition, if anything is.
    pub(super) fn check(&self) -> Result<(), DefinitionFault> {
        let names = || self.kind.keys().collect::<Vec<_>>().join(", ");
        if self.definition.is_empty() {
            let (field, got) = ("definition".to_owned(), "empty".to_owned());
            return Err(DefinitionFault { field, expected: format!("one or more of: {}", names()), got });
        }
        if let Some((key, _)) =
            self.definition.iter().find(|(key, _)| !self.kind.keys().any(|one| one == *key))
        {
            let (field, got) = ("definition".to_owned(), key.to_owned());
            return Err(DefinitionFault { field, expected: format!("one or more of: {}", names()), got });
        }
        match self.definition.value(ALTERNATE_EXCHANGE) {
            None => {}
            Some(FieldValue::Text(name)) if name.len() <= NAME_BYTES_MAX => {}
            Some(got) => {
                let expected = format!("the name of an exchange, a text of {NAME_BYTES_MAX} bytes at most");
                let (field, got) = (ALTERNATE_EXCHANGE.to_owned(), format!("{got:?}"));
                return Err(DefinitionFault { field, expected, got });
            }
        }
        let mut arguments = in_arguments(&self.definition);
        let checked = limits_of(&arguments)
            .and_then(|_| delivery_limit_of(&arguments))
            .and_then(|_| expiry_of(&arguments))
            .and_then(|_| lease_of(&arguments))
            .and_then(|_| retry_of(&arguments));
        // The exchange may be said by the queue.
        if arguments.value(DEAD_LETTER_EXCHANGE).is_none() {
            arguments.0.insert(DEAD_LETTER_EXCHANGE.to_owned(), "".into());
        }
        checked.and_then(|_| address_of(&arguments).map(|_| ())).map_err(
            |NoLimit { argument, expected, got }| {
                let got = match got {
                    FieldValue::Text(text) => text,
                    FieldValue::Integer(number) => number.to_string(),
                    other => format!("{other:?}"),
                };
                DefinitionFault { field: key_of(argument).to_owned(), expected, got }
            },
        )
    }
}

/// The policies of a virtual host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Policies(BTreeMap<(PolicyKind, Arc<str>), Arc<Policy>>);

impl Policies {
    pub(super) fn get(&self, kind: PolicyKind, name: &str) -> Option<&Arc<Policy>> {
        self.0.get(&(kind, Arc::from(name)))
    }

    pub(super) fn count(&self, kind: PolicyKind) -> usize {
        self.iter().filter(|policy| policy.kind == kind).count()
    }

    /// Those of users first, each kind by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.0.values()
    }

    pub(super) fn put(&mut self, policy: Arc<Policy>) {
        self.0.insert((policy.kind, Arc::clone(&policy.name)), policy);
    }

    pub(super) fn remove(&mut self, kind: PolicyKind, name: &str) {
        self.0.remove(&(kind, Arc::from(name)));
    }

    /// What holds for a queue of this name with these arguments beside them; `None`: nothing does.
    pub(super) fn govern(&self, queue: &str, declared: &FieldTable) -> Option<Arc<Governed>> {
        if self.0.is_empty() {
            return None;
        }
        let matching = |kind| self.matching(kind, AppliesTo::Queues, queue);
        let (policy, operator) = (matching(PolicyKind::User), matching(PolicyKind::Operator));
        if policy.is_none() && operator.is_none() {
            return None;
        }
        let mut arguments = declared.clone();
        for policy in [policy, operator].into_iter().flatten() {
            for (name, value) in in_arguments(&policy.definition).iter() {
                let said = arguments.value(name);
                let holds = match said {
                    None => true,
                    Some(said) => OF_WHICH_THE_LEAST_HOLDS.contains(&name) && is_less(value, said),
                };
                if holds {
                    arguments.0.insert(name.to_owned(), value.clone());
                }
            }
        }
        let name = |policy: &Policy| Arc::clone(&policy.name);
        let (policy, operator) = (policy.map(|one| name(one)), operator.map(|one| name(one)));
        Some(Arc::new(Governed { policy, operator, arguments }))
    }

    /// What holds for an exchange of this name that says nothing of its own.
    pub(super) fn of_exchange(&self, exchange: &str) -> ExchangePolicy {
        // Nothing is said of the default exchange.
        if self.0.is_empty() || exchange.is_empty() {
            return ExchangePolicy::default();
        }
        let matching = |kind| self.matching(kind, AppliesTo::Exchanges, exchange);
        let (policy, operator) = (matching(PolicyKind::User), matching(PolicyKind::Operator));
        let alternate = policy.and_then(|policy| policy.definition.text(ALTERNATE_EXCHANGE));
        ExchangePolicy {
            alternate: alternate.and_then(|name| ExchangeName::new(name).ok()),
            policy: policy.map(|one| Arc::clone(&one.name)),
            operator: operator.map(|one| Arc::clone(&one.name)),
        }
    }

    /// The one of the highest priority; of several the first by name.
    fn matching(&self, kind: PolicyKind, what: AppliesTo, name: &str) -> Option<&Arc<Policy>> {
        let matching = self.iter().filter(|policy| {
            policy.kind == kind && policy.applies_to.includes(what) && policy.pattern.matches(name)
        });
        matching.reduce(|best, other| if other.priority > best.priority { other } else { best })
    }
}

/// What policies make of an exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExchangePolicy {
    /// Where messages go that no binding matches, unless its declaration says it.
    pub alternate: Option<ExchangeName>,
    /// Name of the policy that holds for it.
    pub policy: Option<Arc<str>>,
    /// Name of the operators' policy that does.
    pub operator: Option<Arc<str>>,
}

/// What policies make of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Governed {
    /// Name of the policy that holds for it.
    pub policy: Option<Arc<str>>,
    /// Name of the operators' policy that does.
    pub operator: Option<Arc<str>>,
    /// Its arguments as they hold: those of its declaration, and those of the policies.
    pub arguments: FieldTable,
}

fn key_of(argument: &'static str) -> &'static str {
    argument.strip_prefix(PREFIX).unwrap_or(argument)
}

fn in_arguments(definition: &FieldTable) -> FieldTable {
    let of_queues = definition.iter().filter(|(key, _)| *key != ALTERNATE_EXCHANGE);
    FieldTable(of_queues.map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect())
}

fn is_less(one: &FieldValue, other: &FieldValue) -> bool {
    matches!((one, other), (FieldValue::Integer(one), FieldValue::Integer(other)) if one < other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn policy(
        kind: PolicyKind,
        name: &str,
        pattern: &str,
        priority: i32,
        says: &[(&str, FieldValue)],
    ) -> Policy {
        let definition =
            FieldTable(says.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect());
        let (name, pattern, applies_to) = (name.into(), Pattern::new(pattern).unwrap(), AppliesTo::All);
        Policy { kind, name, pattern, applies_to, priority, definition }
    }

    fn policies(all: impl IntoIterator<Item = Policy>) -> Policies {
        let mut policies = Policies::default();
        all.into_iter().for_each(|one| policies.put(Arc::new(one)));
        policies
    }

    fn length(length: i64) -> [(&'static str, FieldValue); 1] {
        [("max-length", length.into())]
    }

    #[test]
    fn one_of_each_kind_holds_and_the_highest_goes_first() {
        use PolicyKind::{Operator, User};
        let policies = policies([
            policy(User, "all", ".*", 0, &length(1)),
            policy(User, "b", "^orders", 5, &length(2)),
            policy(User, "a", "orders$", 5, &length(3)),
            policy(Operator, "cap", "^o", -1, &[("expires", 9i64.into())]),
        ]);
        let governed = |queue: &str| policies.govern(queue, &FieldTable::default()).unwrap();
        let orders = governed("orders");
        assert_eq!((orders.policy.as_deref(), orders.operator.as_deref()), (Some("a"), Some("cap")));
        assert_eq!(
            orders.arguments,
            FieldTable::from([("x-max-length", 3i64.into()), ("x-expires", 9i64.into())])
        );
        assert_eq!(governed("orders.eu").policy.as_deref(), Some("b"));
        let bills = governed("bills");
        assert_eq!((bills.policy.as_deref(), bills.operator.as_deref()), (Some("all"), None));
        assert_eq!(Policies::default().govern("bills", &FieldTable::default()), None);
    }

    #[test]
    fn of_numbers_the_least_holds_and_of_words_what_was_declared() {
        use PolicyKind::{Operator, User};
        let says =
            [("max-length", 10i64.into()), ("overflow", "reject-publish".into()), ("expires", 5i64.into())];
        let policies = policies([
            policy(User, "p", "", 0, &length(1)),
            policy(User, "q", "q", 0, &says),
            policy(Operator, "o", "q", 0, &[("max-length", 7i64.into()), ("expires", 6i64.into())]),
        ]);
        let check = |declared: &[(&str, FieldValue)], expected: &[(&str, FieldValue)]| {
            let table = |fields: &[(&str, FieldValue)]| {
                FieldTable(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
            };
            assert_eq!(policies.govern("q", &table(declared)).unwrap().arguments, table(expected));
        };
        let overflow = ("x-overflow", FieldValue::from("reject-publish"));
        let expires = ("x-expires", FieldValue::from(5i64));
        check(&[], &[("x-max-length", 7i64.into()), overflow.clone(), expires.clone()]);
        check(&[("x-max-length", 3i64.into())], &[("x-max-length", 3i64.into()), overflow, expires.clone()]);
        let head = ("x-overflow", FieldValue::from("drop-head"));
        check(
            &[("x-max-length", 30i64.into()), head.clone()],
            &[("x-max-length", 7i64.into()), head, expires],
        );
    }

    #[test]
    fn a_definition_says_what_can_be_done() {
        use PolicyKind::{Operator, User};
        let check = |kind, says: &[(&str, FieldValue)]| {
            policy(kind, "p", "", 0, says).check().map_err(|fault| fault.field)
        };
        assert_eq!(check(User, &length(0)), Ok(()));
        assert_eq!(check(User, &[("dead-letter-routing-key", "k".into())]), Ok(()));
        assert_eq!(check(Operator, &length(5)), Ok(()));
        for (kind, says, field) in [
            (User, ("max-length", FieldValue::from(-1i64)), "max-length"),
            (User, ("x-max-length", 5i64.into()), "definition"),
            (User, ("max-priority", 5i64.into()), "definition"),
            (User, ("overflow", "spill".into()), "overflow"),
            (User, ("dead-letter-exchange", 5i64.into()), "dead-letter-exchange"),
            (Operator, ("overflow", "drop-head".into()), "definition"),
        ] {
            assert_eq!(check(kind, &[says]), Err(field.to_owned()));
        }
        assert_eq!(check(User, &[]), Err("definition".to_owned()));
    }
}
