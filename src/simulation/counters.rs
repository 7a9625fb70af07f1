//! How often what matters happened.

use serde::Serialize;

/// Whether a run tried what it is for: a simulation in which nothing happens finds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Steps that were made.
    pub steps: u64,
    /// Messages that were published.
    pub published: u64,
    /// Confirms that came.
    pub confirmed: u64,
    /// Messages that the broker did not vouch for.
    pub refused: u64,
    /// Messages that came to clients.
    pub delivered: u64,
    /// Those of them that may have come before.
    pub redelivered: u64,
    /// Settlements that the disk had.
    pub settled: u64,
    /// Queues declared and deleted, bindings made and taken back.
    pub topology: u64,
    /// Queues emptied.
    pub purged: u64,
    /// Stops as asked.
    pub stops: u64,
    /// Times that the power went or the process was killed.
    pub crashes: u64,
    /// Crashes while a log had something to write.
    pub crashes_while_writing: u64,
    /// Crashes while a checkpoint, a merge or a read was waiting to be done.
    pub crashes_while_working: u64,
    /// Crashes while a broker was starting.
    pub crashes_while_starting: u64,
    /// Calls of the disk that were to fail.
    pub faults: u64,
    /// Times that the disk was full.
    pub full_disks: u64,
    /// Pieces of work off the tasks: checkpoints, merges, reads.
    pub work: u64,
    /// Queues that were emptied to the last message and held against the books.
    pub audits: u64,
}

impl Counters {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        let Self {
            steps,
            published,
            confirmed,
            refused,
            delivered,
            redelivered,
            settled,
            topology,
            purged,
            ..
        } = other;
        self.steps += steps;
        self.published += published;
        self.confirmed += confirmed;
        self.refused += refused;
        self.delivered += delivered;
        self.redelivered += redelivered;
        self.settled += settled;
        self.topology += topology;
        self.purged += purged;
        self.stops += other.stops;
        self.crashes += other.crashes;
        self.crashes_while_writing += other.crashes_while_writing;
        self.crashes_while_working += other.crashes_while_working;
        self.crashes_while_starting += other.crashes_while_starting;
        self.faults += other.faults;
        self.full_disks += other.full_disks;
        self.work += other.work;
        self.audits += other.audits;
    }
}
