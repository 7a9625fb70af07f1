//! Publish: messages on their way in, taken as a slice of their frame.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::each_item;
use crate::message::ItemFault;
use crate::message::Items;
use crate::message::RunScan;
use crate::message::item;
use crate::message::{Broken, LENGTH, Reader, VARINT, key};
use crate::message::{WrittenBy, append_regular};
use crate::wire::error::WireError;
use crate::wire::frame::Publish;
use crate::wire::pb;

/// What a Publish says besides its messages.
#[derive(Default)]
struct PublishHead {
    publisher: u32,
    first_sequence: u64,
    target: Option<pb::PublishTarget>,
}

pub(super) fn decode_publish(frame: Bytes, range: Range<usize>, channel: u32) -> Result<Publish, WireError> {
    const PUBLISHER: u32 = key(1, VARINT);
    const FIRST_SEQUENCE: u32 = key(2, VARINT);
    const TARGET: u32 = key(3, LENGTH);
    const ITEMS: u32 = key(5, LENGTH);

    let mut head = PublishHead::default();
    let mut run = RunScan::default();
    let mut is_regular = true;
    let mut reader = Reader::within(&frame, range.clone());
    while !reader.is_done() {
        if is_regular && reader.is_at(item::ITEMS) {
            is_regular = run.scan(&frame[..range.end], reader.position());
            reader.advance_to(run.end());
            if is_regular {
                continue;
            }
        }
        match reader.key()? {
            PUBLISHER => head.publisher = reader.varint()? as u32,
            FIRST_SEQUENCE => head.first_sequence = reader.varint()?,
            TARGET => merge_target(&frame, reader.range()?, &mut head.target)?,
            ITEMS => {
                // Irregular by itself, or its key takes more bytes than it needs.
                is_regular = false;
                reader.range()?;
            }
            key if matches!(key >> 3, 1..=3 | 5) => {
                return Err(reader.broken("a Publish with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    let items = if is_regular {
        run.finish(frame)
    } else {
        regular_items(&frame, range)?.map_err(|fault| WireError::BadItem {
            channel,
            publisher: head.publisher,
            first_sequence: head.first_sequence,
            items: fault.items,
            index: fault.index,
            why: fault.why,
        })?
    };
    let PublishHead { publisher, first_sequence, target } = head;
    Ok(Publish { publisher, first_sequence, target, items })
}

#[cold]
fn merge_target(
    frame: &[u8],
    range: Range<usize>,
    target: &mut Option<pb::PublishTarget>,
) -> Result<(), WireError> {
    let offset = range.start;
    target
        .get_or_insert_default()
        .merge(&frame[range])
        .map_err(|_| WireError::Malformed { what: "PublishTarget", offset })
}

/// Which message of a Publish is at fault.
struct FaultAt {
    items: u32,
    index: u32,
    why: ItemFault,
}

/// Copies the items of a Publish into a fresh run in regular form, which is never longer.
#[cold]
fn regular_items(frame: &[u8], range: Range<usize>) -> Result<Result<Items, FaultAt>, Broken> {
    let mut regular = BytesMut::with_capacity(range.len());
    let (mut items, mut fault) = (0, None);
    each_item(frame, range, |item| {
        if fault.is_none() {
            let outcome = append_regular(frame, item, WrittenBy::Publisher, &mut regular);
            fault = outcome.err().map(|why| (items, why));
        }
        items += 1;
    })?;
    let regular = regular.freeze();
    let mut run = RunScan::default();
    if fault.is_none() && !regular.is_empty() && !run.scan(&regular, 0) {
        fault = Some((run.len(), ItemFault::Malformed { what: "no regular form", offset: run.end() }));
    }
    Ok(match fault {
        None => Ok(run.finish(regular)),
        Some((index, why)) => Err(FaultAt { items, index, why }),
    })
}
