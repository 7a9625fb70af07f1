//! What became of a message in one queue, so far.

use std::sync::Arc;

use super::event::{Event, NotTaken, QueueLabel, Taker, What};
use crate::model::Timestamp;
use crate::queue::Departure;

/// What became of a message in one queue.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The queue.
    pub queue: QueueLabel,
    /// How it stands with it there.
    pub state: State,
    /// Since when; `None`: since it was published.
    pub since: Option<Timestamp>,
    /// How often it went to a consumer.
    pub deliveries: u32,
    /// How often it came back.
    pub returns: u32,
    /// When it went to a consumer for the last time, and to whom.
    pub last_delivery: Option<(Timestamp, Arc<Taker>)>,
}

/// How it stands with a message in a queue.
#[derive(Debug, Clone)]
pub enum State {
    /// The queue has not said that it has it: it is on its way there, or the queue was deleted a moment before.
    OnItsWay,
    /// It waits for a consumer.
    Pending,
    /// A consumer has it, and has not settled it.
    Delivered,
    /// It is gone, for this reason.
    Left(Departure),
    /// It went with the queue, which was deleted.
    QueueDeleted,
    /// The queue's shard could not take it.
    NotTaken(Arc<NotTaken>),
    /// There was no room to look after it any more, or the broker ended before it was written what happened.
    Unknown,
}

impl State {
    /// Whether nothing more can happen to it there, or be known.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::OnItsWay | Self::Pending | Self::Delivered)
    }
}

impl Receipt {
    pub(super) fn new(queue: QueueLabel) -> Self {
        Self { queue, state: State::OnItsWay, since: None, deliveries: 0, returns: 0, last_delivery: None }
    }

    pub(super) fn note(&mut self, event: &Event) {
        let state = match &event.what {
            What::Taken { .. } => State::Pending,
            What::Delivered { taker, .. } => {
                self.deliveries += 1;
                self.last_delivery = Some((event.at, Arc::clone(taker)));
                State::Delivered
            }
            What::CameBack { .. } => {
                self.returns += 1;
                State::Pending
            }
            What::Left { departure, .. } => State::Left(*departure),
            What::QueueDeleted { .. } => State::QueueDeleted,
            What::NotTaken(refused) => State::NotTaken(Arc::clone(refused)),
            What::Missed { .. } => State::Unknown,
            What::Unwatched if !self.state.is_final() => State::Unknown,
            What::Unwatched => return,
        };
        self.state = state;
        self.since = Some(event.at);
    }
}
