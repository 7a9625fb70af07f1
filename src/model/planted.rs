//! Bugs that are made on purpose, to see that the simulation finds them.
//!
//! They exist in the library's own tests alone, one at a time in the thread that plants it. Everywhere else [`planted`] is
//! `false`, and nothing of them is built.

/// What a broker does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A log says that a group is durable which it did not sync.
    SyncLeftOut,
    /// The name of a new segment is not synced.
    NameNotSynced,
    /// A segment that is full keeps behind its end what was there before.
    FullNotCut,
    /// A frame whose body does not match its checksum is taken at a start.
    ChecksumIgnored,
    /// A settlement is not recorded.
    SettlementNotRecorded,
    /// A checkpoint lacks a queue's messages.
    CheckpointForgets,
    /// A merge drops a message that is needed.
    MergeForgets,
    /// A merge drops what queues retain.
    MergeForgetsRetained,
    /// What is read back is the message behind the one that was asked for.
    NeighbourRead,
    /// After a start nothing is marked as delivered before.
    MarkIgnored,
    /// A move takes out a message that was not named.
    MoveTakesMore,
    /// What came back goes out after what never left.
    RequeuedLast,
    /// A binding that goes is not recorded.
    UnbindNotRecorded,
    /// A change of the catalog is shown before the disk has it.
    ShownBeforeDurable,
    /// A dead letter leaves its queue before it is stored elsewhere.
    DeadLettersLetGo,
    /// A message is taken for one without a priority.
    PriorityIgnored,
    /// A start takes messages that expire to have no end.
    ExpirationForgotten,
    /// A start takes messages that are for later to be for now.
    DelayForgotten,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Makes a bug in this thread, or none.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug was made in this thread.
#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Nobody made any.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
