//! `leveret subscribe`: messages of an exchange as they come, over a queue that lives as long as the command.

use clap::Args;
use indicatif::ProgressBar;

use super::consume::{self, Taking};
use super::failure::Failure;
use super::field::{self, FIELD_HELP};
use super::session::{Link, lasting};
use crate::client::{Binding, Channel, Entity, ExchangeKind, Queue};
use crate::model::FieldValue;

/// What was typed after `subscribe`.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP)]
pub(super) struct Arguments {
    /// The exchange
    exchange: String,
    /// Key or, for a topic exchange, pattern: `*` is one word, `#` any number of words; may be given more than once
    ///
    /// Without it a topic exchange sends everything. A direct exchange needs it.
    #[arg(long = "key", value_name = "PATTERN")]
    keys: Vec<String>,
    /// For a headers exchange: what to match, and x-match=all|any; may be given more than once
    #[arg(long = "header", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    headers: Vec<(String, FieldValue)>,
    #[command(flatten)]
    taking: Taking,
    #[command(flatten)]
    pub(super) link: Link,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { taking, link, .. } = arguments;
    lasting(link, &ProgressBar::hidden(), async |session| {
        let queue = queue_of(arguments, &session.channel).await?;
        consume::take(taking, link, session, &queue).await
    })
}

/// A queue for this connection alone, bound with every key.
async fn queue_of(arguments: &Arguments, channel: &Channel) -> Result<String, Failure> {
    let Arguments { exchange, headers, .. } = arguments;
    let keys = keys_of(arguments, channel).await?;
    let queue = channel.declare_queue(Queue::private()).await?.name;
    for key in keys {
        let binding = Binding::to_queue(exchange, &queue, key);
        channel.bind(Binding { arguments: field::table(headers)?, ..binding }).await?;
    }
    Ok(queue)
}

/// The keys that were asked for, or that mean everything.
async fn keys_of(arguments: &Arguments, channel: &Channel) -> Result<Vec<String>, Failure> {
    let Arguments { exchange, keys, .. } = arguments;
    let exchanges = channel.list_exchanges().await?;
    let Some(entry) = exchanges.iter().find(|entry| entry.name == *exchange && !exchange.is_empty()) else {
        return Err(Failure::new(format!("there is no exchange '{exchange}' that could be subscribed to"))
            .for_lack_of(Entity::Exchange, exchange)
            .hint("`leveret list exchanges` shows what there is"));
    };
    let is = |kind: ExchangeKind| entry.kind == kind.as_str();
    match keys.as_slice() {
        [] if is(ExchangeKind::Topic) => Ok(vec!["#".to_owned()]),
        [] if is(ExchangeKind::Direct) => {
            Err(Failure::usage(format!("exchange '{exchange}' is direct: it needs a --key to lead here")))
        }
        [] => Ok(vec![String::new()]),
        keys => Ok(keys.to_vec()),
    }
}
