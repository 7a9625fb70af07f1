//! A message as bytes: how it is laid out, in what shape many travel, and what is read of it.
//!
//! Owns the one form in which messages are stored and passed on, the checks that bring what clients send into it, and the
//! parts that the broker reads of it: size, routing key, headers. Must never know frames, queues or files, or trust a length
//! that it was told. Start reading at `item.rs`, which draws the form, then [`MessageRun`], the shape in which messages
//! travel through the broker.

mod death;
mod delivered;
mod encode;
mod fault;
mod fields;
pub(crate) mod item;
mod items;
pub(crate) mod properties;
mod reader;
mod regular;
mod run;
mod run_scan;
mod text;
mod varint;
mod without_header;

pub use death::{DEAD_LETTER_PROPERTIES_BYTES_MAX, DeadLetter, DeadLetterWriter, Death};
pub use delivered::{
    DeliveredItem, DeliveredView, body_and_encoding_of, headers_of, message_id_of, message_of, priority_of,
    properties_of,
};
pub use encode::{
    encode_annotated_item, encode_event_properties, encode_headers, encode_item, encode_priority,
    encode_redelivered_item, encode_resent_item, item_len,
};
pub use fault::ItemFault;
pub use items::{Delay, Expiration, Items};
pub use properties::FIELD_DEPTH_MAX;
pub use run::{MessageRun, MessageRunBuilder, message_ends};
pub use text::Text;

pub(crate) use delivered::regular_parts;
pub(crate) use encode::{bytes_field_len, number_field_len, put_bytes_field, put_number_field};
pub(crate) use reader::{Broken, LENGTH, Reader, VARINT, key};
pub(crate) use regular::{WrittenBy, append_regular};
pub(crate) use run_scan::{ENDS_RESERVED_MAX, RunScan};
pub(crate) use varint::{put_varint, varint_len};
