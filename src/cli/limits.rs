//! Flags for what may wait in a queue, how long, and where it goes then.

use std::time::Duration;

use clap::Args;

use super::clock::ago;
use super::number;
use crate::client::{Overflow, Queue, Retry, RetryOn};

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
    /// What came back is held back for so long before it goes out once more: seconds, or a number with ms, s, m, h or d; the second
    /// time twice as long, and so on, unless --retry-multiplier says otherwise
    #[arg(long, value_name = "TIME", value_parser = ago)]
    retry: Option<Duration>,
    /// For so long at most, however often it came back
    #[arg(long, value_name = "TIME", value_parser = ago, requires = "retry")]
    retry_max: Option<Duration>,
    /// So many times as long as the time before: 1 the same each time, 2 twice as long
    #[arg(long, value_name = "N", value_parser = number::whole::<u32>(1, u64::from(u32::MAX)), requires = "retry")]
    retry_multiplier: Option<u32>,
    /// Shorter by up to so many percent, by chance
    #[arg(long, value_name = "PERCENT", value_parser = number::whole::<u8>(0, 100), requires = "retry")]
    retry_jitter: Option<u8>,
    /// Only what a consumer gave back (failed), or what came back because its consumer went (returned)
    #[arg(long, value_name = "WHICH", value_parser = retry_on, requires = "retry")]
    retry_on: Option<RetryOn>,
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
        if let Some(retry) = self.retry() {
            queue = queue.retry(retry);
        }
        if let Some(exchange) = &self.dead_letter_exchange {
            queue = queue.dead_letter_exchange(exchange);
        }
        if let Some(key) = &self.dead_letter_key {
            queue = queue.dead_letter_routing_key(key);
        }
        queue
    }

    fn retry(&self) -> Option<Retry> {
        let mut retry = Retry::after(self.retry?);
        if let Some(most) = self.retry_max {
            retry = retry.at_most(most);
        }
        if let Some(multiplier) = self.retry_multiplier {
            retry = retry.times(multiplier);
        }
        if let Some(percent) = self.retry_jitter {
            retry = retry.jitter_percent(percent);
        }
        if let Some(on) = self.retry_on {
            retry = retry.on(on);
        }
        Some(retry)
    }
}

fn retry_on(name: &str) -> Result<RetryOn, String> {
    let names = RetryOn::ALL.map(RetryOn::as_str).join(", ");
    RetryOn::of_name(name).ok_or_else(|| format!("it is one of: {names}"))
}

fn overflow(name: &str) -> Result<Overflow, String> {
    let names = Overflow::ALL.map(Overflow::as_str).join(", ");
    Overflow::of_name(name).ok_or_else(|| format!("it is one of: {names}"))
}
