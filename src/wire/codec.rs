//! Cutting a byte stream into frames, and the codec traits of tokio-util on top of it.

use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::decode::decode_frame_from;
use super::encode::{LENGTH_PREFIX_BYTES, encode_frame};
use super::error::WireError;
use super::frame::WireFrame;
use super::kinds::Side;
use super::pb;
use crate::model::in_words;

/// Most bytes reserved at a time for a frame that has not arrived yet: what a peer announces costs nothing until it
/// sends it.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// Takes the first complete frame out of `buffer`, without its length prefix. `None`: more bytes are needed.
pub fn split_frame(buffer: &mut BytesMut, frame_bytes_max: usize) -> Result<Option<Bytes>, WireError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > frame_bytes_max {
        return Err(WireError::TooLong { length, max: frame_bytes_max });
    }
    if length == 0 {
        return Err(WireError::Empty);
    }
    let whole = LENGTH_PREFIX_BYTES + length;
    if buffer.len() < whole {
        buffer.reserve((whole - buffer.len()).min(RESERVE_BYTES_MAX));
        return Ok(None);
    }
    let mut frame = buffer.split_to(whole).freeze();
    frame.advance(LENGTH_PREFIX_BYTES);
    Ok(Some(frame))
}

/// Frames over a byte stream, for `tokio_util::codec::Framed`.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    /// Largest frame taken, in bytes after its length prefix. Raise it when the handshake is over.
    pub frame_bytes_max: usize,
    /// Who is at the other end.
    pub peer: Side,
}

/// Why a stream of frames ended.
#[derive(Debug)]
pub enum CodecError {
    /// The peer sent what is not a frame that can be worked with.
    Wire(WireError),
    /// The stream failed.
    Io(io::Error),
}

impl Decoder for FrameCodec {
    type Item = WireFrame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<WireFrame>, CodecError> {
        match split_frame(buffer, self.frame_bytes_max)? {
            Some(frame) => Ok(Some(decode_frame_from(self.peer, frame)?)),
            None => Ok(None),
        }
    }
}

impl Encoder<pb::Frame> for FrameCodec {
    type Error = CodecError;

    /// Refuses a frame without a body, or one larger than the peer takes.
    fn encode(&mut self, frame: pb::Frame, out: &mut BytesMut) -> Result<(), CodecError> {
        let Some(body) = &frame.body else { return Err(WireError::Empty.into()) };
        let length = prost::Message::encoded_len(&frame);
        if length > self.frame_bytes_max {
            return Err(WireError::TooLong { length, max: self.frame_bytes_max }.into());
        }
        encode_frame(frame.channel, frame.request, body, out);
        Ok(())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(error) => error.fmt(f),
            Self::Io(error) => in_words(error).fmt(f),
        }
    }
}

impl std::error::Error for CodecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wire(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<WireError> for CodecError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
