//! When printed messages are accepted.

use std::collections::VecDeque;

use super::Taking;
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::client::{Consumer, Delivery, SettleError};

/// When messages are accepted.
///
/// With a count the broker must not send more than that many: what is sent in excess goes back, but is marked as
/// redelivered. It sends up to the prefetch more than what was accepted, so the last messages are held, and accepted
/// when the consumer has been cancelled.
pub(super) struct Settling {
    /// The broker takes messages as accepted when it sends them.
    by_broker: bool,
    prefetch: u32,
    priority: i32,
    /// Messages that may be accepted before the end; `None`: all.
    free: Option<u64>,
    /// Written, and not accepted yet.
    held: VecDeque<Delivery>,
}

impl Settling {
    pub(super) fn of(arguments: &Taking) -> Self {
        let prefetch = match (arguments.prefetch.unwrap_or(PREFETCH), arguments.count) {
            (prefetch, None) => prefetch,
            (0, Some(count)) => u32::try_from(count).unwrap_or(u32::MAX).min(PREFETCH_MAX),
            (prefetch, Some(count)) => u32::try_from(count).unwrap_or(u32::MAX).min(prefetch),
        };
        let free = arguments.count.map(|count| count.saturating_sub(u64::from(prefetch)));
        Self {
            by_broker: arguments.no_ack && arguments.count.is_none(),
            prefetch,
            priority: arguments.priority,
            free,
            held: VecDeque::new(),
        }
    }

    pub(super) async fn consumer(
        &self,
        session: &Session,
        queue: &str,
        name: Option<&str>,
    ) -> Result<Consumer, Failure> {
        let consumer = session.channel.consume(queue).prefetch(self.prefetch).priority(self.priority);
        let consumer = consumer.tag(name.unwrap_or_default());
        let consumer = if self.by_broker { consumer.no_ack() } else { consumer };
        Ok(consumer.start().await?)
    }

    pub(super) fn written(&mut self, deliveries: Vec<Delivery>) -> Result<(), Failure> {
        if self.by_broker {
            return Ok(());
        }
        self.held.extend(deliveries);
        let free = self.free.map_or(usize::MAX, |free| usize::try_from(free).unwrap_or(usize::MAX));
        self.accept(free)
    }

    fn accept(&mut self, at_most: usize) -> Result<(), Failure> {
        let accepted = at_most.min(self.held.len());
        for delivery in self.held.drain(..accepted) {
            tolerate_stale(delivery.accept())?;
        }
        if let Some(free) = &mut self.free {
            *free = free.saturating_sub(accepted as u64);
        }
        Ok(())
    }

    /// Accepts all that is held, and waits until the broker has stored that.
    pub(super) async fn accept_stored(mut self) -> Result<(), Failure> {
        let last = self.held.pop_back();
        self.accept(usize::MAX)?;
        match last {
            Some(last) => tolerate_stale(last.accept_stored().await),
            None => Ok(()),
        }
    }
}

/// Messages that may be under way unless something else was asked for.
const PREFETCH: u32 = 250;

/// Prefetch where a count was given and no limit.
const PREFETCH_MAX: u32 = 65_535;

/// A delivery over a connection that broke is back in its queue and comes again: that is told when the connection
/// breaks, and there is nothing to settle.
pub(super) fn tolerate_stale(result: Result<(), SettleError>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(SettleError::Stale) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
