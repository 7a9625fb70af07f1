//! Bytes on their way to the socket: small ones copied together, large ones passed on as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

/// Nothing more is taken from publishers while so many bytes wait.
const BYTES_FULL: usize = 512 * 1024;

/// Pieces of at least this size (bytes) are not copied.
const LARGE_BYTES: usize = 4 * 1024;

/// Room for small frames that is kept when they are written.
const TAIL_BYTES_KEPT_MAX: usize = 64 * 1024;

/// Pieces gathered into one write.
const PIECES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct WriteQueue {
    pieces: VecDeque<Piece>,
    /// Small frames after the last piece.
    tail: BytesMut,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// Somebody waits until everything before this is written.
    Mark(oneshot::Sender<()>),
}

impl WriteQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES_FULL
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        if bytes.len() < LARGE_BYTES {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.finish_tail();
            self.pieces.push_back(Piece::Bytes(bytes));
        }
    }

    /// Appends what `encode` writes, which should be small.
    pub(super) fn encode(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        encode(&mut self.tail);
        self.bytes += self.tail.len() - before;
    }

    pub(super) fn mark(&mut self, done: oneshot::Sender<()>) {
        self.finish_tail();
        self.pieces.push_back(Piece::Mark(done));
    }

    /// Writes until nothing is left (`Ready`) or the socket takes no more (`Pending`). Whether anything was written.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<bool>> {
        let mut is_written = false;
        loop {
            self.tell_marks();
            if self.is_empty() {
                if self.tail.capacity() > TAIL_BYTES_KEPT_MAX {
                    self.tail = BytesMut::new();
                }
                return Poll::Ready(Ok(is_written));
            }
            match self.poll_write_once(context, socket)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => {
                    self.advance(written);
                    is_written = true;
                }
                Poll::Pending if is_written => return Poll::Ready(Ok(true)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Small frames alone leave from where they were encoded; a gathered write costs more than a plain one.
    fn poll_write_once<S: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        if self.pieces.is_empty() {
            return socket.poll_write(context, &self.tail);
        }
        self.finish_tail();
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        for piece in &self.pieces {
            if let Piece::Bytes(bytes) = piece
                && let Some(slice) = slices.get_mut(count)
            {
                *slice = IoSlice::new(bytes);
                count += 1;
            } else {
                break;
            }
        }
        socket.poll_write_vectored(context, &slices[..count])
    }

    fn finish_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(Piece::Bytes(self.tail.split().freeze()));
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        if self.pieces.is_empty() {
            return self.tail.advance(written);
        }
        while written > 0
            && let Some(Piece::Bytes(bytes)) = self.pieces.front_mut()
        {
            if bytes.len() > written {
                bytes.advance(written);
                return;
            }
            written -= bytes.len();
            self.pieces.pop_front();
        }
    }

    fn tell_marks(&mut self) {
        while matches!(self.pieces.front(), Some(Piece::Mark(_)))
            && let Some(Piece::Mark(done)) = self.pieces.pop_front()
        {
            // Whoever waited may have stopped.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Takes a few bytes at a time.
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
            if count == 0 {
                return Poll::Pending;
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
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
        fn everything_arrives_in_order_and_marks_are_told_in_time(
            sizes in prop::collection::vec(prop_oneof![0usize..40, 4000usize..6000], 1..30),
            rooms in prop::collection::vec(0usize..9000, 1..40),
        ) {
            let mut queue = WriteQueue::default();
            let mut expected = Vec::new();
            let mut marks = Vec::new();
            for (index, size) in sizes.into_iter().enumerate() {
                let bytes = vec![index as u8; size];
                expected.extend_from_slice(&bytes);
                if index % 2 == 0 {
                    queue.push(bytes.into());
                } else {
                    queue.encode(|tail| tail.extend_from_slice(&bytes));
                }
                if index % 3 == 0 {
                    let (done, told) = oneshot::channel();
                    queue.mark(done);
                    marks.push((expected.len(), told));
                }
            }
            prop_assert_eq!(queue.bytes, expected.len());
            let mut socket = Narrow { taken: Vec::new(), room: 0 };
            for room in rooms.into_iter().chain([usize::MAX]) {
                socket.room = room;
                let mut context = Context::from_waker(Waker::noop());
                let before = socket.taken.len();
                let polled = queue.poll_write(&mut context, &mut socket);
                let wrote = socket.taken.len() > before;
                if let Poll::Ready(is_written) = polled {
                    prop_assert_eq!(is_written.expect("the socket does not fail"), wrote);
                } else {
                    prop_assert!(!wrote);
                }
                for (end, told) in &mut marks {
                    let is_told = told.is_terminated() || told.try_recv().is_ok();
                    prop_assert_eq!(is_told, socket.taken.len() >= *end, "mark at {}", end);
                }
            }
            prop_assert!(queue.is_empty());
            prop_assert_eq!(queue.bytes, 0);
            prop_assert_eq!(socket.taken, expected);
        }
    }
}
