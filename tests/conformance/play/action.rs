//! What a client can do in a step: a verb with its object, and what goes with it.

use serde::Deserialize;
use toml::{Table, Value};

/// One thing that a client does or waits for.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    DeclareExchange(DeclareExchange),
    /// A passive declare.
    CheckExchange(String),
    DeleteExchange(DeleteExchange),
    DeclareQueue(DeclareQueue),
    /// A passive declare.
    CheckQueue(String),
    DeleteQueue(DeleteQueue),
    Purge(String),
    Bind(Bind),
    Unbind(Bind),
    Publish(Publish),
    Get(Get),
    Consume(Consume),
    /// A bound for all consumers of the channel.
    LimitPrefetch(u16),
    /// The next deliveries to a consumer.
    Receive {
        consumer: String,
        count: usize,
    },
    /// Nothing (more) has come to a consumer, and nothing is on its way.
    Silent(String),
    /// The broker has ended a consumer.
    Ended(String),
    Cancel(Cancel),
    Settle(Settle),
    /// A tag that was never delivered.
    SettleTag(u64),
    CloseChannel,
    CloseConnection,
    /// Waits until a queue is not there any more.
    Gone(String),
    /// Waits until no message of a queue waits.
    Empty(String),
    Allow(Allow),
    AllowTopic(AllowTopic),
    LimitUser(LimitUser),
    LimitVhost(LimitVhost),
    Policy(Policy),
    DeletePolicy(DeletePolicy),
}

macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name { $($(#[$field_meta])* pub(crate) $field: $kind),* }
    };
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

parameters!(DeclareExchange {
    #[serde(rename = "declare_exchange")]
    name: String,
    kind: String,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Table,
});

parameters!(DeleteExchange {
    #[serde(rename = "delete_exchange")]
    name: String,
    #[serde(default)]
    if_unused: bool,
});

parameters!(DeclareQueue {
    #[serde(rename = "declare_queue")]
    name: String,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    auto_delete: bool,
    /// Where RabbitMQ has other rules for classic queues, or none.
    #[serde(default)]
    quorum: bool,
    #[serde(default)]
    arguments: Table,
});

parameters!(DeleteQueue {
    #[serde(rename = "delete_queue")]
    name: String,
    #[serde(default)]
    if_unused: bool,
    #[serde(default)]
    if_empty: bool,
});

parameters!(
    /// A queue or an exchange is the destination.
    Bind {
        #[serde(default)]
        queue: Option<String>,
        #[serde(default)]
        exchange: Option<String>,
        from: String,
        #[serde(default)]
        key: String,
        #[serde(default)]
        arguments: Table,
    }
);

parameters!(Publish {
    #[serde(rename = "publish", deserialize_with = "one_or_more")]
    bodies: Vec<String>,
    /// The exchange.
    #[serde(default)]
    to: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    mandatory: bool,
    #[serde(default)]
    headers: Table,
    #[serde(default)]
    properties: Table,
});

parameters!(Get {
    #[serde(rename = "get")]
    queue: String,
    #[serde(default)]
    no_ack: bool,
});

parameters!(Consume {
    #[serde(rename = "consume")]
    queue: String,
    /// The consumer's name in this scenario.
    consumer: String,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    prefetch: u16,
    #[serde(default)]
    priority: Option<i32>,
});

parameters!(Cancel {
    #[serde(rename = "cancel")]
    consumer: String,
});

parameters!(
    /// What a user may do, who is made if there is none. Clients of the user's name are the user's.
    Allow {
        #[serde(rename = "allow")]
        user: String,
        configure: String,
        write: String,
        read: String,
    }
);

parameters!(
    /// Which keys of a topic exchange such a user may use.
    AllowTopic {
        #[serde(rename = "allow_topic")]
        user: String,
        exchange: String,
        write: String,
        read: String,
    }
);

parameters!(
    /// How much such a user may have.
    LimitUser {
        #[serde(rename = "limit_user")]
        user: String,
        /// "max-connections" or "max-channels".
        limit: String,
        to: u32,
    }
);

parameters!(
    /// How much the vhost may have, until the scenario ends.
    LimitVhost {
        /// "max-connections" or "max-queues".
        #[serde(rename = "limit_vhost")]
        limit: String,
        to: u32,
    }
);

parameters!(
    /// What holds for queues and exchanges of the vhost whose names match, until the scenario ends.
    Policy {
        #[serde(rename = "policy")]
        name: String,
        #[serde(default)]
        operator: bool,
        pattern: String,
        #[serde(default)]
        priority: i32,
        /// "queues", "exchanges" or "all".
        apply_to: String,
        definition: Table,
    }
);

parameters!(DeletePolicy {
    #[serde(rename = "delete_policy")]
    name: String,
    #[serde(default)]
    operator: bool,
});

/// What becomes of a delivery, which is known by its body.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) body: String,
    pub(crate) outcome: Outcome,
    /// This one and all before it.
    pub(crate) multiple: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ack,
    /// basic.nack.
    Nack {
        requeue: bool,
    },
    /// basic.reject.
    Reject {
        requeue: bool,
    },
}

impl Action {
    /// The action of a step's table, from which the parts that every step has are taken already.
    pub(crate) fn parse(table: Table) -> Result<Self, String> {
        let verbs: Vec<&str> = VERBS.iter().copied().filter(|verb| table.contains_key(*verb)).collect();
        let &[verb] = &verbs[..] else {
            return Err(format!("a step has one verb of {VERBS:?}, and not: {table}"));
        };
        let said = table.to_string();
        Self::of(verb, table).map_err(|problem| format!("{problem} in: {said}"))
    }

    fn of(verb: &str, mut table: Table) -> Result<Self, String> {
        Ok(match verb {
            "declare_exchange" => Self::DeclareExchange(whole(table)?),
            "delete_exchange" => Self::DeleteExchange(whole(table)?),
            "declare_queue" => Self::DeclareQueue(whole(table)?),
            "delete_queue" => Self::DeleteQueue(whole(table)?),
            "publish" => Self::Publish(whole(table)?),
            "get" => Self::Get(whole(table)?),
            "consume" => Self::Consume(whole(table)?),
            "cancel" => Self::Cancel(whole(table)?),
            "allow" => Self::Allow(whole(table)?),
            "allow_topic" => Self::AllowTopic(whole(table)?),
            "limit_user" => Self::LimitUser(whole(table)?),
            "limit_vhost" => Self::LimitVhost(whole(table)?),
            "policy" => Self::Policy(whole(table)?),
            "delete_policy" => Self::DeletePolicy(whole(table)?),
            "bind" | "unbind" | "bind_exchange" | "unbind_exchange" => {
                let destination = table.remove(verb).unwrap_or(Value::Boolean(false));
                let field = if verb.ends_with("exchange") { "exchange" } else { "queue" };
                table.insert(field.to_owned(), destination);
                if verb.starts_with("un") { Self::Unbind(whole(table)?) } else { Self::Bind(whole(table)?) }
            }
            "receive" => {
                let Receive { receive: consumer, count } = whole(table)?;
                Self::Receive { consumer, count }
            }
            "ack" | "nack" | "reject" => {
                let body = text(verb, &mut table)?;
                let Settling { multiple, requeue } = whole(table)?;
                let outcome = match (verb, requeue) {
                    ("ack", None) => Outcome::Ack,
                    ("nack", Some(requeue)) => Outcome::Nack { requeue },
                    ("reject", Some(requeue)) if !multiple => Outcome::Reject { requeue },
                    _ => return Err(format!("nack and reject say requeue, ack does not: {verb}")),
                };
                Self::Settle(Settle { body, outcome, multiple })
            }
            "limit_prefetch" => {
                let Limit { limit_prefetch } = whole(table)?;
                Self::LimitPrefetch(limit_prefetch)
            }
            "ack_tag" => {
                let Tag { ack_tag } = whole(table)?;
                Self::SettleTag(ack_tag)
            }
            _ => {
                let object = text(verb, &mut table)?;
                let Nothing {} = whole(table)?;
                match verb {
                    "check_exchange" => Self::CheckExchange(object),
                    "check_queue" => Self::CheckQueue(object),
                    "purge" => Self::Purge(object),
                    "silent" => Self::Silent(object),
                    "ended" => Self::Ended(object),
                    "gone" => Self::Gone(object),
                    "empty" => Self::Empty(object),
                    "close" if object == "channel" => Self::CloseChannel,
                    "close" if object == "connection" => Self::CloseConnection,
                    other => return Err(format!("{other} = '{object}' is not known")),
                }
            }
        })
    }
}

const VERBS: [&str; 32] = [
    "declare_exchange",
    "check_exchange",
    "delete_exchange",
    "declare_queue",
    "check_queue",
    "delete_queue",
    "purge",
    "bind",
    "bind_exchange",
    "unbind",
    "unbind_exchange",
    "publish",
    "get",
    "consume",
    "limit_prefetch",
    "receive",
    "silent",
    "ended",
    "cancel",
    "ack",
    "nack",
    "reject",
    "ack_tag",
    "close",
    "gone",
    "empty",
    "allow",
    "allow_topic",
    "limit_user",
    "limit_vhost",
    "policy",
    "delete_policy",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Receive {
    receive: String,
    #[serde(default = "one")]
    count: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settling {
    #[serde(default)]
    multiple: bool,
    requeue: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    ack_tag: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    limit_prefetch: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn whole<T: serde::de::DeserializeOwned>(table: Table) -> Result<T, String> {
    Value::Table(table).try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn text(field: &str, table: &mut Table) -> Result<String, String> {
    match table.remove(field) {
        Some(Value::String(text)) => Ok(text),
        other => Err(format!("{field} is a text, not {other:?}")),
    }
}

fn one_or_more<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(from)? {
        OneOrMore::One(body) => vec![body],
        OneOrMore::More(bodies) => bodies,
    })
}
