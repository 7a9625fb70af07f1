//! What waits to be written to a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Pieces at least this large are sent from where they lie instead of being copied together.
const SPLICE_BYTES_MIN: usize = 16 * 1024;
/// Pieces that one system call takes.
const SLICES_MAX: usize = 64;
/// Bytes that are collected before they become a piece.
const TAIL_BYTES_MAX: usize = 256 * 1024;

/// Room for frames that is kept while nothing waits.
const TAIL_BYTES_KEPT_MAX: usize = 64 * 1024;

/// Frames on their way out, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `pieces`.
    pieces_len: usize,
    /// Bytes ever written.
    written: u64,
    /// Deliveries to be reported when they are written.
    receipts: VecDeque<Receipt>,
}

/// Deliveries of one consumer that are on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) channel: u32,
    pub(super) handle: u32,
    /// Sum of their shares of the consumer's window.
    pub(super) window_bytes: u64,
    /// They are written when so many bytes are.
    end: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Where frames are encoded to.
    pub(super) fn tail(&mut self) -> &mut BytesMut {
        if self.tail.len() >= TAIL_BYTES_MAX {
            self.cut_tail();
        }
        &mut self.tail
    }

    /// Appends bytes that are encoded already.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            return self.tail().extend_from_slice(&bytes);
        }
        self.cut_tail();
        self.pieces_len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Notes that deliveries are written when all that waits now is.
    pub(super) fn push_receipt(&mut self, channel: u32, handle: u32, window_bytes: u64) {
        let end = self.written + self.len() as u64;
        match self.receipts.back_mut() {
            Some(last) if (last.channel, last.handle) == (channel, handle) => {
                last.window_bytes += window_bytes;
                last.end = end;
            }
            _ => self.receipts.push_back(Receipt { channel, handle, window_bytes, end }),
        }
    }

    /// The next receipt whose deliveries are written.
    pub(super) fn pop_receipt(&mut self) -> Option<Receipt> {
        if self.receipts.front()?.end > self.written {
            return None;
        }
        self.receipts.pop_front()
    }

    /// Gives memory back that nothing has used for a while.
    pub(super) fn relax(&mut self) {
        if self.is_empty() && self.receipts.is_empty() {
            let Self { pieces, tail, receipts, .. } = self;
            (*pieces, *tail, *receipts) = Default::default();
        }
    }

    /// Writes as much as the socket takes. `Ready` when nothing waits any more.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.pieces.is_empty() {
                ready!(Pin::new(&mut *socket).poll_write(context, &self.tail))?
            } else {
                self.cut_tail();
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = slices
                    .iter_mut()
                    .zip(&self.pieces)
                    .map(|(slice, piece)| *slice = IoSlice::new(piece))
                    .count();
                ready!(Pin::new(&mut *socket).poll_write_vectored(context, &slices[..used]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.tail.capacity() > TAIL_BYTES_KEPT_MAX {
            self.tail = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn cut_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.pieces_len += tail.len();
            self.pieces.push_back(tail);
        }
    }

    fn advance(&mut self, written: usize) {
        self.written += written as u64;
        if self.pieces.is_empty() {
            return self.tail.advance(written);
        }
        self.pieces_len -= written;
        let mut rest = written;
        while let Some(piece) = self.pieces.front_mut() {
            if rest < piece.len() {
                return piece.advance(rest);
            }
            rest -= piece.len();
            self.pieces.pop_front();
        }
    }
}
