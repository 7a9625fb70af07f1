//! The inner loop: published messages that lie back to back in regular form.

use std::ops::Range;

use bytes::{Buf, Bytes};

use super::item;
use super::items::{Delay, Expiration, Items, KeySpan};
use super::run::MessageRun;

/// Most places reserved at once for the ends of a run's messages.
pub(crate) const ENDS_RESERVED_MAX: usize = 4096;

/// Finds and checks a run of messages without copying them.
#[derive(Default)]
pub(crate) struct RunScan {
    /// Where the run lies in the bytes scanned.
    run: Range<usize>,
    ends: Vec<u32>,
    keys: Vec<KeySpan>,
    expirations: Vec<Expiration>,
    delays: Vec<Delay>,
    with_further_keys: Vec<u32>,
    asking_for_replies: Vec<u32>,
    body_bytes_max: usize,
    body_bytes: usize,
}

impl RunScan {
    /// Takes items from `start` on until something else follows. Whether all were regular and followed those that
    /// were taken before; if not, [`end`](Self::end) is where the first one that was not taken begins.
    #[inline]
    pub(crate) fn scan(&mut self, bytes: &[u8], start: usize) -> bool {
        if self.ends.is_empty() {
            self.run = start..start;
        } else if self.run.end != start {
            self.run.end = start;
            return false;
        }
        while bytes.get(self.run.end) == Some(&item::ITEMS) {
            if !self.take_one(bytes) {
                return false;
            }
        }
        true
    }

    /// Number of items taken.
    pub(crate) fn len(&self) -> u32 {
        self.ends.len() as u32
    }

    /// First byte after the items taken.
    pub(crate) fn end(&self) -> usize {
        self.run.end
    }

    #[inline]
    fn take_one(&mut self, bytes: &[u8]) -> bool {
        let start = self.run.end;
        let (end, body_bytes) = if let Some(plain) = item::scan_plain(bytes, start) {
            plain
        } else if let Some((parts, heeded)) = item::scan_published(bytes, start) {
            if parts.routing_key.is_present() {
                self.keys.resize(self.ends.len(), KeySpan::ABSENT);
                self.keys.push(parts.routing_key.relative_to(self.run.start));
            }
            if let Some(after_millis) = heeded.expiration_ms {
                self.expirations.push(Expiration { index: self.ends.len() as u32, after_millis });
            }
            if heeded.delay_ms.is_some() || heeded.deliver_at_ms.is_some() {
                let (after_millis, at_millis) = (heeded.delay_ms, heeded.deliver_at_ms);
                self.delays.push(Delay { index: self.ends.len() as u32, after_millis, at_millis });
            }
            if heeded.has_further_keys {
                self.with_further_keys.push(self.ends.len() as u32);
            }
            if heeded.asks_for_replies {
                self.asking_for_replies.push(self.ends.len() as u32);
            }
            (parts.end, parts.body.len())
        } else {
            return false;
        };
        if self.ends.is_empty() {
            // Messages of a frame are mostly of one size.
            let estimate = (bytes.len() - start) / (end - start);
            self.ends = Vec::with_capacity(estimate.min(ENDS_RESERVED_MAX));
        }
        self.ends.push((end - self.run.start) as u32);
        self.run.end = end;
        self.body_bytes_max = self.body_bytes_max.max(body_bytes);
        self.body_bytes += body_bytes;
        true
    }

    /// The run, cut out of the bytes that were scanned.
    pub(crate) fn finish(self, mut bytes: Bytes) -> Items {
        bytes.truncate(self.run.end);
        bytes.advance(self.run.start);
        Items {
            run: MessageRun::new(bytes, self.ends),
            keys: self.keys,
            expirations: self.expirations,
            delays: self.delays,
            with_further_keys: self.with_further_keys,
            asking_for_replies: self.asking_for_replies,
            body_bytes_max: self.body_bytes_max,
            body_bytes: self.body_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::message::{encode_headers, encode_item};
    use crate::model::{FieldTable, FieldValue};

    #[test]
    fn a_tiny_first_message_does_not_reserve_for_millions() {
        let mut run = BytesMut::new();
        encode_item(&[], &[], None, false, &mut run);
        encode_item(&[], &vec![0; 16 * 1024 * 1024], None, false, &mut run);
        let mut scan = RunScan::default();
        assert!(scan.scan(&run, 0));
        assert_eq!(scan.ends.len(), 2);
        assert_eq!(scan.ends.capacity(), ENDS_RESERVED_MAX);
    }

    #[test]
    fn it_is_told_which_messages_expire() {
        let (short, long) = ([7 << 3, 5], [7 << 3, 9, 7 << 3, 0]);
        let mut run = BytesMut::new();
        for properties in [&[][..], &short, &[], &long] {
            encode_item(properties, b"body", None, false, &mut run);
        }
        let mut scan = RunScan::default();
        assert!(scan.scan(&run, 0));
        let told = [(1, 5), (3, 0)].map(|(index, after_millis)| Expiration { index, after_millis });
        assert_eq!(scan.finish(run.freeze()).expirations(), told, "of several the last one holds");
    }

    #[test]
    fn it_is_told_which_messages_may_have_further_keys() {
        let of = |headers: FieldTable| encode_headers(&headers);
        let inner = FieldTable::from([("CC", FieldValue::from("a"))]);
        let properties = [
            Vec::new(),
            of(FieldTable::from([("a", "b".into()), ("BCC", FieldValue::Void)])),
            of(FieldTable::from([("cc", "b".into()), ("in", FieldValue::Table(inner.clone()))])),
            of(inner),
        ];
        let mut run = BytesMut::new();
        properties.iter().for_each(|properties| encode_item(properties, b"body", None, false, &mut run));
        let mut scan = RunScan::default();
        assert!(scan.scan(&run, 0));
        assert_eq!(scan.finish(run.freeze()).with_further_keys(), [1, 3]);
    }
}
