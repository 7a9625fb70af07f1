//! Numbers that Raft gives meaning to.

use std::fmt;

/// A place in a log: the number of a batch. The first batch is 1; 0 is the log's own first entry, its membership.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The index after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What somebody else knows about a log, so that another one in its place, or one that has lost its end, is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownLog {
    /// Random, the same in all files of a log.
    pub id: u64,
    /// Every entry below this index was durable.
    pub end: LogIndex,
}

/// A Raft term. A log of one voter stays in the term in which it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member of the group that replicates a log. A number is never used again, not even for a node that lost its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What Raft keeps of a log beside its entries: enough, with the entries, to go on as the leader of a group of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftState {
    /// The term of the last frame.
    pub term: Term,
    /// The node that this log's node voted for in that term.
    pub voted_for: NodeId,
    /// The members that vote, by the last membership in the log.
    pub voters: Vec<NodeId>,
}
