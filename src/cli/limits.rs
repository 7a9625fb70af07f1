//! Flags for what may wait in a queue, how long, and where it goes then.

use std::time::Duration;

use clap::Args;

use super::clock::ago;
use super::number;
use crate::client::{Overflow, Queue};

/// Largest number that an argument of a queue can be.
const BOUND_MAX: u64 = i64::MAX as u64;

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct Limits {
    /// Messages that waited for so long are not delivered any more: seconds, or a number with ms, s, m, h or d; 0: what no
    /// consumer takes at once goes
    #[arg(long, value_name = "TIME", value_parser = ago)]
    message_ttl: Option<Duration>,
    /// So many messages wait in it at most; the oldest make room, unless --overflow says otherwise
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(0, BOUND_MAX))]
    max_length: Option<u64>,
    /// So many bytes of messages wait in it at most; likewise
    #[arg(long, value_name = "BYTES", value_parser = number::whole::<u64>(0, BOUND_MAX))]
    max_length_bytes: Option<u64>,
    /// When it is full by these: drop-head (the oldest make room), reject-publish (what comes is refused) or reject-publish-dlx (the
    /// same, and it goes where dead letters go)
    #[arg(long, value_name = "WAY", value_parser = overflow)]
    overflow: Option<Overflow>,
    /// What came back more often than N times leaves
    #[arg(long, value_name = "N", value_parser = number::whole::<u32>(0, u64::from(u32::MAX)))]
    delivery_limit: Option<u32>,
    /// Who has a message for so long without settling it, or asking for more time, loses it: seconds, or a number with ms, s, m, h or
    /// d; a second at least
    #[arg(long, value_name = "TIME", value_parser = ago)]
    consumer_timeout: Option<Duration>,
    /// Without a consumer for so long it goes, with its messages: seconds, or a number with ms, s, m, h or d
    #[arg(long, value_name = "TIME", value_parser = ago)]
    expires: Option<Duration>,
    /// What is rejected, expires or has no room goes to this exchange; "": the default exchange
    #[arg(long, value_name = "EXCHANGE")]
    dead_letter_exchange: Option<String>,
    /// With this routing key in place of its own
    #[arg(long, value_name = "KEY", requires = "dead_letter_exchange")]
    dead_letter_key: Option<String>,
}

impl Limits {
    /// The queue with these bounds.
    pub(super) fn put_on(&self, mut queue: Queue) -> Queue {
        if let Some(time) = self.message_ttl {
            queue = queue.message_ttl(time);
        }
        if let Some(time) = self.expires {
            queue = queue.expires(time);
        }
        if let Some(messages) = self.max_length {
            queue = queue.max_length(messages);
        }
        if let Some(bytes) = self.max_length_bytes {
            queue = queue.max_length_bytes(bytes);
        }
        if let Some(overflow) = self.overflow {
            queue = queue.overflow(overflow);
        }
        if let Some(returns) = self.delivery_limit {
            queue = queue.delivery_limit(returns);
        }
        if let Some(time) = self.consumer_timeout {
            queue = queue.consumer_timeout(time);
        }
        if let Some(exchange) = &self.dead_letter_exchange {
            queue = queue.dead_letter_exchange(exchange);
        }
        if let Some(key) = &self.dead_letter_key {
            queue = queue.dead_letter_routing_key(key);
        }
        queue
    }
}

fn overflow(name: &str) -> Result<Overflow, String> {
    let names = Overflow::ALL.map(Overflow::as_str).join(", ");
    Overflow::of_name(name).ok_or_else(|| format!("it is one of: {names}"))
}
