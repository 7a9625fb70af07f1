//! Messages in bulk.
//!
//! A run holds messages as the bytes their publisher encoded, back to back, each one a complete protobuf field
//! `items` (number 5) of a `Publish` frame. The same bytes are the field `items` of a `Deliver` frame. So messages
//! travel from the publisher's socket through the log to the consumer's socket by copying whole runs; nothing is
//! decoded or encoded on the way.

use bytes::{Bytes, BytesMut};

/// Messages back to back, and where each one ends.
#[derive(Debug, Clone, Default)]
pub struct MessageRun {
    bytes: Bytes,
    /// End of each message, relative to the first byte of `bytes`; rising; the last one is `bytes.len()`.
    ends: Vec<u32>,
}

impl MessageRun {
    /// A run over encoded items.
    ///
    /// # Panics
    /// If `ends` does not rise or does not end at the end of `bytes`: the caller built it from a scan of `bytes`.
    pub fn new(bytes: Bytes, ends: Vec<u32>) -> Self {
        assert_eq!(ends.last().copied().unwrap_or(0) as usize, bytes.len(), "a run ends where its bytes end");
        debug_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "message ends must rise");
        Self { bytes, ends }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All messages' bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Ends of the messages, relative to the first byte.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Where message `index` begins.
    pub fn start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.ends[index - 1] as usize }
    }

    /// The bytes of messages `first..end`, a complete run by themselves.
    pub fn range_bytes(&self, first: usize, end: usize) -> &[u8] {
        &self.bytes[self.start(first)..self.start(end)]
    }

    /// The bytes of one message, field tag and length included.
    pub fn item(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.ends[index] as usize]
    }
}

/// First byte of every message in a run: protobuf field 5, length-delimited.
const ITEM_TAG: u8 = 5 << 3 | 2;

/// Finds where each message of a stored run ends; `None` if the bytes are no run.
pub fn message_ends(run: &[u8]) -> Option<Vec<u32>> {
    let mut ends = Vec::new();
    let mut rest = run;
    while !rest.is_empty() {
        rest = rest.strip_prefix(&[ITEM_TAG])?;
        let length = prost::encoding::decode_varint(&mut rest).ok()?;
        rest = rest.get(usize::try_from(length).ok()?..)?;
        ends.push(u32::try_from(run.len() - rest.len()).ok()?);
    }
    Some(ends)
}

/// Collects messages into one run.
#[derive(Debug, Default)]
pub struct MessageRunBuilder {
    bytes: BytesMut,
    ends: Vec<u32>,
}

impl MessageRunBuilder {
    /// Appends one message: a complete encoded `items` field.
    pub fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The run.
    pub fn finish(self) -> MessageRun {
        MessageRun { bytes: self.bytes.freeze(), ends: self.ends }
    }
}
