//! Flags for what a queue retains.

use std::time::Duration;

use clap::Args;

use super::clock::ago;
use super::number;
use crate::client::Retention;

/// Largest number that an argument of a queue can be.
const BOUND_MAX: u64 = i64::MAX as u64;

/// What was said of it.
#[derive(Debug, Args)]
pub(super) struct Retain {
    /// Keep messages that consumers are done with for so long after they came, to be replayed: seconds, or a number with s, m, h
    /// or d
    #[arg(long, value_name = "TIME", value_parser = age)]
    retain_age: Option<Duration>,
    /// Keep so many messages that consumers are done with, the newest
    #[arg(long, value_name = "N", value_parser = number::whole::<u64>(1, BOUND_MAX))]
    retain_messages: Option<u64>,
    /// Keep so many bytes of messages that consumers are done with, the newest
    #[arg(long, value_name = "BYTES", value_parser = number::whole::<u64>(1, BOUND_MAX))]
    retain_bytes: Option<u64>,
}

fn age(typed: &str) -> Result<Duration, String> {
    let is_bound = |time: &Duration| !time.is_zero() && time.as_millis() <= u128::from(BOUND_MAX);
    ago(typed).and_then(|time| {
        Some(time)
            .filter(is_bound)
            .ok_or_else(|| "expected one second or more, and no more than AMQP can say".to_owned())
    })
}

impl Retain {
    /// What is to be retained; `None` if nothing was said.
    pub(super) fn retention(&self) -> Option<Retention> {
        let retention =
            Retention { age: self.retain_age, messages: self.retain_messages, bytes: self.retain_bytes };
        (!retention.is_nothing()).then_some(retention)
    }
}
