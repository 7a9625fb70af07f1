//! Deliver: messages on their way out.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::each_item;
use crate::message::Text;
use crate::message::item;
use crate::message::put_varint;
use crate::message::{ENDS_RESERVED_MAX, MessageRun};
use crate::message::{LENGTH, Reader, VARINT, key};
use crate::wire::error::WireError;
use crate::wire::frame::Deliver;

pub(super) fn decode_deliver(frame: &Bytes, range: Range<usize>) -> Result<Deliver, WireError> {
    const CONSUMER: u32 = key(1, VARINT);
    const FIRST_TAG: u32 = key(2, VARINT);
    const EXCHANGE: u32 = key(3, LENGTH);
    const ROUTING_KEY: u32 = key(4, LENGTH);
    const ITEMS: u32 = key(5, LENGTH);

    let (mut consumer, mut first_tag) = (0, 0);
    let (mut exchange, mut routing_key) = (Text::default(), Text::default());
    let mut ends: Vec<u32> = Vec::new();
    let mut run = 0..0;
    let mut is_contiguous = true;
    let mut reader = Reader::within(frame, range.clone());
    while !reader.is_done() {
        let start = reader.position();
        match reader.key()? {
            CONSUMER => consumer = reader.varint()? as u32,
            FIRST_TAG => first_tag = reader.varint()?,
            EXCHANGE => exchange = text(frame, reader.range()?)?,
            ROUTING_KEY => routing_key = text(frame, reader.range()?)?,
            ITEMS => {
                // A key may take more bytes than it needs; the run then gets one that does not.
                is_contiguous &= frame[start] == item::ITEMS;
                reader.range()?;
                if ends.is_empty() {
                    run = start..start;
                    let estimate = (reader.end() - start) / (reader.position() - start);
                    ends.reserve_exact(estimate.min(ENDS_RESERVED_MAX));
                }
                is_contiguous &= start == run.end;
                run.end = reader.position();
                ends.push((run.end - run.start) as u32);
            }
            key if matches!(key >> 3, 1..=5) => {
                return Err(reader.broken("a Deliver with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    let items =
        if is_contiguous { MessageRun::new(frame.slice(run), ends) } else { join_items(frame, range)? };
    Ok(Deliver { consumer, first_tag, exchange, routing_key, items })
}

#[cold]
fn join_items(frame: &[u8], range: Range<usize>) -> Result<MessageRun, WireError> {
    let mut run = BytesMut::with_capacity(range.len());
    let mut ends = Vec::new();
    each_item(frame, range, |item| {
        run.put_u8(item::ITEMS);
        put_varint(item.len() as u64, &mut run);
        run.extend_from_slice(&frame[item]);
        ends.push(run.len() as u32);
    })?;
    Ok(MessageRun::new(run.freeze(), ends))
}

fn text(frame: &Bytes, range: Range<usize>) -> Result<Text, WireError> {
    let offset = range.start;
    Text::new(frame.slice(range))
        .map_err(|_| WireError::Malformed { what: "a text that is not UTF-8", offset })
}
