//! Answers to requests.

use bytes::BytesMut;

use crate::model::{Durability, Refusal};
use crate::wire::{encode_confirm, encode_frame, pb};

/// Appends `Done`, if an answer is wanted.
pub fn put_done(channel: u32, request: u64, out: &mut BytesMut) {
    if request != 0 {
        encode_frame(channel, request, &pb::frame::Body::Done(pb::Done {}), out);
    }
}

/// Appends `Error`: the answer to a request, or with request 0 word of something that went wrong on the channel.
pub fn put_error(channel: u32, request: u64, refusal: &Refusal, out: &mut BytesMut) {
    encode_frame(channel, request, &pb::frame::Body::Error(refusal.into()), out);
}

/// Appends word that the messages of a frame were refused: as a confirm if they have sequence numbers.
pub fn put_refused(
    channel: u32,
    publisher: u32,
    first_sequence: u64,
    count: u64,
    refusal: &Refusal,
    out: &mut BytesMut,
) {
    if first_sequence == 0 || count == 0 {
        return put_error(channel, 0, refusal, out);
    }
    let range = pb::ConfirmRange {
        first: first_sequence,
        last: first_sequence.saturating_add(count - 1),
        level: pb::DurabilityLevel::from(Durability::Memory).into(),
        queues: 0,
        refusal: Some(refusal.into()),
        first_journey: 0,
    };
    encode_confirm(channel, publisher, &[range], out);
}
