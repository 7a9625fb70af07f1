//! Bytes to frames and back.
//!
//! Owns the form of everything on the wire: length prefixes, the protobuf messages generated from `proto/`, the
//! hand-written reading and writing of the hot frames, and what speakers of other protocols are told. Must never
//! decide what a frame means, keep state between frames, or trust a length it was told. Start reading at
//! [`WireFrame`], then [`decode_frame`]; what a message is stands in [`message`](crate::message).

mod codec;
mod convert;
mod decode;
mod encode;
mod error;
mod foreign;
mod frame;
mod kinds;
#[cfg(test)]
mod tests;

pub use crate::pb;
pub use codec::{CodecError, FrameCodec, split_frame};
pub use convert::{UnknownDurability, UnknownReplyCode};
pub use decode::{CONTROL_FRAME_BYTES_MAX, decode_frame, decode_frame_from};
pub use encode::{
    DELIVER_HEAD_BYTES_MAX, LENGTH_PREFIX_BYTES, PUBLISH_HEAD_BYTES_MAX, REDELIVERED_BYTES_MAX,
    encode_confirm, encode_deliver_head, encode_frame, encode_got, encode_publish_head, encode_return,
    encode_settle,
};
pub use error::WireError;
pub use foreign::Foreign;
pub use frame::{Body, Deliver, Publish, WireFrame};
pub use kinds::Side;
