//! The state machine beside the log.

use std::io;

use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, OptionalSend, StoredMembership};

use crate::{Config, Operations};

/// Keeps what was applied to it in memory, behind what the log had replayed when it was opened.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// The last entry that is part of it.
    pub applied: Option<LogIdOf<Config>>,
    /// The members by the last membership that is part of it.
    pub membership: StoredMembershipOf<Config>,
    /// What it was given, in order.
    pub operations: Vec<Operations>,
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Config>>, StoredMembershipOf<Config>), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id());
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(operations) => self.operations.push(operations),
                EntryPayload::Membership(members) => {
                    self.membership = StoredMembership::new(self.applied, members);
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Config>,
        _snapshot: (),
    ) -> Result<(), io::Error> {
        Err(crate::unsupported("the snapshot of another"))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Config, ()>>, io::Error> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Config> for Machine {
    type SnapshotData = ();

    /// Says what is part of it: the checkpoint that holds it stays where the log keeps it.
    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, ()>, io::Error> {
        let meta =
            SnapshotMetaOf::<Config> { last_log_id: self.applied, last_membership: self.membership.clone() };
        Ok(SnapshotOf::<Config, ()> { meta, snapshot: () })
    }
}
