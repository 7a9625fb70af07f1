//! What messages lie in: the blocks of memory that are held by at least one of them, and how much of each is needed.
//!
//! Many turns fill one block, and a message keeps all of its block. So what is held is the sum of the blocks, not of the
//! messages; and where too little of the blocks is needed, what is needed should be copied out of them.

use std::collections::HashMap;

/// So much may be held for nothing, in all, before anything is copied.
const WASTE_BYTES_MIN: usize = 1024 * 1024;

/// A block of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Its address: no two have the same while they are held.
    pub(super) at: usize,
    /// Its length.
    pub(super) bytes: usize,
}

/// One that is held.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    bytes: usize,
    /// Bytes that are needed. It is let go with the last of them.
    needed: usize,
}

#[derive(Debug, Default)]
pub(super) struct Blocks {
    held: HashMap<usize, Use, foldhash::fast::RandomState>,
    /// The one that is still being filled: what is free of it is the shard's room to work in.
    filling: Block,
    /// Sums over all.
    bytes: usize,
    needed: usize,
}

impl Blocks {
    /// Messages of so many bytes are in the block that is being filled.
    pub(super) fn fill(&mut self, block: Block, bytes: usize) {
        self.filling = block;
        self.add(block, bytes);
    }

    /// Messages of so many bytes are in this block.
    pub(super) fn add(&mut self, block: Block, bytes: usize) {
        let held = self.held.entry(block.at).or_insert_with(|| {
            self.bytes += block.bytes;
            Use { bytes: block.bytes, needed: 0 }
        });
        held.needed += bytes;
        self.needed += bytes;
    }

    /// So many bytes of the block at this address are not needed any more.
    pub(super) fn remove(&mut self, at: usize, bytes: usize) {
        let Some(held) = self.held.get_mut(&at) else { return };
        held.needed -= bytes;
        self.needed -= bytes;
        if held.needed == 0 {
            self.bytes -= held.bytes;
            self.held.remove(&at);
        }
    }

    /// Bytes of all blocks that are held; of the one that is being filled, what is needed of it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes - self.filling_waste()
    }

    /// Less than half of the blocks is needed.
    pub(super) fn is_wasteful(&self) -> bool {
        self.bytes() > 2 * self.needed + WASTE_BYTES_MIN
    }

    /// Less than half of this one is needed.
    pub(super) fn is_sparse(&self, at: usize) -> bool {
        at != self.filling.at && self.held.get(&at).is_some_and(|held| 2 * held.needed < held.bytes)
    }

    /// Length of the block at this address; 0 if nothing in it is needed.
    pub(super) fn length(&self, at: usize) -> usize {
        self.held.get(&at).map_or(0, |held| held.bytes)
    }

    fn filling_waste(&self) -> usize {
        self.held.get(&self.filling.at).map_or(0, |held| held.bytes - held.needed)
    }

    #[cfg(test)]
    pub(super) fn is_filling(&self, at: usize) -> bool {
        at == self.filling.at
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    #[cfg(test)]
    pub(super) fn get(&self, at: usize) -> Option<Block> {
        self.held.get(&at).map(|held| Block { at, bytes: held.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 256 * 1024;

    fn block(at: usize) -> Block {
        Block { at, bytes: BYTES }
    }

    #[test]
    fn a_block_is_held_whole_until_its_last_message_goes() {
        let mut blocks = Blocks::default();
        blocks.fill(block(1), 100);
        assert_eq!(blocks.bytes(), 100, "the rest of it is still being filled");
        blocks.fill(block(2), 50);
        assert_eq!(blocks.bytes(), BYTES + 50);
        blocks.remove(1, 60);
        assert_eq!(blocks.bytes(), BYTES + 50);
        blocks.remove(1, 40);
        blocks.remove(2, 50);
        assert_eq!((blocks.bytes(), blocks.held.len()), (0, 0));
    }

    #[test]
    fn copying_is_worth_it_when_less_than_half_is_needed() {
        let mut blocks = Blocks::default();
        for at in 1..=4 {
            blocks.fill(block(at), 10);
        }
        blocks.add(block(4), BYTES - 10);
        assert!(blocks.is_sparse(1) && !blocks.is_wasteful(), "little is held as it is");
        for at in 5..=9 {
            blocks.fill(block(at), 10);
        }
        assert!(blocks.is_wasteful());
        assert!(!blocks.is_sparse(4) && !blocks.is_sparse(9), "one is full, one is being filled");
    }
}
