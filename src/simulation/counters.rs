//! How often what matters happened.

use serde::Serialize;

use super::logs::Housekeeping;

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
    /// Those that came while a merge was half done.
    pub crashes_while_merging: u64,
    /// Crashes while a segment that nobody needed was kept to be written over.
    pub crashes_with_spares: u64,
    /// Crashes while a segment was there that was written over an older one.
    pub crashes_with_reused: u64,
    /// Crashes while a broker was starting.
    pub crashes_while_starting: u64,
    /// Calls of the disk that were to fail.
    pub faults: u64,
    /// Times that the disk was full.
    pub full_disks: u64,
    /// Calls of the disk that were to fail while reading.
    pub read_faults: u64,
    /// Times that the disk was full while settlements were on their way.
    pub full_disks_with_settlements: u64,
    /// Bytes that rotted.
    pub rotten: u64,
    /// Messages that were retained and read again after something had rotted.
    pub repeated_beside_rot: u64,
    /// Times that what is retained could not be read again after something had rotted, and that was said.
    pub rot_told: u64,
    /// Pieces of work off the tasks: checkpoints, merges, reads.
    pub work: u64,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Checkpoints that came to nothing: the power went, or the disk failed.
    pub checkpoints_cut: u64,
    /// Merges of segments.
    pub merges: u64,
    /// Merges that came to nothing.
    pub merges_cut: u64,
    /// Times that segments were removed.
    pub removals: u64,
    /// Reads of messages that were not in memory.
    pub cold_reads: u64,
    /// Those that came to nothing.
    pub cold_reads_cut: u64,
    /// Reads of messages from segments that were merged.
    pub merged_reads: u64,
    /// Messages that were looked at where they waited.
    pub browsed: u64,
    /// Messages that were retained and read again.
    pub replayed: u64,
    /// Times that a client read all that a queue retains, while everything went on.
    pub replays: u64,
    /// Times that what a queue retains was read from segments that were merged.
    pub merged_replays: u64,
    /// Times that what came before and since some time was read and held against when it was sent and heard of.
    pub read_by_time: u64,
    /// Queues that were looked into, with nothing moving, and held against the books.
    pub looks: u64,
    /// Messages that were forgotten because newer ones were too many or too large.
    pub forgotten: u64,
    /// Messages that were forgotten because they were too old.
    pub forgotten_for_age: u64,
    /// Looks into queues in which messages had made room for newer ones.
    pub looks_at_full_queues: u64,
    /// Looks into queues in which messages had expired.
    pub looks_at_expired: u64,
    /// The same where none had to but those that said so themselves.
    pub looks_at_expired_by_themselves: u64,
    /// Dead letters that were found where they go.
    pub dead_letters: u64,
    /// Times that messages were forgotten while the disk was full.
    pub forgotten_on_full_disks: u64,
    /// Consumers that got nothing of what came to a single active one.
    pub passed_over: u64,
    /// Messages that came before an older one, since they are of a higher priority.
    pub overtakers: u64,
    /// Deliveries of messages that were for later.
    pub delayed: u64,
    /// Messages that were seen to be held back.
    pub seen_delayed: u64,
    /// Settlements that gave messages back for later.
    pub deferred: u64,
    /// Messages that were moved to another queue.
    pub moved: u64,
    /// Messages that somebody else had taken when they were to leave for another queue.
    pub not_moved: u64,
    /// Moves that a crash cut.
    pub moves_cut: u64,
    /// Subscriptions that were made or told to listen to something else.
    pub subscriptions_changed: u64,
    /// Changes of subscriptions that came to nothing because the log was failing.
    pub subscriptions_in_trouble: u64,
    /// Members that joined a subscription.
    pub subscription_members: u64,
    /// Queues of subscriptions that went because nobody came.
    pub expired: u64,
    /// Times that somebody came back to a subscription whose queue might have gone already.
    pub returns_in_doubt: u64,
    /// Times that the list of subscriptions was held against the books.
    pub subscriptions_listed: u64,
    /// Queues of subscriptions whose recorded darkness was held against what was shown before a crash.
    pub darkness_recorded: u64,
    /// Times that somebody came back to a subscription that was dark while something waited.
    pub returns_from_dark: u64,
    /// Queues of one connection that went with it, and what they held.
    pub gone_with_connections: u64,
    /// Queues in memory that went with their broker, and what they held.
    pub gone_with_brokers: u64,
    /// Users that were made or changed.
    pub users_put: u64,
    /// Users that were deleted.
    pub users_deleted: u64,
    /// Virtual hosts that were made, or given a queue.
    pub vhosts_put: u64,
    /// Virtual hosts that were deleted with what was in them.
    pub vhosts_deleted: u64,
    /// Changes of users and virtual hosts that came to nothing because the log was failing.
    pub access_in_trouble: u64,
    /// Queues that were emptied to the last message and held against the books.
    pub audits: u64,
}

impl Counters {
    /// Adds what was asked of logs.
    pub(super) fn note(&mut self, counts: Housekeeping) {
        let Housekeeping { checkpoints, merges, purges, reads, merged_reads } = counts;
        self.merged_reads += merged_reads;
        self.checkpoints += checkpoints.done;
        self.checkpoints_cut += checkpoints.failed;
        self.merges += merges.done;
        self.merges_cut += merges.failed;
        self.removals += purges.done;
        self.cold_reads += reads.done;
        self.cold_reads_cut += reads.failed;
    }

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
        self.crashes_while_merging += other.crashes_while_merging;
        self.crashes_with_spares += other.crashes_with_spares;
        self.crashes_with_reused += other.crashes_with_reused;
        self.crashes_while_starting += other.crashes_while_starting;
        self.faults += other.faults;
        self.full_disks += other.full_disks;
        self.read_faults += other.read_faults;
        self.full_disks_with_settlements += other.full_disks_with_settlements;
        self.rotten += other.rotten;
        self.repeated_beside_rot += other.repeated_beside_rot;
        self.rot_told += other.rot_told;
        self.work += other.work;
        self.checkpoints += other.checkpoints;
        self.checkpoints_cut += other.checkpoints_cut;
        self.merges += other.merges;
        self.merges_cut += other.merges_cut;
        self.removals += other.removals;
        self.cold_reads += other.cold_reads;
        self.cold_reads_cut += other.cold_reads_cut;
        self.merged_reads += other.merged_reads;
        self.browsed += other.browsed;
        self.replayed += other.replayed;
        self.replays += other.replays;
        self.merged_replays += other.merged_replays;
        self.read_by_time += other.read_by_time;
        self.looks += other.looks;
        self.forgotten += other.forgotten;
        self.forgotten_for_age += other.forgotten_for_age;
        self.looks_at_full_queues += other.looks_at_full_queues;
        self.looks_at_expired += other.looks_at_expired;
        self.looks_at_expired_by_themselves += other.looks_at_expired_by_themselves;
        self.dead_letters += other.dead_letters;
        self.passed_over += other.passed_over;
        self.overtakers += other.overtakers;
        self.delayed += other.delayed;
        self.seen_delayed += other.seen_delayed;
        self.deferred += other.deferred;
        self.forgotten_on_full_disks += other.forgotten_on_full_disks;
        self.moved += other.moved;
        self.not_moved += other.not_moved;
        self.moves_cut += other.moves_cut;
        self.subscriptions_changed += other.subscriptions_changed;
        self.subscriptions_in_trouble += other.subscriptions_in_trouble;
        self.subscription_members += other.subscription_members;
        self.expired += other.expired;
        self.returns_in_doubt += other.returns_in_doubt;
        self.subscriptions_listed += other.subscriptions_listed;
        self.darkness_recorded += other.darkness_recorded;
        self.returns_from_dark += other.returns_from_dark;
        self.gone_with_connections += other.gone_with_connections;
        self.gone_with_brokers += other.gone_with_brokers;
        self.users_put += other.users_put;
        self.users_deleted += other.users_deleted;
        self.vhosts_put += other.vhosts_put;
        self.vhosts_deleted += other.vhosts_deleted;
        self.access_in_trouble += other.access_in_trouble;
        self.audits += other.audits;
    }
}
