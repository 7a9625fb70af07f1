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

use super::batch::{EncodeScratch, Items, MessageBatch};
use super::ledger::Ledger;
use crate::client::error::{CloseReason, PublishError};
use crate::client::message::Message;
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
    waiting: Vec<Waker>,
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
            waiting: Vec::new(),
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
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
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
        if self.open.len() + batch.size_bytes() <= self.sizes.frame_bytes() {
            self.reserve_open();
            self.open.extend_from_slice(batch.bytes());
            self.count_pushed(batch.len() as u64, batch.size_bytes());
            batch.clear();
            return Ok(first);
        }
        self.seal();
        for piece in batch.take_pieces(self.sizes.frame_bytes()) {
            let (count, bytes) = (piece.count, piece.items.len());
            let first = self.count_pushed(count, bytes);
            self.frames.push_back(Frame { first, count, items: piece.items });
            self.open_count = 0;
        }
        Ok(first)
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
            wake.append(&mut self.waiting);
        }
        self.is_queued = self.sent < self.frames.len();
        self.is_queued
    }

    /// Forgets frames whose messages all have their fate; called after the ledger was told.
    pub(super) fn release_settled(&mut self, wake: &mut Vec<Waker>) {
        let through = self.ledger.settled_through();
        while self.sent > 0
            && let Some(frame) = self.frames.pop_front_if(|frame| frame.last() <= through)
        {
            self.held_bytes -= frame.items.len() as u64;
            self.sent -= 1;
        }
        wake.append(&mut self.waiting);
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
            wake.append(&mut self.waiting);
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
        wire::encode_resent_item(item, &mut marked).expect("this client encoded the item in regular form");
    }
    if !marked.is_empty() {
        out.push(OutFrame { first_sequence: first, items: marked.freeze() });
    }
}
