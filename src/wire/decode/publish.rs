//! Publish: messages on their way in, taken as a slice of their frame.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::collect_items;
use super::run::RunScan;
use crate::wire::error::{ItemFault, WireError};
use crate::wire::frame::{Items, Publish};
use crate::wire::item;
use crate::wire::pb;
use crate::wire::reader::{Broken, LENGTH, Reader, VARINT, key};
use crate::wire::regular::{Origin, append_regular};

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

/// Copies the items of a Publish into a fresh run in regular form.
#[cold]
fn regular_items(frame: &[u8], range: Range<usize>) -> Result<Result<Items, FaultAt>, Broken> {
    let items = collect_items(frame, range)?;
    let count = items.len() as u32;
    let fault_at = |index, why| Ok(Err(FaultAt { items: count, index: index as u32, why }));
    let mut run = BytesMut::new();
    let mut starts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        starts.push(run.len());
        if let Err(why) = append_regular(frame, item, Origin::Publisher, &mut run) {
            return fault_at(index, why);
        }
    }
    let run = run.freeze();
    let mut scan = RunScan::default();
    if !run.is_empty() && !scan.scan(&run, 0) {
        let index = starts.partition_point(|&start| start < scan.end());
        return fault_at(index, ItemFault::Malformed { what: "no regular form", offset: scan.end() });
    }
    Ok(Ok(scan.finish(run)))
}
