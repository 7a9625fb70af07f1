//! What was read from a socket and is not taken yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::wire::{Foreign, Side, WireError, WireFrame, decode_frame_from, split_frame};

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;
/// Room for one read before anybody is logged in.
const READ_BYTES_BEFORE_LOGIN: usize = 4 * 1024;
/// Room that is too little for another read.
const READ_BYTES_MIN: usize = 8 * 1024;

/// Bytes on their way in.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffer: BytesMut,
    /// Bytes ever read.
    read: u64,
}

/// What a look into the inbox found.
pub(super) enum Found {
    /// A whole frame, or what was wrong with it.
    Frame(Result<WireFrame, WireError>),
    /// More bytes are needed.
    Nothing,
}

impl Inbox {
    /// Bytes ever read.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The protocol that the first bytes are of, if it is another one.
    pub(super) fn foreign(&self) -> Option<Foreign> {
        Foreign::recognise(*self.buffer.first_chunk()?)
    }

    /// Takes the next frame.
    pub(super) fn next(&mut self, frame_bytes_max: usize) -> Found {
        match split_frame(&mut self.buffer, frame_bytes_max) {
            Ok(Some(frame)) => Found::Frame(decode_frame_from(Side::Client, frame)),
            Ok(None) => Found::Nothing,
            Err(error) => Found::Frame(Err(error)),
        }
    }

    /// Reads more; the number of bytes, 0 at the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut (impl AsyncRead + Unpin),
        logged_in: bool,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN {
            self.buffer.reserve(if logged_in { READ_BYTES } else { READ_BYTES_BEFORE_LOGIN });
        }
        let filled = poll_read_buf(Pin::new(socket), context, &mut self.buffer);
        if let Poll::Ready(Ok(bytes)) = filled {
            self.read += bytes as u64;
        }
        filled
    }

    /// Forgets what is there.
    pub(super) fn clear(&mut self) {
        self.buffer = BytesMut::new();
    }

    /// Gives memory back that nothing has used for a while.
    pub(super) fn relax(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}
