//! `leveret subscribe`: messages of an exchange as they come, over a queue that lives as long as the command, or over a
//! durable subscription with a name.

use std::time::Duration;

use clap::{ArgGroup, Args};
use indicatif::ProgressBar;

use super::consume::{self, Taking};
use super::failure::Failure;
use super::field::{self, FIELD_HELP};
use super::output;
use super::retain::Retain;
use super::session::{Link, Session, lasting};
use crate::client::{
    Binding, Channel, Entity, ExchangeKind, Queue, Retention, Subscription, SubscriptionBinding,
};
use crate::model::FieldValue;

/// What was typed after `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP, group(ArgGroup::new("named").args(["exchanges", "durable"]).multiple(true)))]
pub(super) struct Arguments {
    /// The exchange, for as long as the command runs; with --exchange or --durable the name of a durable subscription
    #[arg(value_name = "EXCHANGE|NAME")]
    what: String,
    /// Make a durable subscription called NAME to this exchange, or change the one there is; may be given more than once
    ///
    /// It outlives the command: what comes while nobody is there waits. Its patterns are those of this command from then
    /// on, and what waits in its queue stays.
    #[arg(long = "exchange", id = "exchanges", value_name = "EXCHANGE")]
    exchanges: Vec<String>,
    /// Come back to the durable subscription called NAME, which listens to what it listened to
    #[arg(long)]
    durable: bool,
    /// Key or, for a topic exchange, pattern: `*` is one word, `#` any number of words; may be given more than once
    ///
    /// Without it a topic exchange sends everything. A direct exchange needs it.
    #[arg(long = "key", value_name = "PATTERN")]
    keys: Vec<String>,
    /// For a headers exchange: what to match, and x-match=all|any; may be given more than once
    #[arg(long = "header", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    headers: Vec<(String, FieldValue)>,
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    pub(super) link: Link,
}

/// Where the flags stand that are for durable subscriptions.
const HEADING: &str = "Durable subscriptions";

/// What is said of a durable subscription.
#[derive(Debug, Args)]
struct Named {
    /// Every member has its own queue and gets everything; without it all who take part share one queue
    #[arg(long, requires = "named", help_heading = HEADING)]
    each: bool,
    /// With --each: who this is; comes back to its queue under this name
    #[arg(long, value_name = "NAME", requires = "each", help_heading = HEADING)]
    member: Option<String>,
    /// A queue that nobody comes for goes after so many seconds, and the subscription with its last queue; 0: never
    #[arg(long, value_name = "SECONDS", requires = "named", value_parser = expiry, help_heading = HEADING)]
    expires_after: Option<Duration>,
    /// A note for people and programs; without a value it is taken away; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", requires = "named", value_parser = annotation, help_heading = HEADING)]
    annotate: Vec<(String, String)>,
    #[command(flatten, next_help_heading = HEADING)]
    retain: Retain,
    /// Keep nothing of what consumers are done with, whatever was kept before
    #[arg(long, requires = "named", conflicts_with_all = ["retain_age", "retain_messages", "retain_bytes"], help_heading = HEADING)]
    retain_nothing: bool,
    /// Make or change it, and do not wait for messages
    #[arg(long, requires = "named", help_heading = HEADING)]
    declare_only: bool,
}

fn expiry(typed: &str) -> Result<Duration, String> {
    let seconds = typed.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let is_right = |time: &Duration| time.is_zero() || (EXPIRY_MIN..=EXPIRY_MAX).contains(time);
    seconds.filter(is_right).ok_or_else(|| "expected 0.001 to 315360000 seconds, or 0".to_owned())
}

/// Shortest time that can be said on the wire.
const EXPIRY_MIN: Duration = Duration::from_millis(1);

/// Longest time after which a queue goes: ten years.
const EXPIRY_MAX: Duration = Duration::from_secs(315_360_000);

fn annotation(typed: &str) -> Result<(String, String), String> {
    let pair = typed.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { exchanges, durable, keys, headers, named, taking, link, .. } = arguments;
    let is_named = *durable || !exchanges.is_empty();
    if !is_named && named.retain.retention().is_some() {
        return Err(Failure::usage(
            "what is retained is a durable subscription's: name an --exchange, or --durable",
        ));
    }
    if is_named && exchanges.is_empty() && !(keys.is_empty() && headers.is_empty()) {
        return Err(Failure::usage("--key and --header of a durable subscription need an --exchange"));
    }
    if named.each && named.member.is_none() && !named.declare_only {
        return Err(Failure::usage(
            "with --each somebody joins as --member NAME, or nobody with --declare-only",
        ));
    }
    lasting(link, &ProgressBar::hidden(), async |session| {
        if !is_named {
            let queue = queue_of(arguments, &session.channel).await?;
            return consume::take(taking, link, session, &queue).await;
        }
        let subscribed = session.channel.declare_subscription(wanted(arguments, &session).await?).await?;
        match subscribed.queue {
            Some(queue) if !named.declare_only => consume::take(taking, link, session, &queue).await,
            queue => {
                session.close().await?;
                output::line(&told(&arguments.what, queue.as_deref(), subscribed.messages))
            }
        }
    })
}

fn told(name: &str, queue: Option<&str>, messages: u64) -> String {
    match queue {
        Some(queue) => format!("subscription '{name}': queue '{queue}', messages that wait: {messages}"),
        None => format!("subscription '{name}': nobody has joined"),
    }
}

/// The durable subscription that was asked for.
async fn wanted(arguments: &Arguments, session: &Session) -> Result<Subscription, Failure> {
    let Arguments { what, exchanges, headers, named, .. } = arguments;
    let mut subscription = Subscription::new(what);
    for exchange in exchanges {
        for routing_key in keys_of(arguments, exchange, &session.channel).await? {
            let (exchange, arguments) = (exchange.clone(), field::table(headers)?);
            subscription = subscription.listen_for(SubscriptionBinding { exchange, routing_key, arguments });
        }
    }
    if named.each {
        subscription = subscription.each();
    }
    if let Some(member) = &named.member {
        subscription = subscription.member(member);
    }
    if let Some(time) = named.expires_after {
        subscription = subscription.expires_after(time);
    }
    let retention = named.retain.retention().or(named.retain_nothing.then(Retention::default));
    if let Some(retention) = retention {
        subscription = subscription.retain(retention);
    }
    for (key, value) in &named.annotate {
        subscription = subscription.annotate(key, value);
    }
    Ok(subscription)
}

/// A queue for this connection alone, bound with every key.
async fn queue_of(arguments: &Arguments, channel: &Channel) -> Result<String, Failure> {
    let Arguments { what: exchange, headers, .. } = arguments;
    let keys = keys_of(arguments, exchange, channel).await?;
    let queue = channel.declare_queue(Queue::private()).await?.name;
    for key in keys {
        let binding = Binding::to_queue(exchange, &queue, key);
        channel.bind(Binding { arguments: field::table(headers)?, ..binding }).await?;
    }
    Ok(queue)
}

/// The keys that were asked for, or that mean everything.
async fn keys_of(arguments: &Arguments, exchange: &str, channel: &Channel) -> Result<Vec<String>, Failure> {
    let exchanges = channel.list_exchanges().await?;
    let Some(entry) = exchanges.iter().find(|entry| entry.name == exchange && !exchange.is_empty()) else {
        return Err(no_exchange(exchange, channel).await);
    };
    let is = |kind: ExchangeKind| entry.kind == kind.as_str();
    match arguments.keys.as_slice() {
        [] if is(ExchangeKind::Topic) => Ok(vec!["#".to_owned()]),
        [] if is(ExchangeKind::ConsistentHash) => Ok(vec!["1".to_owned()]),
        [] if is(ExchangeKind::Direct) => {
            Err(Failure::usage(format!("exchange '{exchange}' is direct: it needs a --key to lead here")))
        }
        [] => Ok(vec![String::new()]),
        keys => Ok(keys.to_vec()),
    }
}

async fn no_exchange(name: &str, channel: &Channel) -> Failure {
    let failure = Failure::new(format!("there is no exchange '{name}' that could be subscribed to"))
        .for_lack_of(Entity::Exchange, name);
    let is_subscription = channel.find_subscription(name).await.is_ok_and(|found| !found.is_empty());
    if is_subscription {
        return failure.hint("there is a durable subscription of this name: --durable comes back to it");
    }
    failure.hint("`leveret list exchanges` shows what there is")
}
