//! What was read from a socket and is not taken yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Room for one read of a client that sends much.
const READ_BYTES: usize = 64 * 1024;
/// Room for one read of a client that is not known to: before it is logged in, and while it sends little. Thousands of
/// idle connections hold this and no more.
const READ_BYTES_AT_FIRST: usize = 2 * 1024;
/// Room that is too little for another read of a client that sends much.
const READ_BYTES_MIN: usize = 8 * 1024;

/// Bytes on their way in.
#[derive(Debug, Default)]
pub(in crate::server) struct Inbox {
    buffer: BytesMut,
    /// A read filled all the room there was, and that was not just the end of it.
    is_busy: bool,
    /// Bytes ever read.
    read: u64,
}

impl Inbox {
    /// Bytes ever read.
    pub(in crate::server) fn read(&self) -> u64 {
        self.read
    }

    /// The first bytes that wait.
    pub(in crate::server) fn first(&self) -> Option<[u8; 4]> {
        self.buffer.first_chunk().copied()
    }

    /// What was read, for frames to be taken from its front.
    pub(in crate::server) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Reads more; the number of bytes, 0 at the end of the stream.
    pub(in crate::server) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut (impl AsyncRead + Unpin),
        logged_in: bool,
    ) -> Poll<io::Result<usize>> {
        let (least, room) = match self.is_busy && logged_in {
            true => (READ_BYTES_MIN, READ_BYTES),
            false => (1, READ_BYTES_AT_FIRST),
        };
        if self.buffer.capacity() - self.buffer.len() < least {
            self.buffer.reserve(room);
        }
        let filled = poll_read_buf(Pin::new(socket), context, &mut self.buffer);
        if let Poll::Ready(Ok(bytes)) = filled {
            self.read += bytes as u64;
            self.is_busy |= bytes >= READ_BYTES_AT_FIRST / 2 && self.buffer.len() == self.buffer.capacity();
        }
        filled
    }

    /// Forgets what is there.
    pub(in crate::server) fn clear(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Gives memory back that nothing has used for a while.
    pub(in crate::server) fn relax(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.is_busy = false;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::split_frame;

    fn fill(inbox: &mut Inbox, mut bytes: &[u8], logged_in: bool) {
        let mut context = Context::from_waker(Waker::noop());
        while !bytes.is_empty() {
            assert!(inbox.poll_fill(&mut context, &mut bytes, logged_in).is_ready());
        }
    }

    fn heartbeats(count: usize) -> Vec<u8> {
        [0, 0, 0, 2, 0x4a, 0].repeat(count)
    }

    fn take_all(inbox: &mut Inbox) -> usize {
        std::iter::from_fn(|| split_frame(inbox.buffer(), 1024).unwrap()).count()
    }

    #[test]
    fn a_client_that_says_little_holds_little() {
        let mut inbox = Inbox::default();
        for _ in 0..10_000 {
            fill(&mut inbox, &heartbeats(1), true);
            assert_eq!(take_all(&mut inbox), 1);
            assert!(inbox.buffer.capacity() <= 2 * READ_BYTES_AT_FIRST, "{}", inbox.buffer.capacity());
        }
    }

    #[test]
    fn a_client_that_sends_much_gets_room_until_it_is_quiet() {
        let mut inbox = Inbox::default();
        fill(&mut inbox, &heartbeats(1_000), true);
        assert!(inbox.buffer.capacity() >= READ_BYTES_MIN);
        inbox.relax();
        assert_eq!(take_all(&mut inbox), 1_000, "what is there is not forgotten");
        inbox.relax();
        assert_eq!(inbox.buffer.capacity(), 0);
        fill(&mut inbox, &heartbeats(1), true);
        assert!(inbox.buffer.capacity() <= READ_BYTES_AT_FIRST);
    }

    #[test]
    fn nobody_gets_much_room_before_the_login() {
        let mut inbox = Inbox::default();
        for _ in 0..100 {
            fill(&mut inbox, &heartbeats(300), false);
            take_all(&mut inbox);
            assert!(inbox.buffer.capacity() <= 2 * READ_BYTES_AT_FIRST, "{}", inbox.buffer.capacity());
        }
    }
}
