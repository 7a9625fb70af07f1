//! Publishing with confirms.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::{ConfirmError, PublishError, RequestError};
use super::message::Message;
use crate::model::{Durability, FieldTable, Refusal};

/// How to open a [`Publisher`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `open`"]
pub struct PublisherBuilder {}

impl PublisherBuilder {
    /// What reaches no queue comes back, as [`ConfirmError::Returned`].
    pub fn mandatory(self) -> Self {
        todo!()
    }

    /// The messages need not survive a restart of the broker: their confirms do not wait for the disk.
    pub fn transient(self) -> Self {
        todo!()
    }

    /// Fire and forget: no confirms, and what was under way when the connection breaks is lost.
    pub fn without_confirms(self) -> Self {
        todo!()
    }

    /// Unconfirmed messages at most; publishing waits beyond. Default 10,000.
    pub fn window_messages(self, _messages: u64) -> Self {
        todo!()
    }

    /// Bytes of unconfirmed messages at most (one message may exceed it); publishing waits beyond. Default 16 MiB.
    pub fn window_bytes(self, _bytes: u64) -> Self {
        todo!()
    }

    /// Opens the publisher.
    pub async fn open(self) -> Result<Publisher, RequestError> {
        todo!()
    }
}

/// Sends messages to one exchange, in order. Clones share it, its order and its window.
#[derive(Debug, Clone)]
pub struct Publisher {}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// How safe it is.
    pub level: Durability,
    /// How many queues it reached; 0: no binding matched, it is gone.
    pub queues: u32,
}

/// How far a publisher has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages taken for sending.
    pub published: u64,
    /// Messages whose fate is known: confirmed, refused or returned.
    pub settled: u64,
    /// Of these, refused by the broker.
    pub refused: u64,
    /// Of these, returned because they reached no queue.
    pub returned: u64,
    /// Every message up to this one, counted from 1, has its fate known.
    pub settled_through: u64,
    /// The lowest durability level that a confirm has stated so far.
    pub level: Option<Durability>,
}

impl Publisher {
    /// Takes a message for sending, waiting while the window is full; the result is a future for its confirm.
    pub async fn publish(&self, _message: impl Into<Message>) -> Result<PendingConfirm, PublishError> {
        todo!()
    }

    /// Takes a message for sending, waiting while the window or the send buffer is full. Its confirm, if the publisher
    /// has confirms, counts in [`Self::progress`], and a refusal is told by [`Self::wait_for_all`].
    pub async fn send(&self, _message: impl Into<Message>) -> Result<(), PublishError> {
        todo!()
    }

    /// Takes a batch for sending, which is empty and can be filled again afterwards. Waits until the window has place
    /// for all of it.
    pub async fn send_batch(&self, _batch: &mut MessageBatch) -> Result<(), PublishError> {
        todo!()
    }

    /// As [`Self::send_batch`]; the result is a future for the confirms of the whole batch.
    pub async fn publish_batch(&self, _batch: &mut MessageBatch) -> Result<PendingBatch, PublishError> {
        todo!()
    }

    /// Waits until everything taken so far has been handed to the operating system.
    pub async fn flush(&self) -> Result<(), PublishError> {
        todo!()
    }

    /// Waits until the fate of everything taken so far is known.
    ///
    /// # Errors
    /// The first refusal or return since the last call whose message had no [`PendingConfirm`] that waits for it.
    pub async fn wait_for_all(&self) -> Result<(), ConfirmError> {
        todo!()
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        todo!()
    }

    /// Waits until `settled_through` exceeds `seen`.
    pub async fn settled_beyond(&self, _seen: u64) -> Result<Progress, ConfirmError> {
        todo!()
    }

    /// Waits for all confirms, then forgets the publisher on the server.
    pub async fn close(self) -> Result<(), ConfirmError> {
        todo!()
    }
}

/// A future for the confirm of one message. Dropping it is fine: the message is sent all the same.
#[derive(Debug)]
#[must_use = "a message is only safe once its confirm has come; `send` is there for those who do not wait"]
pub struct PendingConfirm {}

impl PendingConfirm {
    /// The message's number within its publisher, counted from 1.
    pub fn sequence(&self) -> u64 {
        todo!()
    }
}

impl Future for PendingConfirm {
    type Output = Result<Confirmed, ConfirmError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Messages confirmed.
    pub confirmed: u64,
    /// The lowest level among them; `None` if there is none.
    pub level: Option<Durability>,
    /// Messages refused or returned.
    pub failed: u64,
    /// Why the first of them was refused.
    pub first_refusal: Option<Arc<Refusal>>,
}

/// A future for the confirms of a batch.
#[derive(Debug)]
#[must_use = "a message is only safe once its confirm has come; `send_batch` is there for those who do not wait"]
pub struct PendingBatch {}

impl Future for PendingBatch {
    type Output = Result<BatchOutcome, ConfirmError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// Messages encoded back to back, ready to be sent with one call.
#[derive(Debug, Default)]
pub struct MessageBatch {}

impl MessageBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message.
    pub fn push(&mut self, _message: &Message) -> Result<(), PublishError> {
        todo!()
    }

    /// Adds a message without properties. The fastest way.
    pub fn push_body(&mut self, _body: &[u8]) {
        todo!()
    }

    /// Adds a message with a routing key of its own (at most 255 bytes) and, perhaps, headers.
    pub fn push_routed(
        &mut self,
        _routing_key: &str,
        _headers: Option<&FieldTable>,
        _body: &[u8],
    ) -> Result<(), PublishError> {
        todo!()
    }

    /// Number of messages in it.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encoded size in bytes.
    pub fn size_bytes(&self) -> usize {
        todo!()
    }
}
