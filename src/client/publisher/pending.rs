//! Futures for confirms.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{BatchOutcome, Confirmed, PublisherHandle};
use crate::client::error::ConfirmError;

/// A future for the confirm of one message. It keeps the publisher, and so the connection, open.
///
/// # Cancel safety
/// Dropping it is fine: the message is sent all the same, and if it fails [`Publisher::wait_for_all`](super::Publisher::wait_for_all)
/// tells.
#[must_use = "a message is only safe once its confirm has come; `send` is there for those who do not wait"]
pub struct PendingConfirm {
    publisher: Arc<PublisherHandle>,
    sequence: u64,
    is_done: bool,
}

impl PendingConfirm {
    pub(super) fn new(publisher: Arc<PublisherHandle>, sequence: u64) -> Self {
        Self { publisher, sequence, is_done: false }
    }

    /// The message's number within its publisher, counted from 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Future for PendingConfirm {
    type Output = Result<Confirmed, ConfirmError>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        assert!(!this.is_done, "a PendingConfirm was polled after it was ready");
        let mut outbox = this.publisher.shared.outbox();
        let fate = outbox.ledger.poll_fate(this.sequence, context.waker());
        let fate = match (fate, outbox.closed()) {
            (Poll::Pending, Some(reason)) => Poll::Ready(Err(ConfirmError::Closed(reason.clone()))),
            (fate, _) => fate,
        };
        this.is_done = fate.is_ready();
        fate
    }
}

impl Drop for PendingConfirm {
    fn drop(&mut self) {
        if !self.is_done {
            self.publisher.shared.outbox().ledger.unwatch(self.sequence);
        }
    }
}

impl fmt::Debug for PendingConfirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingConfirm").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// A future for the confirms of a batch.
///
/// # Cancel safety
/// Dropping it is fine: the messages are sent all the same, and if one fails
/// [`Publisher::wait_for_all`](super::Publisher::wait_for_all) tells.
#[must_use = "a message is only safe once its confirm has come; `send_batch` is there for those who do not wait"]
pub struct PendingBatch {
    publisher: Arc<PublisherHandle>,
    /// 0: the batch was empty.
    first: u64,
    is_done: bool,
}

impl PendingBatch {
    pub(super) fn new(publisher: Arc<PublisherHandle>, first: u64) -> Self {
        Self { publisher, first, is_done: false }
    }
}

impl Future for PendingBatch {
    type Output = Result<BatchOutcome, ConfirmError>;

    /// # Panics
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        assert!(!this.is_done, "a PendingBatch was polled after it was ready");
        if this.first == 0 {
            this.is_done = true;
            return Poll::Ready(Ok(BatchOutcome::default()));
        }
        let mut outbox = this.publisher.shared.outbox();
        let outcome = match (outbox.ledger.poll_batch(this.first, context.waker()), outbox.closed()) {
            (Poll::Ready(outcome), _) => Poll::Ready(Ok(outcome)),
            (Poll::Pending, Some(reason)) => Poll::Ready(Err(ConfirmError::Closed(reason.clone()))),
            (Poll::Pending, None) => Poll::Pending,
        };
        this.is_done = outcome.is_ready();
        outcome
    }
}

impl Drop for PendingBatch {
    fn drop(&mut self) {
        self.publisher.shared.outbox().ledger.unwatch_batch(self.first);
    }
}

impl fmt::Debug for PendingBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingBatch").field("first", &self.first).finish_non_exhaustive()
    }
}
