//! A chunk of a backlog: messages that can be reached one by one, or packed ones.
//!
//! A reference has room for the size of a message in steps of 16 KiB. What the sizes are beyond that stands beside the
//! references, in two bytes each, in chunks that hold a large message.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use super::message_ref::MessageRef;
use super::packed::{PACKED_MAX, Packed};

/// Messages in a chunk at most.
pub(super) const CHUNK_MESSAGES: usize = PACKED_MAX;

#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) messages: Messages,
    pub(super) live: u32,
}

#[derive(Debug)]
pub(super) enum Messages {
    Open(OpenMessages),
    Packed(Packed),
}

/// References in rising order; those of messages that have left are dead.
#[derive(Debug, Default)]
pub(super) struct OpenMessages {
    refs: Vec<MessageRef>,
    /// What each reference does not tell of the size; empty if that is nothing for all of them.
    remainders: Vec<u16>,
}

impl OpenMessages {
    /// None yet, with room for so many.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { refs: Vec::with_capacity(capacity), remainders: Vec::new() }
    }

    /// What [`Packed::unpack`] gives.
    pub(super) fn new(refs: Vec<MessageRef>, remainders: Vec<u16>) -> Self {
        debug_assert!(remainders.is_empty() || remainders.len() == refs.len());
        Self { refs, remainders }
    }

    pub(super) fn refs(&self) -> &[MessageRef] {
        &self.refs
    }

    pub(super) fn capacity(&self) -> usize {
        self.refs.capacity()
    }

    /// Memory that they take.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.refs.capacity() * size_of::<MessageRef>() + self.remainders.capacity() * size_of::<u16>()
    }

    /// Adds one at the end, with what its reference does not tell of its size.
    pub(super) fn push(&mut self, message: MessageRef, remainder: u16) {
        if remainder != 0 || !self.remainders.is_empty() {
            self.remainders.resize(self.refs.len(), 0);
            self.remainders.push(remainder);
        }
        self.refs.push(message);
    }

    /// Puts one in its place, with what its reference does not tell of its size.
    pub(super) fn insert(&mut self, at: usize, message: MessageRef, remainder: u16) {
        if remainder != 0 || !self.remainders.is_empty() {
            self.remainders.resize(self.refs.len(), 0);
            self.remainders.insert(at, remainder);
        }
        self.refs.insert(at, message);
    }

    /// All of them, with what their references do not tell of their sizes.
    pub(super) fn each(&self) -> impl Iterator<Item = (MessageRef, u16)> {
        let remainder = |at: usize| self.remainders.get(at).copied().unwrap_or(0);
        self.refs.iter().enumerate().map(move |(at, message)| (*message, remainder(at)))
    }

    /// Takes those at these places out.
    pub(super) fn take(&mut self, places: Range<usize>) -> impl Iterator<Item = (MessageRef, u16)> {
        let remainders: Vec<u16> = match self.remainders.is_empty() {
            true => vec![0; places.len()],
            false => self.remainders.drain(places.clone()).collect(),
        };
        let refs: Vec<MessageRef> = self.refs.drain(places).collect();
        refs.into_iter().zip(remainders)
    }

    /// The references, to mark some dead, and what they do not tell of the sizes: nothing if there is none at an offset.
    pub(super) fn parts_mut(&mut self) -> (&mut [MessageRef], &[u16]) {
        (&mut self.refs, &self.remainders)
    }

    /// Forgets the dead.
    pub(super) fn retain_live(&mut self) {
        if !self.remainders.is_empty() {
            let mut refs = self.refs.iter();
            self.remainders.retain(|_| refs.next().is_some_and(|message| !message.is_dead()));
        }
        self.refs.retain(|message| !message.is_dead());
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.refs.shrink_to_fit();
        self.remainders.shrink_to_fit();
    }

    pub(super) fn clear(&mut self) {
        self.refs.clear();
        self.remainders = Vec::new();
    }

    /// What is live, packed. At least one is.
    fn packed(&self) -> Packed {
        if self.refs.iter().all(|message| !message.is_dead()) {
            return Packed::pack(&self.refs, &self.remainders);
        }
        let mut live = Self { refs: self.refs.clone(), remainders: self.remainders.clone() };
        live.retain_live();
        Packed::pack(&live.refs, &live.remainders)
    }
}

/// Live messages with these sequences, oldest first, of chunks in order.
pub(super) fn live_in(chunks: &VecDeque<Chunk>, range: Range<u64>) -> impl Iterator<Item = MessageRef> {
    let first = chunks.partition_point(|chunk| chunk.last_sequence() < range.start);
    let (start, end) = (range.start, range.end);
    chunks
        .range(first..)
        .take_while(move |chunk| chunk.first_sequence() < end)
        .flat_map(Chunk::live_messages)
        .filter(move |message| (start..end).contains(&message.sequence()))
}

impl Chunk {
    /// Memory that its messages take.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.messages {
            Messages::Open(messages) => messages.memory_bytes(),
            Messages::Packed(packed) => packed.memory_bytes(),
        }
    }

    /// An open one without messages.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { messages: Messages::Open(OpenMessages::with_capacity(capacity)), live: 0 }
    }

    pub(super) fn last_sequence(&self) -> u64 {
        match &self.messages {
            Messages::Open(messages) => messages.refs.last().map_or(0, |message| message.sequence()),
            Messages::Packed(packed) => packed.last_sequence(),
        }
    }

    pub(super) fn first_sequence(&self) -> u64 {
        match &self.messages {
            Messages::Open(messages) => messages.refs.first().map_or(0, |message| message.sequence()),
            Messages::Packed(packed) => packed.first_sequence(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        matches!(&self.messages, Messages::Open(messages) if messages.refs.len() < CHUNK_MESSAGES)
    }

    /// The messages of an open chunk.
    pub(super) fn open(&self) -> &[MessageRef] {
        match &self.messages {
            Messages::Open(messages) => &messages.refs,
            Messages::Packed(_) => &[],
        }
    }

    pub(super) fn open_mut(&mut self) -> Option<&mut OpenMessages> {
        match &mut self.messages {
            Messages::Open(messages) => Some(messages),
            Messages::Packed(_) => None,
        }
    }

    /// All live messages.
    pub(super) fn live_messages(&self) -> impl Iterator<Item = MessageRef> {
        let (open, unpacked) = match &self.messages {
            Messages::Open(messages) => (&messages.refs[..], Vec::new()),
            Messages::Packed(packed) => (&[][..], packed.unpack().0),
        };
        open.iter().copied().chain(unpacked).filter(|message| !message.is_dead())
    }

    /// Its live messages as a checkpoint holds them. There is at least one.
    pub(super) fn to_packed(&self) -> Cow<'_, Packed> {
        match &self.messages {
            Messages::Packed(packed) => Cow::Borrowed(packed),
            Messages::Open(messages) => Cow::Owned(messages.packed()),
        }
    }

    pub(super) fn pack(&mut self) -> bool {
        if self.live == 0 {
            return false;
        }
        let Messages::Open(messages) = &self.messages else { return false };
        self.messages = Messages::Packed(messages.packed());
        true
    }

    /// Makes its messages reachable one by one; whether they were packed.
    pub(super) fn unpack(&mut self) -> bool {
        let Messages::Packed(packed) = &self.messages else { return false };
        let (refs, remainders) = packed.unpack();
        self.messages = Messages::Open(OpenMessages::new(refs, remainders));
        true
    }
}
