//! `leveret declare`: make an exchange or a queue.

use clap::{ArgAction, Args, Subcommand};
use serde_json::json;

use super::did_you_mean;
use super::failure::Failure;
use super::field::{self, FIELD_HELP};
use super::limits::Limits;
use super::number;
use super::output;
use super::retain::Retain;
use super::schema::{self, SchemaFile};
use super::session::{Target, note, once};
use crate::client::{Exchange, Queue};
use crate::model::{
    ALLOWED_KEYS, FieldValue, HASH_HEADER, HASH_PROPERTY, QUARANTINE_QUEUE, RECENT_HISTORY_LENGTH, SCHEMAS,
};

/// What was typed after `declare`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an exchange, or check that the one there is equal
    #[command(after_help = FIELD_HELP)]
    Exchange(ExchangeArguments),
    /// Make a queue, or check that the one there is equal
    #[command(after_help = FIELD_HELP)]
    Queue(QueueArguments),
}

/// Types of exchanges.
const EXCHANGE_KINDS: [&str; 8] = [
    "direct",
    "fanout",
    "topic",
    "headers",
    "x-consistent-hash",
    "x-modulus-hash",
    "x-random",
    "x-recent-history",
];

#[derive(Debug, Args)]
struct ExchangeArguments {
    /// Its name
    name: String,
    /// How it routes: direct, fanout, topic or headers; to one of its bindings: x-consistent-hash, x-modulus-hash or x-random;
    /// or to all, and the newest to what is bound later: x-recent-history
    #[arg(long = "type", value_name = "TYPE", value_parser = EXCHANGE_KINDS)]
    kind: String,
    /// Whether it survives a restart of the broker
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    durable: bool,
    /// It goes when its last binding goes
    #[arg(long)]
    auto_delete: bool,
    /// It takes messages from other exchanges only
    #[arg(long)]
    internal: bool,
    /// Of type x-consistent-hash: the header that is hashed, instead of the routing key
    #[arg(long, value_name = "NAME", conflicts_with = "hash_property")]
    hash_header: Option<String>,
    /// Of type x-consistent-hash: the property that is hashed, instead of the routing key
    #[arg(long, value_name = "PROPERTY", value_parser = ["message_id", "correlation_id", "timestamp"])]
    hash_property: Option<String>,
    /// Of type x-recent-history: how many messages it keeps for what is bound later (20 if not given)
    #[arg(long, value_name = "N", value_parser = number::whole::<u32>(1, 10_000))]
    history_length: Option<u32>,
    /// Where messages go that no binding matches
    #[arg(long, value_name = "EXCHANGE")]
    alternate_exchange: Option<String>,
    /// Pattern of keys that may be published to it, all others are refused; may be given more than once
    #[arg(long = "allow", value_name = "PATTERN")]
    allowed: Vec<String>,
    /// What messages under keys of a pattern have to fit: a file with a JSON Schema, or with a descriptor of protobuf and the
    /// message in it; may be given more than once, the first that matches holds
    #[arg(long = "schema", value_name = "PATTERN=FILE[:MESSAGE]", value_parser = schema::parse)]
    schemas: Vec<SchemaFile>,
    /// Queue that keeps what is refused for its key or its body, with the reason in the headers
    #[arg(long = "quarantine", value_name = "QUEUE")]
    quarantine: Option<String>,
    /// Further argument; may be given more than once
    #[arg(long = "argument", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    arguments: Vec<(String, FieldValue)>,
}

#[derive(Debug, Args)]
struct QueueArguments {
    /// Its name; "" lets the broker make one
    name: String,
    /// It is gone after a restart of the broker, with its messages
    #[arg(long)]
    transient: bool,
    /// For this connection alone: it is gone when this command ends
    #[arg(long)]
    exclusive: bool,
    /// It goes when its last consumer goes
    #[arg(long)]
    auto_delete: bool,
    /// One of its consumers gets messages, and the others wait for it to go
    #[arg(long)]
    single_active_consumer: bool,
    /// Messages of a higher priority go out first, up to N
    #[arg(long, value_name = "N", value_parser = number::whole::<u8>(0, 255))]
    max_priority: Option<u8>,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    retain: Retain,
    /// Further argument; may be given more than once
    #[arg(long = "argument", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    arguments: Vec<(String, FieldValue)>,
    /// Print name, messages and consumers as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Exchange(exchange) => declare_exchange(&arguments.target, exchange),
        What::Queue(queue) => declare_queue(&arguments.target, &queue),
    }
}

fn declare_exchange(target: &Target, typed: ExchangeArguments) -> Result<(), Failure> {
    let mut arguments = field::table(&typed.arguments)?;
    if let Some(alternate) = typed.alternate_exchange {
        arguments.0.insert("alternate-exchange".to_owned(), FieldValue::Text(alternate));
    }
    for (flag, name, value) in [
        ("--hash-header", HASH_HEADER, typed.hash_header),
        ("--hash-property", HASH_PROPERTY, typed.hash_property),
    ] {
        if let Some(value) = value
            && arguments.0.insert(name.to_owned(), FieldValue::Text(value)).is_some()
        {
            return Err(Failure::usage(format!("{flag} and --argument {name}: which one counts?")));
        }
    }
    if let Some(length) = typed.history_length
        && arguments.0.insert(RECENT_HISTORY_LENGTH.to_owned(), FieldValue::Integer(length.into())).is_some()
    {
        return Err(Failure::usage(format!(
            "--history-length and --argument {RECENT_HISTORY_LENGTH}: which one counts?"
        )));
    }
    if !typed.allowed.is_empty() {
        let patterns = FieldValue::List(typed.allowed.into_iter().map(FieldValue::Text).collect());
        if arguments.0.insert(ALLOWED_KEYS.to_owned(), patterns).is_some() {
            return Err(Failure::usage(format!("--allow and --argument {ALLOWED_KEYS}: which one counts?")));
        }
    }
    if !typed.schemas.is_empty() && arguments.value(SCHEMAS).is_some() {
        return Err(Failure::usage(format!("--schema and --argument {SCHEMAS}: which one counts?")));
    }
    if let Some(queue) = typed.quarantine
        && arguments.0.insert(QUARANTINE_QUEUE.to_owned(), FieldValue::Text(queue)).is_some()
    {
        return Err(Failure::usage(format!(
            "--quarantine and --argument {QUARANTINE_QUEUE}: which one counts?"
        )));
    }
    did_you_mean::check_arguments(&arguments)?;
    let mut exchange = Exchange {
        name: typed.name,
        kind: typed.kind,
        durable: typed.durable,
        auto_delete: typed.auto_delete,
        internal: typed.internal,
        arguments,
    };
    for file in &typed.schemas {
        exchange = exchange.schema(&file.pattern, file.read()?);
    }
    let told = format!("exchange '{}' is there ({})", exchange.name, exchange.kind);
    once(target, async |channel| Ok(channel.declare_exchange(exchange).await?))?;
    output::line(&told)
}

fn declare_queue(target: &Target, typed: &QueueArguments) -> Result<(), Failure> {
    let arguments = field::table(&typed.arguments)?;
    did_you_mean::check_arguments(&arguments)?;
    let queue = Queue {
        name: typed.name.clone(),
        durable: !typed.transient,
        exclusive: typed.exclusive,
        auto_delete: typed.auto_delete,
        arguments,
    };
    let queue = match typed.retain.retention() {
        Some(retention) => queue.retain(retention),
        None => queue,
    };
    let queue = typed.limits.put_on(queue);
    let queue = if typed.single_active_consumer { queue.single_active_consumer() } else { queue };
    let queue = match typed.max_priority {
        Some(highest) => queue.max_priority(highest),
        None => queue,
    };
    let declared = once(target, async |channel| Ok(channel.declare_queue(queue).await?))?;
    if typed.json {
        output::json_line(&json!({
            "name": declared.name,
            "messages_ready": declared.messages,
            "consumers": declared.consumers,
        }))?;
    } else {
        output::line(&format!(
            "queue '{}' is there (ready messages: {}, consumers: {})",
            declared.name, declared.messages, declared.consumers
        ))?;
    }
    if typed.exclusive {
        note("the queue was exclusive to this command's connection, so it is gone again now");
    }
    Ok(())
}
