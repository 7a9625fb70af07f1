//! `leveret explain`: where a message would go, and why, drawn as a tree.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::failure::Failure;
use super::field::{self, FIELD_HELP};
use super::list::binding_to_json;
use super::session::{Target, once};
use super::terminal::{Colour, Terminal, printable};
use super::{clock, number, output, properties};
use crate::client::{
    Destination, ExplainedBinding, ExplainedExchange, Explanation, OutlookKind, Properties, QueueOutlook,
};
use crate::model::FieldValue;

/// What was typed after `explain`.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP)]
pub(super) struct Arguments {
    /// Exchange the message would be published to; the default exchange if none is named
    #[arg(long, value_name = "EXCHANGE", default_value = "", hide_default_value = true)]
    exchange: String,
    /// Routing key it would have
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,
    /// Header it would have; may be given more than once
    #[arg(long = "header", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    headers: Vec<(String, FieldValue)>,
    /// File with the body it would have, to hold it against the schema of the exchange; - is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Priority it would have
    #[arg(long, value_name = "N", value_parser = number::whole::<u8>(0, 255), default_value = "0", hide_default_value = true)]
    priority: u8,
    /// Seconds after which it would leave a queue in which it still waits
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = properties::seconds)]
    expiration: Option<u64>,
    /// Seconds for which queues would hold it back
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = properties::seconds, conflicts_with = "deliver_at")]
    delay: Option<u64>,
    /// Until when queues would hold it back: seconds since 1970
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = properties::deliver_at)]
    deliver_at: Option<u64>,
    /// Print the whole explanation as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let properties = Properties {
        headers: field::table(&arguments.headers)?,
        priority: arguments.priority,
        expiration_ms: arguments.expiration,
        delay_ms: arguments.delay,
        deliver_at_ms: arguments.deliver_at,
        ..Properties::default()
    };
    let body = arguments.body.as_deref().map(read).transpose()?;
    let explanation = once(&arguments.target, async |channel| {
        let Arguments { exchange, key, .. } = arguments;
        Ok(channel.explain_with(exchange, key, &properties, body.map(Into::into)).await?)
    })?;
    if arguments.json {
        let outlooks: Vec<Value> = explanation.outlooks.iter().map(outlook_to_json).collect();
        let mut json = to_json(&explanation);
        json["outlooks"] = json!(outlooks);
        return output::json_line(&json);
    }
    output::text(&drawn(&explanation, &arguments.key, Terminal::of_stdout()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().take(BODY_BYTES_MAX + 1).read_to_end(&mut body),
        _ => File::open(path).and_then(|file| file.take(BODY_BYTES_MAX + 1).read_to_end(&mut body)),
    };
    match read {
        Err(error) => Err(Failure::usage(format!("--body: cannot read '{}': {error}", path.display()))),
        Ok(_) if body.len() as u64 > BODY_BYTES_MAX => Err(Failure::usage(format!(
            "--body: '{}' has more than the {BODY_BYTES_MAX} bytes that can be asked about",
            path.display()
        ))),
        Ok(_) => Ok(body),
    }
}

fn drawn(explanation: &Explanation, key: &str, terminal: Terminal) -> String {
    let mut tree = Tree { explanation, terminal, drawn: HashSet::new(), depth: 0, out: String::new() };
    if let Some(first) = explanation.exchanges.first() {
        let key = terminal.paint(Colour::Bold, &format!("'{}'", printable(key)));
        let schema =
            first.schema.as_deref().map_or(String::new(), |schema| format!(", {}", printable(schema)));
        let schema = if first.refused.is_some() { String::new() } else { schema };
        tree.out.push_str(&format!("{key} to {}{schema}\n", exchange_words(first)));
        match &first.refused {
            Some(why) => tree.refused(why),
            None => tree.branches(first, ""),
        }
    }
    tree.conclusion();
    tree.out
}

/// Largest body that can be asked about, in bytes: the request has to fit into a frame of 1 MiB.
const BODY_BYTES_MAX: u64 = 900 * 1024;
/// Deepest exchange that is drawn.
const DEPTH_MAX: usize = 32;

struct Tree<'a> {
    explanation: &'a Explanation,
    terminal: Terminal,
    /// Exchanges that stand in the picture already: routing visits each once, however many ways lead there.
    drawn: HashSet<&'a str>,
    depth: usize,
    out: String,
}

/// What hangs below an exchange.
enum Branch<'a> {
    Binding(&'a ExplainedBinding),
    Alternate(&'a str),
}

impl<'a> Tree<'a> {
    fn branches(&mut self, exchange: &'a ExplainedExchange, indent: &str) {
        self.drawn.insert(&exchange.name);
        let bindings = exchange.bindings.iter().map(Branch::Binding);
        let alternate = exchange.alternate_exchange.as_deref().map(Branch::Alternate);
        let branches: Vec<Branch<'a>> = bindings.chain(alternate).collect();
        let last = branches.len().saturating_sub(1);
        for (index, branch) in branches.into_iter().enumerate() {
            let (joint, below) =
                if index == last { ("└── ", "    ") } else { ("├── ", "│   ") };
            self.out.push_str(indent);
            self.out.push_str(joint);
            let below = format!("{indent}{below}");
            match branch {
                Branch::Binding(binding) => self.binding(exchange, binding, &below),
                Branch::Alternate(name) => self.alternate(exchange, name, &below),
            }
        }
    }

    fn binding(&mut self, from: &'a ExplainedExchange, explained: &'a ExplainedBinding, below: &str) {
        let binding = &explained.binding;
        let key = if binding.arguments.is_empty() {
            format!("'{}'", printable(&binding.routing_key))
        } else {
            printable(&field::notation(&binding.arguments))
        };
        let (kind, name) = match &binding.destination {
            Destination::Queue(name) => ("queue", name),
            Destination::Exchange(name) => ("exchange", name),
        };
        let line = format!("{key} → {kind} '{}'", printable(name));
        let (mark, line) = if explained.matched {
            (self.terminal.paint(Colour::Green, "✓"), line)
        } else {
            (self.terminal.paint(Colour::Red, "✗"), self.terminal.paint(Colour::Faint, &line))
        };
        let reason = self.terminal.paint(Colour::Faint, &format!("({})", printable(&explained.reason)));
        self.out.push_str(&format!("{mark} {line}  {reason}\n"));
        if explained.matched && kind == "exchange" {
            self.follow(from, name, false, below);
        }
    }

    fn alternate(&mut self, from: &'a ExplainedExchange, name: &'a str, below: &str) {
        let note = self.terminal.paint(Colour::Faint, &format!("({})", printable(&from.alternate_note)));
        self.out.push_str(&format!("alternate exchange '{}'  {note}\n", printable(name)));
        self.follow(from, name, true, below);
    }

    /// Draws the exchange to which a branch leads, if routing went there.
    fn follow(&mut self, from: &ExplainedExchange, name: &'a str, as_alternate: bool, indent: &str) {
        let exchanges = &self.explanation.exchanges;
        let led_from_here = exchanges.iter().find(|exchange| {
            exchange.name == name
                && exchange.as_alternate == as_alternate
                && exchange.reached_from.as_deref() == Some(from.name.as_str())
        });
        match led_from_here {
            Some(_) if self.depth == DEPTH_MAX => {
                self.leaf(indent, "(deeper ones are not drawn; --json has all)")
            }
            Some(exchange) if !self.drawn.contains(name) => {
                self.depth += 1;
                self.branches(exchange, indent);
                self.depth -= 1;
            }
            _ if exchanges.iter().any(|exchange| exchange.name == name) && !as_alternate => {
                self.leaf(indent, "(drawn elsewhere: each exchange is visited once)");
            }
            _ => {}
        }
    }

    fn refused(&mut self, why: &str) {
        let mark = self.terminal.paint(Colour::Red, "✗");
        self.out.push_str(&format!("└── {mark} refused: {}\n", printable(why)));
    }

    fn leaf(&mut self, indent: &str, note: &str) {
        let note = self.terminal.paint(Colour::Faint, note);
        self.out.push_str(&format!("{indent}└── {note}\n"));
    }

    fn conclusion(&mut self) {
        let explanation = self.explanation;
        if explanation.bindings_omitted > 0 {
            self.out
                .push_str(&format!("bindings considered and not shown: {}\n", explanation.bindings_omitted));
        }
        if explanation.exchanges_omitted > 0 {
            self.out
                .push_str(&format!("exchanges visited and not shown: {}\n", explanation.exchanges_omitted));
        }
        let mut queues: Vec<String> =
            explanation.queues.iter().map(|queue| format!("'{}'", printable(queue))).collect();
        let count = queues.len() as u64 + explanation.queues_omitted;
        if explanation.queues_omitted > 0 {
            queues.push("...".to_owned());
        }
        let refused = explanation.exchanges.first().is_some_and(|first| first.refused.is_some());
        let line = match queues.as_slice() {
            [] if refused => {
                self.terminal.paint(Colour::Red, "reaches no queue: the publisher is told that it is refused")
            }
            [] => self
                .terminal
                .paint(Colour::Red, "reaches no queue: the message would be lost, or returned if mandatory"),
            [queue] => self.terminal.paint(Colour::Bold, &format!("reaches 1 queue: {queue}")),
            queues => {
                self.terminal.paint(Colour::Bold, &format!("reaches {count} queues: {}", queues.join(", ")))
            }
        };
        self.out.push_str(&line);
        self.out.push('\n');
        explanation.outlooks.iter().for_each(|outlook| self.outlook(outlook));
        if !explanation.outlooks.is_empty() && count > explanation.outlooks.len() as u64 {
            let others = count - explanation.outlooks.len() as u64;
            self.out.push_str(&format!("  what {others} others would do with it is not told\n"));
        }
    }

    fn outlook(&mut self, outlook: &QueueOutlook) {
        let until = outlook.held_until.filter(|_| outlook.kind == Some(OutlookKind::HeldBack));
        let until = until.map_or(String::new(), |at| format!(" until {}", clock::in_words(at.0)));
        let words = format!("{}{until}", printable(&outlook.reason));
        let words = match outlook.kind {
            Some(OutlookKind::Refused | OutlookKind::Dropped | OutlookKind::Expires) => {
                self.terminal.paint(Colour::Red, &words)
            }
            _ => words,
        };
        self.out.push_str(&format!("  '{}' {words}\n", printable(&outlook.queue)));
    }
}

fn exchange_words(exchange: &ExplainedExchange) -> String {
    if exchange.name.is_empty() {
        "the default exchange".to_owned()
    } else {
        format!("exchange '{}' ({})", printable(&exchange.name), exchange.kind)
    }
}

fn outlook_to_json(outlook: &QueueOutlook) -> Value {
    json!({
        "queue": outlook.queue,
        "kind": outlook.kind.map(OutlookKind::as_str),
        "reason": outlook.reason,
        "held_until_ms": outlook.held_until.map(|at| at.0),
        "drops": outlook.drops,
        "dead_letter_exchange": outlook.dead_letter_exchange,
        "dead_letter_routing_key": outlook.dead_letter_routing_key,
    })
}

/// The way of a message, without what queues would do with it.
pub(super) fn to_json(explanation: &Explanation) -> Value {
    let binding = |explained: &ExplainedBinding| {
        let mut json = binding_to_json(&explained.binding);
        json["matched"] = json!(explained.matched);
        json["reason"] = json!(explained.reason);
        json
    };
    let exchange = |exchange: &ExplainedExchange| {
        json!({
            "name": exchange.name,
            "type": exchange.kind,
            "reached_from": exchange.reached_from,
            "as_alternate": exchange.as_alternate,
            "bindings": exchange.bindings.iter().map(binding).collect::<Vec<_>>(),
            "alternate_exchange": exchange.alternate_exchange,
            "alternate_note": exchange.alternate_note,
            "refused": exchange.refused,
            "schema": exchange.schema,
        })
    };
    json!({
        "exchanges": explanation.exchanges.iter().map(exchange).collect::<Vec<_>>(),
        "queues": explanation.queues,
        "bindings_omitted": explanation.bindings_omitted,
        "queues_omitted": explanation.queues_omitted,
        "exchanges_omitted": explanation.exchanges_omitted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Binding;

    fn binding(binding: Binding, matched: bool, reason: &str) -> ExplainedBinding {
        ExplainedBinding { binding, matched, reason: reason.to_owned() }
    }

    fn exchange(name: &str, kind: &str, reached_from: Option<&str>) -> ExplainedExchange {
        ExplainedExchange {
            name: name.to_owned(),
            kind: kind.to_owned(),
            reached_from: reached_from.map(str::to_owned),
            as_alternate: false,
            bindings: Vec::new(),
            alternate_exchange: None,
            alternate_note: String::new(),
            refused: None,
            schema: None,
        }
    }

    #[track_caller]
    fn check(exchanges: Vec<ExplainedExchange>, queues: &[&str], key: &str, expect: &str) {
        let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        let explanation = Explanation {
            exchanges,
            queues,
            bindings_omitted: 0,
            queues_omitted: 0,
            exchanges_omitted: 0,
            outlooks: Vec::new(),
        };
        assert_eq!(drawn(&explanation, key, Terminal::none()), expect);
    }

    #[test]
    fn a_tree_shows_what_matched_and_what_did_not() {
        let orders = ExplainedExchange {
            bindings: vec![
                binding(Binding::to_queue("orders", "all", "#"), true, "# matches everything"),
                binding(Binding::to_queue("orders", "us", "*.us"), false, "word 2 is 'eu', not 'us'"),
                binding(Binding::to_exchange("orders", "audit", "order.*"), true, "* matches 'eu'"),
            ],
            ..exchange("orders", "topic", None)
        };
        let audit = ExplainedExchange {
            bindings: vec![binding(Binding::to_queue("audit", "log", ""), true, "a fanout takes all")],
            ..exchange("audit", "fanout", Some("orders"))
        };
        check(
            vec![orders, audit],
            &["all", "log"],
            "order.eu",
            "'order.eu' to exchange 'orders' (topic)\n\
             ├── ✓ '#' → queue 'all'  (# matches everything)\n\
             ├── ✗ '*.us' → queue 'us'  (word 2 is 'eu', not 'us')\n\
             └── ✓ 'order.*' → exchange 'audit'  (* matches 'eu')\n    \
                 └── ✓ '' → queue 'log'  (a fanout takes all)\n\
             reaches 2 queues: 'all', 'log'\n",
        );
    }

    #[test]
    fn an_alternate_exchange_hangs_below_the_one_that_has_it() {
        let orders = ExplainedExchange {
            bindings: vec![binding(Binding::to_queue("orders", "us", "us"), false, "'eu' is not 'us'")],
            alternate_exchange: Some("rest".to_owned()),
            alternate_note: "used: nothing matched".to_owned(),
            ..exchange("orders", "direct", None)
        };
        let rest = ExplainedExchange { as_alternate: true, ..exchange("rest", "fanout", Some("orders")) };
        check(
            vec![orders, rest],
            &[],
            "eu",
            "'eu' to exchange 'orders' (direct)\n\
             ├── ✗ 'us' → queue 'us'  ('eu' is not 'us')\n\
             └── alternate exchange 'rest'  (used: nothing matched)\n\
             reaches no queue: the message would be lost, or returned if mandatory\n",
        );
    }

    #[test]
    fn exchanges_in_a_circle_are_drawn_once() {
        let circle = |name: &str, other: &str, from: Option<&str>| ExplainedExchange {
            bindings: vec![binding(Binding::to_exchange(name, other, ""), true, "a fanout takes all")],
            ..exchange(name, "fanout", from)
        };
        check(
            vec![circle("a", "b", None), circle("b", "a", Some("a"))],
            &[],
            "",
            "'' to exchange 'a' (fanout)\n\
             └── ✓ '' → exchange 'b'  (a fanout takes all)\n    \
                 └── ✓ '' → exchange 'a'  (a fanout takes all)\n        \
                     └── (drawn elsewhere: each exchange is visited once)\n\
             reaches no queue: the message would be lost, or returned if mandatory\n",
        );
    }
}
