//! Mandatory messages that reached no queue go back.

use bytes::BytesMut;

use crate::broker::Returned;
use crate::message::Items;
use crate::model::{Refusal, ReplyCode};
use crate::wire::{encode_return, pb};

/// No more messages go back while so many bytes wait to be written.
pub(super) const RETURNS_BYTES_MAX: usize = 256 * 1024;

/// Appends messages that go back.
pub(super) fn put_returned(returned: &Returned<Items>, out: &mut BytesMut) {
    let Returned { channel, publisher, first_sequence, origin, messages, range } = returned;
    let reason = Refusal::new(ReplyCode::NoRoute, "no queue is bound for this message");
    for index in range.clone() {
        let index = index as usize;
        let head = pb::Return {
            publisher: *publisher,
            sequence: if *first_sequence == 0 { 0 } else { first_sequence + index as u64 },
            exchange: origin.exchange.to_string(),
            routing_key: messages.key(index).unwrap_or(&origin.routing_key).to_owned(),
            reason: Some((&reason).into()),
            message: None,
        };
        // An item was checked when its frame was decoded.
        let _ = encode_return(*channel, head, messages.run.item(index), out);
    }
}
