//! What a frame from the server means.

use std::sync::Arc;

use super::connection::{Blocked, Event};
use super::convert::{kind_name, refusal_from_wire, shared_text, shortage_from_wire};
use super::core::Core;
use super::error::{CloseReason, ConsumeError};
use crate::wire::{Body, Deliver, WireFrame, pb};

/// What the session has to do besides.
#[derive(Debug)]
pub(super) enum Next {
    ReadOn,
    /// The server closed the connection, perhaps because of this.
    Closed(Option<Box<pb::Error>>),
}

impl Core {
    /// Carries out a frame that came over the connection counted `epoch`.
    pub(super) fn dispatch(&self, epoch: u64, frame: WireFrame) -> Result<Next, CloseReason> {
        let WireFrame { channel, request, body } = frame;
        match body {
            Body::Deliver(deliver) => self.deliver(epoch, channel, deliver)?,
            Body::Confirm(confirm) => self.confirm(channel, confirm)?,
            Body::Publish(_) => return Err(unexpected("Publish")),
            Body::Settle(_) => return Err(unexpected("Settle")),
            Body::Other(other) => return self.dispatch_other(channel, request, *other),
        }
        Ok(Next::ReadOn)
    }

    fn dispatch_other(&self, channel: u32, request: u64, body: pb::frame::Body) -> Result<Next, CloseReason> {
        match body {
            pb::frame::Body::Heartbeat(_) => {}
            pb::frame::Body::Blocked(blocked) => {
                let shortage = shortage_from_wire(blocked.shortage());
                let blocked = Arc::new(Blocked { shortage, reason: blocked.reason });
                self.state().blocked = Some(Arc::clone(&blocked));
                self.announce(Event::Blocked(blocked));
            }
            pb::frame::Body::Unblocked(_) => {
                self.state().blocked = None;
                self.announce(Event::Unblocked);
            }
            pb::frame::Body::Close(close) => return Ok(Next::Closed(close.error.map(Box::new))),
            pb::frame::Body::Return(returned) => {
                if let Some(publisher) = self.find_publisher(channel, returned.publisher)? {
                    publisher.note_return(returned)?;
                }
            }
            pb::frame::Body::ConsumerCancelled(cancelled) => self.cancelled(channel, cancelled),
            pb::frame::Body::Error(error) if request == 0 => {
                let refusal = Arc::new(refusal_from_wire(error));
                self.announce(Event::ChannelError { channel, refusal });
            }
            body if request == 0 => return Err(unexpected(kind_name(&body))),
            body => self.answer(channel, request, body).map_err(|text| CloseReason::Protocol(text.into()))?,
        }
        Ok(Next::ReadOn)
    }

    fn deliver(&self, epoch: u64, channel: u32, deliver: Deliver) -> Result<(), CloseReason> {
        let count = deliver.items.len() as u64;
        if deliver.first_tag == 0 || deliver.first_tag.checked_add(count).is_none() {
            let text = format!("a Deliver of {count} messages begins with tag {}", deliver.first_tag);
            return Err(CloseReason::Protocol(text.into()));
        }
        let consumer = {
            let state = self.state();
            let Some(entry) = state.channels.get(&channel) else { return Err(not_open("Deliver", channel)) };
            match entry.consumers.get(&deliver.consumer) {
                Some((_, consumer)) => consumer.clone(),
                None if entry.knew_consumer(deliver.consumer) => return Ok(()),
                None => return Err(not_open("Deliver for a consumer that was never started", channel)),
            }
        };
        if count > 0 {
            consumer.deliver(epoch, deliver);
        }
        Ok(())
    }

    fn confirm(&self, channel: u32, confirm: pb::Confirm) -> Result<(), CloseReason> {
        match self.find_publisher(channel, confirm.publisher)? {
            Some(publisher) => publisher.confirm(confirm.ranges),
            None => Ok(()),
        }
    }

    /// `None` if it was there once: word of its messages may come after its end, and nobody waits for it any more.
    fn find_publisher(
        &self,
        channel: u32,
        number: u32,
    ) -> Result<Option<Arc<super::publisher::PublisherShared>>, CloseReason> {
        let state = self.state();
        let Some(entry) = state.channels.get(&channel) else { return Err(not_open("Confirm", channel)) };
        match entry.publishers.get(&number) {
            Some((_, publisher)) => Ok(Some(publisher.clone())),
            None if entry.knew_publisher(number) => Ok(None),
            None => Err(not_open("Confirm for a publisher that was never opened", channel)),
        }
    }

    fn cancelled(&self, channel: u32, cancelled: pb::ConsumerCancelled) {
        let mut state = self.state();
        let entry = state.channels.get(&channel);
        let Some((_, consumer)) = entry.and_then(|entry| entry.consumers.get(&cancelled.consumer)).cloned()
        else {
            // Both sides ended it at the same time.
            return;
        };
        state.drop_consumer(&consumer);
        let end = match cancelled.error {
            Some(error) => ConsumeError::Lapsed(refusal_from_wire(error)),
            None => {
                // The server ends consumers when their queue is deleted. Made again, it would fill up without a consumer.
                state.recorded.forget_queue(&consumer.queue());
                ConsumeError::Cancelled { reason: cancelled.reason }
            }
        };
        drop(state);
        consumer.end(Some(end));
    }
}

fn unexpected(kind: &str) -> CloseReason {
    CloseReason::Protocol(shared_text(format_args!("a {kind} frame came that nothing asked for")))
}

fn not_open(what: &str, channel: u32) -> CloseReason {
    CloseReason::Protocol(shared_text(format_args!("{what} came on channel {channel}, which is not open")))
}
