//! Deliveries to frames.

use bytes::{Bytes, BytesMut};

use super::super::socket::Outbox;
use crate::broker::{Delivery, Piece};
use crate::message::message_ends;
use crate::message::{ItemFault, encode_redelivered_item};
use crate::wire::{encode_deliver_head, encode_got, pb};

/// Messages of one frame together have about so many bytes; a larger one has a frame to itself.
const FRAME_BYTES: usize = 256 * 1024;

/// Appends the frames of a delivery.
///
/// Fails if what was stored is not what was published; nothing was appended of the messages from there on.
pub(super) fn put_delivery(delivery: &Delivery, outbox: &mut Outbox) -> Result<(), ItemFault> {
    let mut frame = Frame { delivery, tag: delivery.first_tag.0, pieces: Vec::new(), bytes: 0, count: 0 };
    let again = delivery.redelivered || delivery.delivery_count > 0;
    for piece in &delivery.pieces {
        if again {
            for item in items_of(&piece.bytes)? {
                let mut out = BytesMut::with_capacity(item.len() + 16);
                encode_redelivered_item(&item, delivery.redelivered, delivery.delivery_count, &mut out)?;
                frame.add(Piece { bytes: out.freeze(), count: 1 }, outbox);
            }
        } else if piece.bytes.len() > FRAME_BYTES && piece.count > 1 {
            for item in items_of(&piece.bytes)? {
                frame.add(Piece { bytes: item, count: 1 }, outbox);
            }
        } else {
            frame.add(piece.clone(), outbox);
        }
    }
    frame.finish(outbox);
    Ok(())
}

/// Appends the answer to a request for one message.
pub(super) fn put_got(
    request: u64,
    tag: u64,
    delivery: &Delivery,
    ready: u64,
    out: &mut BytesMut,
) -> Result<(), ItemFault> {
    let got = pb::Got {
        item: None,
        tag,
        exchange: delivery.origin.exchange.to_string(),
        routing_key: delivery.origin.routing_key.to_string(),
        messages_ready: ready,
    };
    let stored = delivery.pieces.first().map(|piece| &piece.bytes[..]).unwrap_or_default();
    let mut item = BytesMut::with_capacity(stored.len() + 16);
    encode_redelivered_item(stored, delivery.redelivered, delivery.delivery_count, &mut item)?;
    encode_got(delivery.consumer.channel, request, got, &item, out)
}

/// A frame that is being put together.
struct Frame<'a> {
    delivery: &'a Delivery,
    tag: u64,
    pieces: Vec<Bytes>,
    bytes: usize,
    count: u64,
}

impl Frame<'_> {
    fn add(&mut self, piece: Piece, outbox: &mut Outbox) {
        if self.count > 0 && self.bytes + piece.bytes.len() > FRAME_BYTES {
            self.finish(outbox);
        }
        self.bytes += piece.bytes.len();
        self.count += piece.count;
        self.pieces.push(piece.bytes);
    }

    fn finish(&mut self, outbox: &mut Outbox) {
        if self.count == 0 {
            return;
        }
        let key = self.delivery.consumer;
        let origin = &self.delivery.origin;
        let out = outbox.tail();
        encode_deliver_head(
            key.channel,
            key.handle,
            self.tag,
            &origin.exchange,
            &origin.routing_key,
            self.bytes,
            out,
        );
        self.pieces.drain(..).for_each(|piece| outbox.push(piece));
        self.tag += self.count;
        self.bytes = 0;
        self.count = 0;
    }
}

/// The messages in a piece, one by one.
fn items_of(piece: &Bytes) -> Result<impl Iterator<Item = Bytes>, ItemFault> {
    let ends = message_ends(piece).ok_or(ItemFault::Malformed { what: "stored messages", offset: 0 })?;
    let mut start = 0;
    Ok(ends.into_iter().map(move |end| {
        let item = piece.slice(start..end as usize);
        start = end as usize;
        item
    }))
}
