//! Properties of messages as they are typed and as they are shown.

use std::time::Duration;

use clap::Args;

use super::clock;
use super::failure::Failure;
use super::field;
use super::number;
use super::terminal::printable;
use crate::client::Properties;
use crate::model::{FieldValue, NAME_BYTES_MAX};

/// What was typed about the properties of every message.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Properties")]
pub(super) struct Typed {
    /// Header of every message; may be given more than once
    #[arg(long = "header", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    headers: Vec<(String, FieldValue)>,
    /// Identity of the message
    #[arg(long, value_name = "ID", value_parser = text, conflicts_with = "lines")]
    message_id: Option<String>,
    /// What ties an answer to its question
    #[arg(long, value_name = "ID", value_parser = text)]
    correlation_id: Option<String>,
    /// Queue that an answer should go to
    #[arg(long, value_name = "QUEUE", value_parser = text)]
    reply_to: Option<String>,
    /// MIME type of the body, for instance application/json
    #[arg(long, value_name = "TYPE", value_parser = text)]
    content_type: Option<String>,
    /// MIME encoding of the body, for instance gzip
    #[arg(long, value_name = "ENCODING", value_parser = text)]
    content_encoding: Option<String>,
    /// Kind of message
    #[arg(long = "type", value_name = "TYPE", value_parser = text)]
    kind: Option<String>,
    /// Name of the publishing application
    #[arg(long, value_name = "NAME", value_parser = text)]
    app_id: Option<String>,
    /// Name of the publishing user
    #[arg(long, value_name = "NAME", value_parser = text)]
    user_id: Option<String>,
    /// 0 to 255; higher goes first in queues that have priorities
    #[arg(long, value_name = "N", value_parser = number::whole::<u8>(0, 255))]
    priority: Option<u8>,
    /// Seconds after which the message leaves a queue in which it still waits
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds)]
    expiration: Option<u64>,
    /// Seconds for which queues hold the message back
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = seconds, conflicts_with = "deliver_at")]
    delay: Option<u64>,
    /// Until when queues hold the message back: seconds since 1970
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = deliver_at)]
    deliver_at: Option<u64>,
    /// When the message came to be: seconds since 1970, or "now"
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = timestamp)]
    timestamp: Option<Stamp>,
}

/// What stands for the time of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    Now,
    /// Milliseconds since 1970.
    At(u64),
}

fn text(typed: &str) -> Result<String, String> {
    match typed.len() {
        1..=NAME_BYTES_MAX => Ok(typed.to_owned()),
        bytes => Err(format!("expected 1 to {NAME_BYTES_MAX} bytes, got {bytes}")),
    }
}

fn milliseconds(typed: &str) -> Option<u64> {
    let time = Duration::try_from_secs_f64(typed.parse().ok()?).ok()?;
    u64::try_from(time.as_millis()).ok()
}

pub(super) fn seconds(typed: &str) -> Result<u64, String> {
    milliseconds(typed).ok_or_else(|| "expected a number of seconds".to_owned())
}

pub(super) fn deliver_at(typed: &str) -> Result<u64, String> {
    milliseconds(typed).ok_or_else(|| "expected seconds since 1970".to_owned())
}

fn timestamp(typed: &str) -> Result<Stamp, String> {
    if typed == "now" {
        return Ok(Stamp::Now);
    }
    milliseconds(typed).map(Stamp::At).ok_or_else(|| "expected \"now\", or seconds since 1970".to_owned())
}

/// Properties that messages get.
#[derive(Debug, Clone, Default)]
pub(super) struct Template {
    fixed: Properties,
    stamped: bool,
}

impl Typed {
    /// Whether an id was given.
    pub(super) fn has_message_id(&self) -> bool {
        self.message_id.as_ref().is_some_and(|id| !id.is_empty())
    }

    /// What is the same for all messages, and what is not.
    pub(super) fn template(&self) -> Result<Template, Failure> {
        let text = |typed: &Option<String>| typed.clone().unwrap_or_default();
        let fixed = Properties {
            content_type: text(&self.content_type),
            content_encoding: text(&self.content_encoding),
            headers: field::table(&self.headers)?,
            priority: self.priority.unwrap_or(0),
            correlation_id: text(&self.correlation_id),
            reply_to: text(&self.reply_to),
            expiration_ms: self.expiration,
            message_id: text(&self.message_id),
            timestamp_ms: match self.timestamp {
                Some(Stamp::At(at)) => Some(at),
                Some(Stamp::Now) | None => None,
            },
            kind: text(&self.kind),
            user_id: text(&self.user_id),
            app_id: text(&self.app_id),
            delivery_mode: 0,
            delay_ms: self.delay,
            deliver_at_ms: self.deliver_at,
        };
        Ok(Template { fixed, stamped: self.timestamp == Some(Stamp::Now) })
    }
}

impl Template {
    /// The properties of a message that comes to be now; `None` if it has none.
    pub(super) fn properties(&self) -> Option<Properties> {
        if !self.stamped && self.fixed == Properties::default() {
            return None;
        }
        let mut properties = self.fixed.clone();
        if self.stamped {
            properties.timestamp_ms = Some(clock::now_ms());
        }
        Some(properties)
    }
}

/// The properties that are there, for people, without the headers: "message_id m1", and so on.
pub(super) fn in_words(properties: &Properties) -> Vec<String> {
    let texts = [
        ("message_id", &properties.message_id),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("type", &properties.kind),
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("app_id", &properties.app_id),
        ("user_id", &properties.user_id),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    let mut words: Vec<String> = texts.map(|(name, text)| format!("{name} {}", printable(text))).collect();
    if properties.priority > 0 {
        words.push(format!("priority {}", properties.priority));
    }
    if let Some(ms) = properties.expiration_ms {
        words.push(format!("expires after {} s", ms as f64 / 1000.0));
    }
    if let Some(ms) = properties.delay_ms {
        words.push(format!("delayed for {} s", ms as f64 / 1000.0));
    }
    if let Some(ms) = properties.deliver_at_ms {
        words.push(format!("delayed until {}", clock::in_words(ms)));
    }
    if let Some(ms) = properties.timestamp_ms {
        words.push(format!("timestamp {}", clock::in_words(ms)));
    }
    words
}
