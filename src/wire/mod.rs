//! Bytes to frames and back.
//!
//! Owns the form of everything on the wire: length prefixes, the protobuf messages generated from `proto/`, the
//! hand-written reading and writing of the hot frames, and what speakers of other protocols are told. Must never
//! decide what a frame means, keep state between frames, or trust a length it was told. Start reading at
//! [`WireFrame`], then [`decode_frame`]; `item.rs` draws the one form in which messages are stored and passed on.

mod codec;
mod convert;
mod decode;
mod delivered;
mod encode;
mod error;
mod foreign;
mod frame;
mod item;
mod kinds;
mod properties;
mod reader;
mod regular;
#[cfg(test)]
mod tests;
mod text;
mod varint;

/// The protocol's messages, generated from `proto/` by prost and held to it by a test.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod pb {
    include!("../../proto/generated/leveret.v1.rs");
}

pub use codec::{CodecError, FrameCodec, split_frame};
pub use convert::{UnknownDurability, UnknownReplyCode};
pub use decode::{CONTROL_FRAME_BYTES_MAX, decode_frame, decode_frame_from};
pub use delivered::{DeliveredItem, DeliveredView, headers_of, message_of};
pub use encode::{
    DELIVER_HEAD_BYTES_MAX, LENGTH_PREFIX_BYTES, PUBLISH_HEAD_BYTES_MAX, REDELIVERED_BYTES_MAX,
    encode_confirm, encode_deliver_head, encode_frame, encode_got, encode_item, encode_publish_head,
    encode_redelivered_item, encode_resent_item, encode_return, encode_settle, item_len,
};
pub use error::{ItemFault, WireError};
pub use foreign::Foreign;
pub use frame::{Body, Deliver, Items, Publish, WireFrame};
pub use kinds::Side;
pub use properties::FIELD_DEPTH_MAX;
pub use text::Text;
