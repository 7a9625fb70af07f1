//! Publish: messages on their way in, taken as a slice of their frame.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{ENDS_RESERVED_MAX, collect_items};
use crate::model::MessageRun;
use crate::wire::error::{ItemFault, WireError};
use crate::wire::frame::{Items, KeySpan, Publish};
use crate::wire::item::{self, ItemParts};
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

pub(super) fn decode_publish(frame: &Bytes, range: Range<usize>, channel: u32) -> Result<Publish, WireError> {
    const PUBLISHER: u32 = key(1, VARINT);
    const FIRST_SEQUENCE: u32 = key(2, VARINT);
    const TARGET: u32 = key(3, LENGTH);
    const ITEMS: u32 = key(5, LENGTH);

    let mut head = PublishHead::default();
    let mut run = RunScan::new(range.end);
    let mut reader = Reader::within(frame, range.clone());
    while !reader.is_done() {
        let start = reader.position();
        match reader.key()? {
            PUBLISHER => head.publisher = reader.varint()? as u32,
            FIRST_SEQUENCE => head.first_sequence = reader.varint()?,
            TARGET => merge_target(frame, reader.range()?, &mut head.target)?,
            ITEMS => {
                let item = reader.range()?;
                if run.is_regular {
                    run.scan(frame, start, item.end);
                }
            }
            key if matches!(key >> 3, 1..=3 | 5) => {
                return Err(reader.broken("a Publish with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    let items = if run.is_regular {
        run.finish(frame)
    } else {
        regular_items(frame, range)?.map_err(|fault| WireError::BadItem {
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

/// Collects items that lie back to back in regular form.
struct RunScan {
    is_regular: bool,
    start: usize,
    /// Where the last item ended, and the next one must begin.
    end: usize,
    /// No item reaches beyond.
    limit: usize,
    ends: Vec<u32>,
    keys: Vec<KeySpan>,
    body_bytes_max: usize,
    body_bytes: usize,
}

impl RunScan {
    fn new(limit: usize) -> Self {
        Self {
            is_regular: true,
            start: 0,
            end: 0,
            limit,
            ends: Vec::new(),
            keys: Vec::new(),
            body_bytes_max: 0,
            body_bytes: 0,
        }
    }

    /// Takes the item that begins at `start` and ends at `end`.
    #[inline]
    fn scan(&mut self, bytes: &[u8], start: usize, end: usize) {
        if self.ends.is_empty() {
            self.start = start;
            self.end = start;
            // Messages of a frame are mostly of one size.
            self.ends.reserve_exact(((self.limit - start) / (end - start)).min(ENDS_RESERVED_MAX));
        }
        if start != self.end {
            self.is_regular = false;
            return;
        }
        match item::scan_published(&bytes[..end], start) {
            Some(parts) if parts.end == end => self.take(parts),
            _ => self.is_regular = false,
        }
    }

    #[inline]
    fn take(&mut self, parts: ItemParts) {
        if parts.routing_key.is_present() {
            self.keys.resize(self.ends.len(), KeySpan::ABSENT);
            self.keys.push(parts.routing_key.relative_to(self.start));
        }
        self.body_bytes_max = self.body_bytes_max.max(parts.body.len());
        self.body_bytes += parts.body.len();
        self.end = parts.end;
        self.ends.push((parts.end - self.start) as u32);
    }

    fn finish(self, frame: &Bytes) -> Items {
        Items {
            run: MessageRun::new(frame.slice(self.start..self.end), self.ends),
            keys: self.keys,
            body_bytes_max: self.body_bytes_max,
            body_bytes: self.body_bytes,
        }
    }
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
    let mut scan = RunScan::new(run.len());
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(run.len());
        scan.scan(&run, start, end);
        if !scan.is_regular {
            return fault_at(index, ItemFault::Malformed { what: "no regular form", offset: start });
        }
    }
    Ok(Ok(scan.finish(&run)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_item;

    #[test]
    fn a_tiny_first_message_does_not_reserve_for_millions() {
        let mut run = BytesMut::new();
        encode_item(&[], &[], None, false, &mut run);
        let end = run.len();
        let mut scan = RunScan::new(16 * 1024 * 1024);
        scan.scan(&run, 0, end);
        assert!(scan.is_regular);
        assert_eq!(scan.ends.capacity(), ENDS_RESERVED_MAX);
    }
}
