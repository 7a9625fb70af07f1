//! Bytes to frames.
//!
//! The four hot kinds are read by hand, everything else by generated code. Reading by hand obeys protobuf's rules all
//! the same: fields in any order, unknown ones skipped, repeated ones merged.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::error::{ItemFault, WireError};
use super::frame::{Body, Deliver, Items, KeySpan, Publish, WireFrame};
use super::item::{self, ItemParts};
use super::kinds::{self, Kind, Side};
use super::pb;
use super::reader::{Broken, LENGTH, Reader, VARINT, key};
use super::regular::{Origin, append_regular};
use super::text::Text;
use super::varint::put_varint;
use crate::model::MessageRun;

/// Largest frame that a client may send if it carries no messages, in bytes. Generated code turns two bytes of an
/// empty submessage into dozens in memory; this bounds the product.
pub const CONTROL_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Decodes a frame that came from either side: the bytes after the length prefix. Messages are not copied.
pub fn decode_frame(frame: Bytes) -> Result<WireFrame, WireError> {
    let head = read_head(&frame)?;
    decode_body(frame, head)
}

/// Decodes a frame like [`decode_frame`], but without looking into one that `sender` must not send, or that is larger
/// than a frame of its kind may be.
pub fn decode_frame_from(sender: Side, frame: Bytes) -> Result<WireFrame, WireError> {
    let head = read_head(&frame)?;
    if !head.kind.may_come_from(sender) {
        return Err(WireError::WrongSide {
            kind: head.kind.name,
            channel: head.channel,
            request: head.request,
        });
    }
    if sender == Side::Client && head.number != kinds::PUBLISH && frame.len() > CONTROL_FRAME_BYTES_MAX {
        return Err(WireError::TooLong { length: frame.len(), max: CONTROL_FRAME_BYTES_MAX });
    }
    decode_body(frame, head)
}

/// What surrounds a frame's body.
struct Head {
    channel: u32,
    request: u64,
    number: u32,
    kind: Kind,
    body: Range<usize>,
    /// The body came in several pieces, of which `body` is the last.
    is_split: bool,
}

fn read_head(frame: &[u8]) -> Result<Head, WireError> {
    const CHANNEL: u32 = key(1, VARINT);
    const REQUEST: u32 = key(2, VARINT);

    let (mut channel, mut request) = (0, 0);
    let mut body: Option<(u32, Kind, Range<usize>, bool)> = None;
    let mut unknown = None;
    let mut reader = Reader::new(frame);
    while !reader.is_done() {
        let key = reader.key()?;
        match (key, kinds::kind(key >> 3)) {
            (CHANNEL, _) => channel = reader.varint()? as u32,
            (REQUEST, _) => request = reader.varint()?,
            (_, Some(kind)) if key & 7 == LENGTH => {
                let number = key >> 3;
                let is_split = matches!(body, Some((earlier, ..)) if earlier == number);
                body = Some((number, kind, reader.range()?, is_split));
            }
            (_, Some(_)) => return Err(reader.broken("a frame's body that is no message").into()),
            (_, None) if key >> 3 <= 2 => {
                return Err(reader.broken("a frame's head with a wrong wire type").into());
            }
            (_, None) => {
                reader.skip(key)?;
                unknown = Some(key >> 3);
            }
        }
    }
    match (body, unknown) {
        (Some((number, kind, body, is_split)), _) => {
            Ok(Head { channel, request, number, kind, body, is_split })
        }
        (None, Some(field)) => Err(WireError::UnknownFrame { field, channel, request }),
        (None, None) => Err(WireError::Empty),
    }
}

fn decode_body(frame: Bytes, head: Head) -> Result<WireFrame, WireError> {
    let Head { channel, request, number, kind, .. } = head;
    let is_by_hand = matches!(number, kinds::PUBLISH | kinds::CONFIRM | kinds::DELIVER | kinds::SETTLE);
    if !is_by_hand {
        return decode_generated(frame, kind);
    }
    let (frame, range) = if head.is_split { join_body(&frame, number)? } else { (frame, head.body) };
    let body = match number {
        kinds::PUBLISH => Body::Publish(decode_publish(&frame, range, channel)?),
        kinds::CONFIRM => Body::Confirm(decode_confirm(&frame, range)?),
        kinds::DELIVER => Body::Deliver(decode_deliver(&frame, range)?),
        _ => Body::Settle(decode_settle(&frame, range)?),
    };
    Ok(WireFrame { channel, request, body })
}

fn decode_generated(frame: Bytes, kind: Kind) -> Result<WireFrame, WireError> {
    let malformed = WireError::Malformed { what: kind.name, offset: 0 };
    let frame = pb::Frame::decode(frame).map_err(|_| malformed.clone())?;
    let body = frame.body.ok_or(malformed)?;
    Ok(WireFrame { channel: frame.channel, request: frame.request, body: Body::Other(Box::new(body)) })
}

/// A body in several pieces means the same as the pieces joined, beginning with the last one that does not follow
/// another kind's.
fn join_body(frame: &[u8], number: u32) -> Result<(Bytes, Range<usize>), WireError> {
    let mut joined = BytesMut::new();
    let mut reader = Reader::new(frame);
    while !reader.is_done() {
        let key = reader.key()?;
        if key >> 3 == number {
            joined.extend_from_slice(&frame[reader.range()?]);
        } else {
            reader.skip(key)?;
            if kinds::kind(key >> 3).is_some() {
                joined.clear();
            }
        }
    }
    let end = joined.len();
    Ok((joined.freeze(), 0..end))
}

/// The head of a Publish, and its items if they could be taken as they are.
#[derive(Default)]
struct PublishHead {
    publisher: u32,
    first_sequence: u64,
    target: Option<pb::PublishTarget>,
}

fn decode_publish(frame: &Bytes, range: Range<usize>, channel: u32) -> Result<Publish, WireError> {
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
        regular_items(frame, range).map_err(|(items, index, why)| WireError::BadItem {
            channel,
            publisher: head.publisher,
            first_sequence: head.first_sequence,
            items,
            index,
            why,
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
            // Messages of a frame are mostly of one size. The estimate takes no more memory than the frame itself.
            self.ends.reserve_exact((self.limit - start) / (end - start));
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

/// Copies the items of a Publish into a fresh run in regular form. On failure: number of items, index of the one at
/// fault, and the fault.
#[cold]
fn regular_items(frame: &[u8], range: Range<usize>) -> Result<Items, (u32, u32, ItemFault)> {
    let mut items = Vec::new();
    collect_items(frame, range, &mut items).map_err(|broken| (0, 0, broken.into()))?;
    let count = items.len() as u32;
    let mut run = BytesMut::new();
    let mut starts = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        starts.push(run.len());
        append_regular(frame, item, Origin::Publisher, &mut run).map_err(|why| (count, index as u32, why))?;
    }
    let run = run.freeze();
    let mut scan = RunScan::new(run.len());
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(run.len());
        scan.scan(&run, start, end);
        if !scan.is_regular {
            let why = ItemFault::Malformed { what: "an item that has no regular form", offset: start };
            return Err((count, index as u32, why));
        }
    }
    Ok(scan.finish(&run))
}

/// Where the contents of all fields `items` lie.
fn collect_items(frame: &[u8], range: Range<usize>, items: &mut Vec<Range<usize>>) -> Result<(), Broken> {
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            key if key == super::reader::key(5, LENGTH) => items.push(reader.range()?),
            key => reader.skip(key)?,
        }
    }
    Ok(())
}

fn decode_deliver(frame: &Bytes, range: Range<usize>) -> Result<Deliver, WireError> {
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
                    ends.reserve_exact((reader.end() - start) / (reader.position() - start));
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
    let mut items = Vec::new();
    collect_items(frame, range, &mut items)?;
    let mut run = BytesMut::new();
    let mut ends = Vec::with_capacity(items.len());
    for item in items {
        put_varint(item::ITEMS.into(), &mut run);
        put_varint(item.len() as u64, &mut run);
        run.extend_from_slice(&frame[item]);
        ends.push(run.len() as u32);
    }
    Ok(MessageRun::new(run.freeze(), ends))
}

fn text(frame: &Bytes, range: Range<usize>) -> Result<Text, WireError> {
    let offset = range.start;
    Text::new(frame.slice(range))
        .map_err(|_| WireError::Malformed { what: "a text that is not UTF-8", offset })
}

fn decode_settle(frame: &[u8], range: Range<usize>) -> Result<pb::Settle, WireError> {
    const CONSUMER: u32 = key(1, VARINT);
    const RANGES: u32 = key(2, LENGTH);

    let mut settle = pb::Settle::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            CONSUMER => settle.consumer = reader.varint()? as u32,
            RANGES => settle.ranges.push(decode_settle_range(frame, reader.range()?)?),
            key if matches!(key >> 3, 1 | 2) => {
                return Err(reader.broken("a Settle with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(settle)
}

#[inline]
fn decode_settle_range(frame: &[u8], range: Range<usize>) -> Result<pb::SettleRange, WireError> {
    const FIRST: u32 = key(1, VARINT);
    const LAST: u32 = key(2, VARINT);
    const OUTCOME: u32 = key(3, VARINT);

    let mut settled = pb::SettleRange::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            FIRST => settled.first = reader.varint()?,
            LAST => settled.last = reader.varint()?,
            OUTCOME => settled.outcome = reader.varint()? as i32,
            key if matches!(key >> 3, 1..=3) => {
                return Err(reader.broken("a SettleRange with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(settled)
}

fn decode_confirm(frame: &Bytes, range: Range<usize>) -> Result<pb::Confirm, WireError> {
    const PUBLISHER: u32 = key(1, VARINT);
    const RANGES: u32 = key(2, LENGTH);

    let mut confirm = pb::Confirm::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            PUBLISHER => confirm.publisher = reader.varint()? as u32,
            RANGES => confirm.ranges.push(decode_confirm_range(frame, reader.range()?)?),
            key if matches!(key >> 3, 1 | 2) => {
                return Err(reader.broken("a Confirm with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(confirm)
}

#[inline]
fn decode_confirm_range(frame: &Bytes, range: Range<usize>) -> Result<pb::ConfirmRange, WireError> {
    const FIRST: u32 = key(1, VARINT);
    const LAST: u32 = key(2, VARINT);
    const LEVEL: u32 = key(3, VARINT);
    const QUEUES: u32 = key(4, VARINT);
    const REFUSAL: u32 = key(5, LENGTH);

    let mut confirmed = pb::ConfirmRange::default();
    let mut reader = Reader::within(frame, range);
    while !reader.is_done() {
        match reader.key()? {
            FIRST => confirmed.first = reader.varint()?,
            LAST => confirmed.last = reader.varint()?,
            LEVEL => confirmed.level = reader.varint()? as i32,
            QUEUES => confirmed.queues = reader.varint()? as u32,
            REFUSAL => {
                let offset = reader.position();
                let refusal = &frame[reader.range()?];
                confirmed
                    .refusal
                    .get_or_insert_default()
                    .merge(refusal)
                    .map_err(|_| WireError::Malformed { what: "a refusal", offset })?;
            }
            key if matches!(key >> 3, 1..=5) => {
                return Err(reader.broken("a ConfirmRange with a wrong wire type").into());
            }
            key => reader.skip(key)?,
        }
    }
    Ok(confirmed)
}
