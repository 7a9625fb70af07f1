//! Messages of one publisher between `publish` and their confirm.
//!
//! ```text
//!  push ─▶ open ──seal──▶ frames: [ sent, unconfirmed | not sent ]
//!                                    ▲       │ settle     │ take
//!                                    └───────┴── rewind ──┘  (the connection broke: send again)
//! ```
//!
//! Messages are encoded once, into the open frame; a sealed frame is shared, not copied, between here and the socket.
//! Bounded by the window (messages and bytes without a fate) and by `SEND_BYTES_MAX` of what is not sent.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::batch::{EncodeScratch, Items, MessageBatch, Piece};
use super::ledger::Ledger;
use super::waiters::Waiters;
use crate::client::error::{CloseReason, PublishError};
use crate::client::message::Message;
use crate::message::encode_resent_item;
use crate::wire;

/// A frame is sealed at this size (bytes), or at half of what the server takes if that is less, since the mark of a
/// message sent again makes it longer. Larger frames hold a single message.
const FRAME_BYTES: usize = 64 * 1024;

/// What the mark of a message sent again adds: the mark, and perhaps a byte of the item's length.
const RESENT_MARK_BYTES_MAX: usize = 3;

/// Encoded bytes that may wait for the socket; publishing waits beyond.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// Bounds of a publisher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// What the server takes, negotiated with each connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct SizeLimits {
    /// Bytes of a frame's items.
    items_bytes_max: usize,
    /// Bytes of a message's body.
    body_bytes_max: u64,
}

impl SizeLimits {
    pub(in crate::client) fn new(frame_bytes_max: u32, body_bytes_max: u64) -> Self {
        let around = wire::PUBLISH_HEAD_BYTES_MAX + RESENT_MARK_BYTES_MAX;
        Self { items_bytes_max: (frame_bytes_max as usize).saturating_sub(around), body_bytes_max }
    }

    fn frame_bytes(self) -> usize {
        FRAME_BYTES.min(self.items_bytes_max / 2)
    }
}

/// Items under the head of one `Publish` frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct OutFrame {
    /// 0: no confirms wanted.
    pub(in crate::client) first_sequence: u64,
    pub(in crate::client) items: Bytes,
}

#[derive(Debug)]
struct Frame {
    first: u64,
    count: u64,
    items: Bytes,
}

impl Frame {
    fn last(&self) -> u64 {
        self.first + self.count - 1
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    confirms: bool,
    window: Window,
    sizes: SizeLimits,
    pub(super) ledger: Ledger,
    open: BytesMut,
    open_first: u64,
    open_count: u64,
    frames: VecDeque<Frame>,
    /// How many of `frames`, from the front, were sent on this connection.
    sent: usize,
    /// Messages up to this one were sent on an earlier connection.
    resend_through: u64,
    /// Bytes of `frames` and `open`.
    held_bytes: u64,
    /// Of these, not sent.
    unsent_bytes: usize,
    is_queued: bool,
    closed: Option<CloseReason>,
    /// Those who wait for room.
    pub(super) waiting: Waiters,
    scratch: EncodeScratch,
}

impl Outbox {
    pub(super) fn new(confirms: bool, window: Window, sizes: SizeLimits) -> Self {
        Self {
            confirms,
            window,
            sizes,
            ledger: Ledger::default(),
            open: BytesMut::new(),
            open_first: 1,
            open_count: 0,
            frames: VecDeque::new(),
            sent: 0,
            resend_through: 0,
            held_bytes: 0,
            unsent_bytes: 0,
            is_queued: false,
            closed: None,
            waiting: Waiters::default(),
            scratch: EncodeScratch::default(),
        }
    }

    pub(super) fn has_confirms(&self) -> bool {
        self.confirms
    }

    pub(super) fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Waits until `messages` more messages with `bytes` more bytes are within the bounds, or the bounds are all free.
    pub(super) fn poll_space(
        &mut self,
        context: &mut Context<'_>,
        ticket: &mut Option<u64>,
        messages: u64,
        bytes: u64,
    ) -> Poll<Result<(), PublishError>> {
        if let Some(reason) = &self.closed {
            return Poll::Ready(Err(PublishError::Closed(reason.clone())));
        }
        let unsettled = self.ledger.unsettled();
        let fits_window = !self.confirms
            || unsettled == 0
            || (unsettled + messages <= self.window.messages && self.held_bytes + bytes <= self.window.bytes);
        if fits_window && (self.unsent_bytes == 0 || self.unsent_bytes < SEND_BYTES_MAX) {
            return Poll::Ready(Ok(()));
        }
        self.waiting.wait(ticket, context.waker());
        Poll::Pending
    }

    /// Takes a message; its sequence.
    pub(super) fn push(&mut self, message: &Message) -> Result<u64, PublishError> {
        self.check_body(message.body().len() as u64)?;
        self.reserve_open();
        let start = self.open.len();
        self.scratch.encode(message, &mut self.open)?;
        let added = self.open.len() - start;
        if added > self.sizes.items_bytes_max {
            self.open.truncate(start);
            return Err(PublishError::TooLarge {
                bytes: added as u64,
                bytes_max: self.sizes.items_bytes_max as u64,
            });
        }
        if start > 0 && self.open.len() > self.sizes.frame_bytes() {
            let tail = self.open.split_off(start);
            self.seal();
            self.open = tail;
        }
        let sequence = self.count_pushed(1, added);
        if self.open.len() >= self.sizes.frame_bytes() {
            self.seal();
        }
        Ok(sequence)
    }

    /// Takes a batch, which is empty afterwards; the sequence of its first message.
    pub(super) fn push_batch(&mut self, batch: &mut MessageBatch) -> Result<u64, PublishError> {
        self.check_body(batch.body_bytes_max() as u64)?;
        if batch.item_bytes_max() > self.sizes.items_bytes_max {
            return Err(PublishError::TooLarge {
                bytes: batch.item_bytes_max() as u64,
                bytes_max: self.sizes.items_bytes_max as u64,
            });
        }
        let first = self.ledger.next_sequence();
        let frame_bytes = self.sizes.frame_bytes();
        // A small batch shares a frame with others, a large one becomes a frame, or several, without being copied.
        if batch.size_bytes() < frame_bytes / 4 {
            if self.open.len() + batch.size_bytes() > frame_bytes {
                self.seal();
            }
            self.reserve_open();
            self.open.extend_from_slice(batch.bytes());
            self.count_pushed(batch.len() as u64, batch.size_bytes());
            batch.clear();
            return Ok(first);
        }
        self.seal();
        if batch.size_bytes() <= frame_bytes {
            self.push_piece(batch.take_all());
            return Ok(first);
        }
        for piece in batch.take_pieces(frame_bytes) {
            self.push_piece(piece);
        }
        Ok(first)
    }

    fn push_piece(&mut self, piece: Piece) {
        let Piece { count, items } = piece;
        let first = self.count_pushed(count, items.len());
        self.frames.push_back(Frame { first, count, items });
        self.open_count = 0;
    }

    /// Whether the driver must be told that something is here; it is told once until it comes.
    pub(super) fn queue_up(&mut self) -> bool {
        !std::mem::replace(&mut self.is_queued, true)
    }

    /// Whether everything taken has been given to the driver.
    pub(super) fn is_drained(&self) -> bool {
        self.unsent_bytes == 0 || self.closed.is_some()
    }

    /// Gives the driver frames to send, about `budget` bytes of them. Whether more is left; if not, the next push has
    /// to tell the driver. Wakers to wake are added to `wake`.
    pub(super) fn take(&mut self, budget: usize, out: &mut Vec<OutFrame>, wake: &mut Vec<Waker>) -> bool {
        self.seal();
        let mut taken = 0;
        while taken < budget
            && let Some(frame) = self.frames.get(self.sent)
        {
            taken += frame.items.len();
            self.unsent_bytes -= frame.items.len();
            if frame.first <= self.resend_through {
                resend(frame, &self.ledger, out);
                self.sent += 1;
            } else if self.confirms {
                out.push(OutFrame { first_sequence: frame.first, items: frame.items.clone() });
                self.sent += 1;
            } else if let Some(frame) = self.frames.pop_front() {
                self.held_bytes -= frame.items.len() as u64;
                out.push(OutFrame { first_sequence: 0, items: frame.items });
            }
        }
        if self.unsent_bytes < SEND_BYTES_MAX {
            self.waiting.take(wake);
        }
        self.is_queued = self.sent < self.frames.len();
        self.is_queued
    }

    /// Forgets frames whose messages all have their fate; called after the ledger was told.
    pub(super) fn release_settled(&mut self, wake: &mut Vec<Waker>) {
        let through = self.ledger.settled_through();
        while self.sent > 0
            && let Some(frame) = self.frames.front().filter(|frame| frame.last() <= through)
        {
            self.held_bytes -= frame.items.len() as u64;
            self.sent -= 1;
            self.frames.pop_front();
        }
        self.waiting.take(wake);
    }

    /// The connection broke: what was sent and has no fate is to be sent again, with its mark. How many messages.
    pub(super) fn rewind(&mut self, sizes: SizeLimits) -> u64 {
        self.sizes = sizes;
        if let Some(last) = self.sent.checked_sub(1).and_then(|last| self.frames.get(last)) {
            self.resend_through = self.resend_through.max(last.last());
        }
        self.unsent_bytes += self.frames.iter().take(self.sent).map(|frame| frame.items.len()).sum::<usize>();
        self.sent = 0;
        self.is_queued = !self.is_drained();
        let first = self.frames.front().map_or(self.resend_through + 1, |frame| frame.first);
        (first..=self.resend_through).filter(|&sequence| !self.ledger.is_settled(sequence)).count() as u64
    }

    /// Whether the driver has to be told after [`Self::rewind`].
    pub(super) fn is_queued(&self) -> bool {
        self.is_queued
    }

    /// Last sequence sent on this connection; confirms beyond it make no sense.
    pub(super) fn sent_through(&self) -> u64 {
        let last_sent = self.sent.checked_sub(1).and_then(|last| self.frames.get(last));
        last_sent.map_or_else(|| self.ledger.settled_through(), Frame::last)
    }

    /// Ends it: everybody who waits learns why.
    pub(super) fn close(&mut self, reason: CloseReason, wake: &mut Vec<Waker>) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.frames.clear();
            self.open = BytesMut::new();
            (self.sent, self.unsent_bytes, self.held_bytes) = (0, 0, 0);
            self.ledger.take_wakers(wake);
            self.waiting.take(wake);
        }
    }

    fn check_body(&self, bytes: u64) -> Result<(), PublishError> {
        let bytes_max = self.sizes.body_bytes_max;
        if bytes > bytes_max { Err(PublishError::TooLarge { bytes, bytes_max }) } else { Ok(()) }
    }

    /// Gives the open frame a buffer of its full size at once, instead of growing it step by step.
    fn reserve_open(&mut self) {
        if self.open.is_empty() && self.open.capacity() < FRAME_BYTES / 4 {
            self.open.reserve(FRAME_BYTES + FRAME_BYTES / 4);
        }
    }

    fn count_pushed(&mut self, count: u64, bytes: usize) -> u64 {
        let first = self.ledger.assign(count);
        if self.open_count == 0 {
            self.open_first = first;
        }
        self.open_count += count;
        self.held_bytes += bytes as u64;
        self.unsent_bytes += bytes;
        first
    }

    fn seal(&mut self) {
        if self.open_count > 0 {
            let items = self.open.split().freeze();
            self.frames.push_back(Frame { first: self.open_first, count: self.open_count, items });
            self.open_count = 0;
        }
    }
}

/// Copies the messages of a frame that have no fate yet, each with its mark, into frames of consecutive sequences.
fn resend(frame: &Frame, ledger: &Ledger, out: &mut Vec<OutFrame>) {
    let mut marked = BytesMut::with_capacity(frame.items.len() + 2 * frame.count as usize);
    let mut first = 0;
    for (sequence, item) in (frame.first..).zip(Items(&frame.items)) {
        if ledger.is_settled(sequence) {
            if !marked.is_empty() {
                out.push(OutFrame { first_sequence: first, items: marked.split().freeze() });
            }
            continue;
        }
        if marked.is_empty() {
            first = sequence;
        }
        encode_resent_item(item, &mut marked).expect("this client encoded the item in regular form");
    }
    if !marked.is_empty() {
        out.push(OutFrame { first_sequence: first, items: marked.freeze() });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::Confirmed;
    use super::super::ledger::Fate;
    use super::*;
    use crate::message::DeliveredItem;
    use crate::model::Durability;

    #[derive(Debug, Clone)]
    enum Step {
        Push { bytes: usize },
        Batch { sizes: Vec<usize> },
        Take { budget: usize },
        Settle { place: u64, count: u64 },
        Rewind,
    }

    fn step() -> impl Strategy<Value = Step> {
        let size = prop_oneof![8 => 0usize..300, 1 => 5_000usize..100_000];
        prop_oneof![
            6 => size.clone().prop_map(|bytes| Step::Push { bytes }),
            2 => prop::collection::vec(size, 1..40).prop_map(|sizes| Step::Batch { sizes }),
            3 => (1usize..200_000).prop_map(|budget| Step::Take { budget }),
            4 => (0u64..200, 1u64..20).prop_map(|(place, count)| Step::Settle { place, count }),
            1 => Just(Step::Rewind),
        ]
    }

    fn body(sequence: u64, bytes: usize) -> Vec<u8> {
        let mut body = vec![b'.'; bytes];
        body.extend_from_slice(&sequence.to_be_bytes());
        body
    }

    fn limits() -> SizeLimits {
        SizeLimits::new(1 << 20, 1 << 20)
    }

    /// What a naive outbox knows of a message.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Known {
        New,
        Sent,
        ToBeResent,
        Settled,
    }

    proptest! {
        #[test]
        fn sends_everything_once_a_connection_in_order_with_honest_marks(
            steps in prop::collection::vec(step(), 1..80),
        ) {
            let mut outbox = Outbox::new(true, Window { messages: u64::MAX, bytes: u64::MAX }, limits());
            let mut known: BTreeMap<u64, Known> = BTreeMap::new();
            let mut wake = Vec::new();
            for step in steps {
                match step {
                    Step::Push { bytes } => {
                        let sequence = known.len() as u64 + 1;
                        let pushed = outbox.push(&Message::new(body(sequence, bytes)));
                        prop_assert_eq!(pushed.expect("it is small enough"), sequence);
                        known.insert(sequence, Known::New);
                    }
                    Step::Batch { sizes } => {
                        let mut batch = MessageBatch::new();
                        let first = known.len() as u64 + 1;
                        for (sequence, bytes) in (first..).zip(sizes) {
                            batch.push_body(&body(sequence, bytes));
                            known.insert(sequence, Known::New);
                        }
                        prop_assert_eq!(outbox.push_batch(&mut batch).expect("it is small enough"), first);
                        prop_assert!(batch.is_empty());
                    }
                    Step::Take { budget } => {
                        let mut frames = Vec::new();
                        let is_more = outbox.take(budget, &mut frames, &mut wake);
                        let mut last = 0;
                        for frame in frames {
                            let items: Vec<_> = Items(&frame.items).collect();
                            prop_assert!(frame.items.len() <= FRAME_BYTES + 3 * items.len() || items.len() == 1);
                            for (sequence, item) in (frame.first_sequence..).zip(items) {
                                let item = DeliveredItem::decode(&Bytes::copy_from_slice(item)).expect("encoded here");
                                prop_assert!(item.body.ends_with(&sequence.to_be_bytes()), "the body of {}", sequence);
                                prop_assert!(sequence > last, "in order");
                                last = sequence;
                                let state = known.insert(sequence, Known::Sent);
                                let expected = if item.resent { Known::ToBeResent } else { Known::New };
                                prop_assert_eq!(state, Some(expected), "message {}", sequence);
                            }
                        }
                        let waits = |state: &Known| matches!(state, Known::New | Known::ToBeResent);
                        let unsent = known.values().any(waits);
                        prop_assert!(is_more || !unsent, "nothing is forgotten");
                        let first_unsent = known.iter().find(|(_, state)| waits(state)).map_or(u64::MAX, |(&at, _)| at);
                        prop_assert!(last < first_unsent, "nothing is skipped");
                    }
                    Step::Settle { place, count } => {
                        let sent = |sequence| known.get(&sequence) == Some(&Known::Sent);
                        let Some(first) = (1..=known.len() as u64)
                            .map(|add| (place + add) % known.len() as u64 + 1)
                            .find(|&sequence| sent(sequence))
                        else {
                            continue;
                        };
                        let last = (first..first + count).take_while(|&sequence| sent(sequence)).last().unwrap_or(first);
                        prop_assert!(last <= outbox.sent_through());
                        let fate = Fate::Confirmed(Confirmed { level: Durability::Synced, queues: 1, journey: None });
                        outbox.ledger.settle(first, last, &fate, &mut wake).expect("they were sent");
                        outbox.release_settled(&mut wake);
                        known.extend((first..=last).map(|sequence| (sequence, Known::Settled)));
                    }
                    Step::Rewind => {
                        let resent = outbox.rewind(limits());
                        let mut expected = 0;
                        for state in known.values_mut() {
                            if matches!(state, Known::Sent | Known::ToBeResent) {
                                *state = Known::ToBeResent;
                                expected += 1;
                            }
                        }
                        prop_assert_eq!(resent, expected);
                        let unsent = known.values().any(|state| matches!(state, Known::New | Known::ToBeResent));
                        prop_assert!(outbox.is_queued() || !unsent);
                    }
                }
            }
            let frames: u64 = outbox.frames.iter().map(|frame| frame.items.len() as u64).sum();
            prop_assert_eq!(outbox.held_bytes, frames + outbox.open.len() as u64);
            if known.values().all(|state| *state == Known::Settled) {
                prop_assert_eq!(outbox.held_bytes, 0, "nothing is kept for nothing");
            }
        }
    }
}
