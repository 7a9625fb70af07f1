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
pub(in crate::server) struct Outbox {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `pieces`.
    pieces_len: usize,
    /// Bytes ever written.
    written: u64,
    /// What is to be reported when it is written.
    marks: VecDeque<DeliveryMark>,
}

/// Where the deliveries of one consumer end among what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct DeliveryMark {
    /// Whose they are: a channel and a number there.
    pub(in crate::server) consumer: (u32, u32),
    /// Sum of their shares of the consumer's window.
    pub(in crate::server) window_bytes: u64,
    /// They are written when so many bytes are.
    end: u64,
}

impl Outbox {
    /// Bytes that wait.
    pub(in crate::server) fn len(&self) -> usize {
        self.pieces_len + self.tail.len()
    }

    pub(in crate::server) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes ever written.
    pub(in crate::server) fn written(&self) -> u64 {
        self.written
    }

    /// Where frames are encoded to.
    pub(in crate::server) fn tail(&mut self) -> &mut BytesMut {
        if self.tail.len() >= TAIL_BYTES_MAX {
            self.cut_tail();
        }
        &mut self.tail
    }

    /// Appends bytes that are encoded already.
    pub(in crate::server) fn push(&mut self, bytes: Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            return self.tail().extend_from_slice(&bytes);
        }
        self.cut_tail();
        self.pieces_len += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Notes that a consumer's deliveries are written when all that waits now is.
    pub(in crate::server) fn push_mark(&mut self, consumer: (u32, u32), window_bytes: u64) {
        let end = self.written + self.len() as u64;
        match self.marks.back_mut() {
            Some(last) if last.consumer == consumer => {
                last.window_bytes += window_bytes;
                last.end = end;
            }
            _ => self.marks.push_back(DeliveryMark { consumer, window_bytes, end }),
        }
    }

    /// The next mark that all bytes before are written of.
    pub(in crate::server) fn pop_mark(&mut self) -> Option<DeliveryMark> {
        if self.marks.front()?.end > self.written {
            return None;
        }
        self.marks.pop_front()
    }

    /// Gives memory back that nothing has used for a while.
    pub(in crate::server) fn relax(&mut self) {
        if self.is_empty() && self.marks.is_empty() {
            let Self { pieces, tail, marks, .. } = self;
            (*pieces, *tail, *marks) = Default::default();
        }
    }

    /// Writes as much as the socket takes. `Ready` when nothing waits any more.
    pub(in crate::server) fn poll_write(
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Takes so many bytes at a time, then nothing until it is asked again.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.room);
            self.taken.extend_from_slice(&bytes[..count]);
            self.room -= count;
            if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn bytes_leave_in_order_and_marks_after_their_bytes(
            parts in prop::collection::vec((0usize..40_000, any::<bool>(), any::<bool>()), 0..20),
            rooms in prop::collection::vec(1usize..30_000, 1..10),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            let mut ends = Vec::new();
            for (number, (length, whole, marked)) in parts.into_iter().enumerate() {
                let bytes = vec![number as u8; length];
                expected.extend_from_slice(&bytes);
                match whole {
                    true => outbox.push(bytes.into()),
                    false => outbox.tail().extend_from_slice(&bytes),
                }
                if marked {
                    outbox.push_mark((1, number as u32), length as u64);
                    ends.push((number as u32, expected.len()));
                }
            }
            prop_assert_eq!(outbox.len(), expected.len());
            let mut socket = Narrow { taken: Vec::new(), room: 0 };
            let mut context = Context::from_waker(Waker::noop());
            let mut reported = Vec::new();
            for room in rooms.iter().cycle() {
                socket.room = *room;
                let done = outbox.poll_write(&mut context, &mut socket).is_ready();
                while let Some(mark) = outbox.pop_mark() {
                    reported.push(mark.consumer.1);
                }
                let written = ends.iter().filter(|(_, end)| *end <= socket.taken.len()).map(|(number, _)| *number);
                prop_assert_eq!(&reported, &written.collect::<Vec<_>>());
                if done {
                    break;
                }
            }
            prop_assert_eq!(outbox.written(), expected.len() as u64);
            prop_assert!(outbox.is_empty() && socket.taken == expected);
        }
    }

    #[test]
    fn marks_of_one_consumer_that_follow_each_other_are_one() {
        let mut outbox = Outbox::default();
        outbox.push_mark((1, 2), 10);
        outbox.push_mark((1, 2), 5);
        outbox.push_mark((1, 3), 1);
        assert_eq!(outbox.pop_mark().map(|mark| mark.window_bytes), Some(15));
        assert_eq!(outbox.pop_mark().map(|mark| mark.consumer.1), Some(3));
        assert_eq!(outbox.pop_mark(), None);
    }
}
