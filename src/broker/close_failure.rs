//! Why a broker could not put everything on disk before it stopped.

use std::error::Error;
use std::fmt;

use crate::model::{Refusal, ShardId};
use crate::shard;

/// What could not be put on disk. What was confirmed is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseFailure {
    /// Something of a shard.
    Shard {
        /// Which one.
        shard: ShardId,
        /// Why not.
        failure: shard::CloseFailure,
    },
    /// How far the shards' logs reach: the catalog's log takes nothing any more, or has no room. The next start can hold
    /// them to less.
    Catalog(Box<Refusal>),
}

impl fmt::Display for CloseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard { shard, failure } => write!(f, "shard {shard}: {failure}"),
            Self::Catalog(refusal) => f.write_str(&refusal.text),
        }
    }
}

impl Error for CloseFailure {}
