//! What a client sees, and the words for it.

use std::collections::BTreeMap;

use super::scenario::Side;

/// What a step showed.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It was done.
    Done,
    /// An answer about a queue.
    Queue { name: String, ready: u64, consumers: u64 },
    /// A number of messages.
    Messages(u64),
    /// What became of published messages, in their order.
    Fates(Vec<Fate>),
    /// Messages that came.
    Received(Vec<Received>),
    /// Nothing came, and nothing will.
    Nothing,
    /// The broker ended the consumer.
    Ended,
    /// The client library has no way to ask for this.
    CannotBeSaid,
}

/// What a publisher learnt of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Confirmed,
    /// It came back with this code, and was confirmed after that.
    ReturnedThenConfirmed(u16),
    /// A negative confirm.
    Refused,
}

/// A message that came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) body: String,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) key: String,
    /// Each header with its value in words.
    pub(crate) headers: BTreeMap<String, String>,
    /// Each property that is set but for the headers.
    pub(crate) properties: BTreeMap<String, String>,
    /// Ready messages left, of an answer to get.
    pub(crate) left: Option<u64>,
}

/// What was refused, and what went with it.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused {
        code: u16,
        closed: Closed,
    },
    /// What must not be: a library that failed, an answer that did not come.
    Broken(String),
}

/// What an error closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Nothing,
    Channel,
    Connection,
}

/// Codes that end the connection in AMQP 0-9-1; all others end the channel.
const HARD: [u16; 11] = [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541];

impl Closed {
    fn told(self) -> &'static str {
        match self {
            Self::Nothing => "closes nothing",
            Self::Channel => "closes the channel",
            Self::Connection => "closes the connection",
        }
    }
}

/// The words for what a step showed.
pub(crate) fn told(side: Side, seen: &Result<Seen, Fault>, show: &[String]) -> String {
    match seen {
        Ok(Seen::Done) => "ok".to_owned(),
        Ok(Seen::Queue { name, ready, consumers }) => queue_told(name, *ready, *consumers, show),
        Ok(Seen::Messages(1)) => "1 message".to_owned(),
        Ok(Seen::Messages(count)) => format!("{count} messages"),
        Ok(Seen::Fates(fates)) => fates_told(fates),
        Ok(Seen::Received(received)) => {
            received.iter().map(|one| received_told(one, show)).collect::<Vec<_>>().join(" | ")
        }
        Ok(Seen::Nothing) => "nothing".to_owned(),
        Ok(Seen::Ended) => "ended".to_owned(),
        Ok(Seen::CannotBeSaid) => "no way to say this".to_owned(),
        Err(Fault::Refused { code, closed }) => {
            let usual = match side {
                Side::Leveret => Closed::Nothing,
                Side::RabbitMq if HARD.contains(code) => Closed::Connection,
                Side::RabbitMq => Closed::Channel,
            };
            if *closed == usual && !show.iter().any(|what| what == "closes") {
                code.to_string()
            } else {
                format!("{code}, {}", closed.told())
            }
        }
        Err(Fault::Broken(problem)) => format!("broken: {problem}"),
    }
}

fn queue_told(name: &str, ready: u64, consumers: u64, show: &[String]) -> String {
    let mut parts = Vec::new();
    for what in show {
        match what.as_str() {
            "name" if name.starts_with("amq.gen-") => parts.push("amq.gen-…".to_owned()),
            "name" => parts.push(without_token(name)),
            "ready" => parts.push(format!("{ready} ready")),
            "consumers" if consumers == 1 => parts.push("1 consumer".to_owned()),
            "consumers" => parts.push(format!("{consumers} consumers")),
            other => panic!("an answer about a queue shows no '{other}'"),
        }
    }
    if parts.is_empty() { "ok".to_owned() } else { parts.join(", ") }
}

/// An address for replies without what is other each time.
fn without_token(name: &str) -> String {
    const PREFIX: &str = "amq.rabbitmq.reply-to.";
    if name.starts_with(PREFIX) { format!("{PREFIX}…") } else { name.to_owned() }
}

/// One word if all had the same fate.
fn fates_told(fates: &[Fate]) -> String {
    let mut told: Vec<String> = fates
        .iter()
        .map(|fate| match fate {
            Fate::Confirmed => "ok".to_owned(),
            Fate::ReturnedThenConfirmed(code) => format!("returned {code}, then confirmed"),
            Fate::Refused => "refused".to_owned(),
        })
        .collect();
    told.dedup();
    told.join(" | ")
}

fn received_told(received: &Received, show: &[String]) -> String {
    let mut told = received.body.clone();
    if received.redelivered {
        told.push_str(" (redelivered)");
    }
    for what in show {
        match what.as_str() {
            "exchange" => told.push_str(&format!(", exchange '{}'", received.exchange)),
            "key" => told.push_str(&format!(", key '{}'", without_token(&received.key))),
            "headers" => told.push_str(&format!(", headers {}", table_told(&received.headers))),
            "properties" => told.push_str(&format!(", properties {}", table_told(&received.properties))),
            "left" => told.push_str(&match received.left {
                Some(left) => format!(", {left} left"),
                None => ", it does not say how many are left".to_owned(),
            }),
            other => panic!("a message shows no '{other}'"),
        }
    }
    told
}

fn table_told(table: &BTreeMap<String, String>) -> String {
    let fields: Vec<String> =
        table.iter().map(|(name, value)| format!("{name}={}", without_token(value))).collect();
    format!("{{{}}}", fields.join(", "))
}
