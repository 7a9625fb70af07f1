//! Messages that stay are copied out of the blocks that others have left.

use std::ops::Range;

use bytes::Bytes;

use super::batch::BLOCK_BYTES;
use super::blocks::{Block, Blocks};
use super::bodies::{Bodies, Held};

/// Groups that are looked at in a turn for what should be copied out, if it must be looked for; an extent more at most.
const SWEPT_GROUPS_MAX: usize = 16 * 1024;
/// Bytes that are copied out in a turn; a block more at most.
const COPIED_BYTES_MAX: usize = 1024 * 1024;

impl Bodies {
    /// If most of the memory that messages lie in is not needed, copies what is needed out of blocks of which little is;
    /// a part of it in each turn. For each byte that is copied more than one comes free.
    pub(super) fn compact(&mut self) {
        let (mut swept, mut copied, mut wrapped) = (0, 0, false);
        while self.blocks.is_wasteful() && swept < SWEPT_GROUPS_MAX && copied < COPIED_BYTES_MAX {
            let start = self.extents.partition_point(|extent| extent.end <= self.swept_below);
            if start == self.extents.len() {
                if std::mem::replace(&mut wrapped, true) {
                    return;
                }
                self.swept_below = 0;
                continue;
            }
            let (mut end, mut bytes) = (start, 0);
            while end < self.extents.len() && bytes < BLOCK_BYTES && swept < SWEPT_GROUPS_MAX {
                if let Held::Recent(recent) = &self.extents[end].held {
                    swept += recent.groups().len();
                    let sparse = recent.freed().filter(|freed| self.blocks.is_sparse(freed.block));
                    bytes += sparse.map(|freed| freed.bytes).sum::<usize>();
                }
                swept += 1;
                end += 1;
            }
            self.swept_below = self.extents[end - 1].end;
            self.copy_out(start..end, bytes);
            copied += bytes;
        }
    }

    /// Copies the messages of these extents that lie in sparse blocks, so many bytes, into a block of their own.
    fn copy_out(&mut self, extents: Range<usize>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut copy = Vec::with_capacity(bytes);
        let sparse = |blocks: &Blocks, at: usize| blocks.is_sparse(at);
        for extent in self.extents.range_mut(extents.clone()) {
            let Held::Recent(recent) = &mut extent.held else { continue };
            for (bytes, _) in recent.places().filter(|(_, at)| sparse(&self.blocks, **at)) {
                copy.extend_from_slice(bytes);
            }
        }
        let copy = Bytes::from(copy);
        let block = Block { at: copy.as_ptr() as usize, bytes: copy.len() };
        let mut start = 0;
        for extent in self.extents.range_mut(extents) {
            let Held::Recent(recent) = &mut extent.held else { continue };
            for (bytes, at) in recent.places() {
                if *at == block.at || !sparse(&self.blocks, *at) {
                    continue;
                }
                let old = std::mem::replace(at, block.at);
                let end = start + bytes.len();
                self.blocks.add(block, bytes.len());
                self.blocks.remove(old, bytes.len());
                *bytes = copy.slice(start..end);
                start = end;
            }
        }
    }
}
