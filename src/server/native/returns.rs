//! Mandatory messages that reached no queue go back, a part of a frame's at a time: as many as the outbox takes.

use std::ops::Range;
use std::sync::Arc;

use super::super::socket::Outbox;
use crate::broker::{Confirmation, Origin};
use crate::model::{Refusal, ReplyCode};
use crate::protocol::put_error;
use crate::wire::{Items, encode_return, pb};

/// No more messages go back while so many bytes wait to be written.
const RETURNS_BYTES_MAX: usize = 256 * 1024;

/// What is left to be told about the messages of a frame of which some go back. Until it is told no other frame of the
/// connection is taken, and nothing is confirmed.
pub(super) struct Returning {
    pub(super) channel: u32,
    pub(super) publisher: u32,
    /// 0: no confirms wanted.
    pub(super) first_sequence: u64,
    pub(super) items: Items,
    pub(super) origin: Arc<Origin>,
    /// Which of the messages, in order.
    pub(super) rest: Vec<Range<u32>>,
    /// What is told after that.
    pub(super) refused: Option<Refusal>,
    pub(super) confirmation: Option<Confirmation>,
}

impl Returning {
    /// Sends messages back as long as the outbox takes them; whether all are sent.
    pub(super) fn put(&mut self, outbox: &mut Outbox) -> bool {
        let mut ranges = std::mem::take(&mut self.rest).into_iter();
        while let Some(mut range) = ranges.next() {
            while !range.is_empty() {
                if outbox.len() >= RETURNS_BYTES_MAX {
                    self.rest = std::iter::once(range).chain(ranges).collect();
                    return false;
                }
                self.put_one(range.start as usize, outbox);
                range.start += 1;
            }
        }
        if let Some(refused) = self.refused.take() {
            put_error(self.channel, 0, &refused, outbox.tail());
        }
        true
    }

    fn put_one(&self, index: usize, outbox: &mut Outbox) {
        let reason = Refusal::new(ReplyCode::NoRoute, "no queue is bound for this message");
        let returned = pb::Return {
            publisher: self.publisher,
            sequence: if self.first_sequence == 0 { 0 } else { self.first_sequence + index as u64 },
            exchange: self.origin.exchange.to_string(),
            routing_key: self.items.key(index).unwrap_or(&self.origin.routing_key).to_owned(),
            reason: Some((&reason).into()),
            message: None,
        };
        // An item was checked when its frame was decoded.
        let _ = encode_return(self.channel, returned, self.items.run.item(index), outbox.tail());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::{Context, Waker};

    use bytes::BytesMut;
    use prost::Message;

    use super::*;
    use crate::model::{ExchangeName, RoutingKey};
    use crate::wire::{Body, Side, decode_frame_from, encode_publish_head, split_frame};

    /// The messages of a frame of so many.
    fn items(count: usize) -> Items {
        let message = pb::Message { properties: None, body: b"tiny".to_vec().into() };
        let item = pb::PublishItem { message: Some(message), ..pb::PublishItem::default() };
        let mut run = BytesMut::new();
        (0..count).for_each(|_| prost::encoding::message::encode(5, &item, &mut run));
        let mut frame = BytesMut::new();
        encode_publish_head(1, 1, 1, None, run.len(), &mut frame);
        frame.extend_from_slice(&run);
        let frame = split_frame(&mut frame, usize::MAX).unwrap().unwrap();
        let Body::Publish(publish) = decode_frame_from(Side::Client, frame).unwrap().body else { panic!() };
        publish.items
    }

    #[test]
    fn what_goes_back_waits_for_the_socket() {
        const COUNT: usize = 100_000;
        let origin = Origin {
            exchange: ExchangeName::new("amq.topic").unwrap(),
            routing_key: RoutingKey::new("nowhere").unwrap(),
        };
        let mut returning = Returning {
            channel: 1,
            publisher: 1,
            first_sequence: 1,
            items: items(COUNT),
            origin: Arc::new(origin),
            rest: vec![0..10, 20..COUNT as u32],
            refused: None,
            confirmation: None,
        };
        let mut sequences = Vec::new();
        let mut rounds = 0;
        loop {
            let mut outbox = Outbox::default();
            let done = returning.put(&mut outbox);
            assert!(outbox.len() < RETURNS_BYTES_MAX + 1024, "{} bytes", outbox.len());
            rounds += 1;
            let mut socket = Vec::new();
            let written = outbox.poll_write(&mut Context::from_waker(Waker::noop()), &mut socket);
            assert!(written.is_ready());
            let mut written = BytesMut::from(&socket[..]);
            while let Some(frame) = split_frame(&mut written, usize::MAX).unwrap() {
                let Body::Other(body) = decode_frame_from(Side::Server, frame).unwrap().body else {
                    panic!()
                };
                let pb::frame::Body::Return(returned) = *body else { panic!() };
                assert_eq!(returned.message.unwrap().encoded_len(), 6);
                sequences.push(returned.sequence);
            }
            if done {
                break;
            }
        }
        assert!(rounds > 10, "{rounds}");
        let expected: Vec<u64> = (1..=10).chain(21..=COUNT as u64).collect();
        assert!(sequences == expected, "{} came back", sequences.len());
    }
}
