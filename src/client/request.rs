//! A request under way, and its answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::consumer::ConsumerShared;
use super::convert::kind_name;
use super::error::{CloseReason, RequestError};
use super::publisher::PublisherShared;
use super::recorded::Change;
use crate::wire::pb;

/// A request under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) channel: u32,
    pub(super) reply: oneshot::Sender<Result<Reply, RequestError>>,
    pub(super) bytes: Bytes,
    pub(super) on_break: OnBreak,
    pub(super) effect: Effect,
}

impl Pending {
    pub(super) fn fail(self, error: RequestError) {
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send(Err(error));
    }
}

/// What becomes of a request that was sent and not answered when the connection breaks.
#[derive(Debug)]
pub(super) enum OnBreak {
    /// Whether it was carried out is unknown, and doing it twice is not the same as once.
    Fail,
    /// Doing it twice is the same as once: it is sent again.
    Repeat,
    /// What it asked for has come true by itself.
    Done,
    /// It has lost its sense, even if it was not sent.
    Void,
}

/// What a good answer changes here.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    Channel(u32),
    ChannelGone(u32),
    Prefetch { channel: u32, prefetch: u32 },
    Publisher(Arc<PublisherShared>),
    PublisherGone(Arc<PublisherShared>),
    Consumer(Arc<ConsumerShared>),
    ConsumerRestored(Arc<ConsumerShared>),
    ConsumerGone(Arc<ConsumerShared>),
    Record(Change),
}

/// The answer to a request, when it comes.
#[derive(Debug)]
#[must_use]
pub(super) struct Answer {
    pub(super) reply: oneshot::Receiver<Result<Reply, RequestError>>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// The connection it came over.
    pub(super) epoch: u64,
    pub(super) body: pb::frame::Body,
}

impl Answer {
    pub(super) async fn reply(self) -> Result<Reply, RequestError> {
        self.reply.await.unwrap_or(Err(RequestError::Closed(CloseReason::ByClient)))
    }

    pub(super) async fn body(self) -> Result<pb::frame::Body, RequestError> {
        Ok(self.reply().await?.body)
    }

    pub(super) async fn done(self) -> Result<(), RequestError> {
        match self.body().await? {
            pb::frame::Body::Done(_) => Ok(()),
            other => Err(RequestError::UnexpectedAnswer { got: kind_name(&other) }),
        }
    }
}
