//! Reads the pieces that protobuf is made of.

/// What is left of some bytes.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Where the rest begins in the body, in bytes.
    pub(super) position: usize,
}

/// How a field's bytes are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Length,
    GroupStart,
    GroupEnd,
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { rest: bytes, position }
    }

    pub(super) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number of the next field, and how it is marked. `None`: it is no key.
    pub(super) fn key(&mut self) -> Option<(u32, WireType)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Length,
            3 => WireType::GroupStart,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            _ => return None,
        };
        let number = key >> 3;
        (number > 0).then_some((number, wire_type))
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                // The tenth byte has one bit of a number of 64.
                if index == 9 && *byte > 1 {
                    return None;
                }
                self.take(index + 1)?;
                return Some(value);
            }
        }
        None
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        self.position += count;
        Some(taken)
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// Passes a value that no group is. `None`: it is cut short.
    pub(super) fn skip(&mut self, wire_type: WireType) -> Option<()> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::Length => self.bytes().map(drop),
            WireType::GroupStart | WireType::GroupEnd => Some(()),
        }
    }
}

impl WireType {
    /// In words for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Varint => "a varint",
            Self::Fixed64 => "8 bytes",
            Self::Fixed32 => "4 bytes",
            Self::Length => "bytes with their length",
            Self::GroupStart | Self::GroupEnd => "a group",
        }
    }
}
