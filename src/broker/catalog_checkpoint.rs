//! The catalog's checkpoints: records that make everything that exists, and the removal of all segments before them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::catalog::{Catalog, VhostState, stored_queue};
use super::record::{Change, Record, Records, StoredBinding, StoredExchange, StoredName, StoredUser};
use crate::model::VhostName;
use crate::routing::{Binding, Destination, RoutingTable};
use crate::storage::{KeepFailure, LogKeeper, LogOwner, LogPosition, RecoveredBatch};

/// With less in its log a catalog does not need a checkpoint: a start reads this in no time.
const CHECKPOINT_BYTES_MIN: u64 = 1024 * 1024;

impl Catalog {
    /// Records that make a new catalog what this one will be after a restart.
    pub(super) fn records(&self) -> Records {
        let mut changes = vec![Change::NextQueue(self.next_queue)];
        if self.durable_shards > 0 {
            changes.push(Change::Shards(self.durable_shards.into()));
        }
        for (name, state) in &self.vhosts {
            changes.push(Change::PutVhost(StoredName::new("", name)));
            state.add_records(name, &mut changes);
        }
        changes.extend(self.users.values().map(|user| Change::PutUser(StoredUser::new(user))));
        Records { records: changes.into_iter().map(Record::from).collect() }
    }

    fn replay_records(&mut self, records: Bytes) -> Result<(), String> {
        let records = Records::decode(records).map_err(|error| error.to_string())?;
        records.records.into_iter().try_for_each(|record| self.replay(record))
    }
}

impl VhostState {
    fn add_records(&self, vhost: &VhostName, changes: &mut Vec<Change>) {
        let predeclared = RoutingTable::new(vhost.clone());
        let exchanges = self.table.exchanges(None).map(|entry| entry.definition());
        let declared = exchanges
            .filter(|definition| definition.durable && predeclared.exchange(&definition.name).is_none());
        changes
            .extend(declared.map(|definition| Change::PutExchange(StoredExchange::new(vhost, definition))));
        let queues = self.queues.values().filter(|queue| queue.durable);
        changes.extend(queues.map(|queue| Change::PutQueue(stored_queue(vhost, queue))));
        let bindings = self.table.bindings(None).filter(|binding| self.is_durable(binding));
        changes.extend(bindings.map(|binding| Change::Bind(StoredBinding::new(vhost, binding))));
    }

    /// A binding outlives the process if both its ends do.
    fn is_durable(&self, binding: &Binding) -> bool {
        let exchange = |name: &str| self.table.exchange(name).is_some_and(|entry| entry.definition().durable);
        exchange(&binding.source)
            && match &binding.destination {
                Destination::Queue(name) => self.queues.get(name).is_some_and(|queue| queue.durable),
                Destination::Exchange(name) => exchange(name),
            }
    }
}

impl LogOwner for Catalog {
    fn restore(&mut self, state: Bytes) -> Result<(), String> {
        *self = Self::default();
        self.replay_records(state)
    }

    fn replay(&mut self, batch: RecoveredBatch) -> Result<(), String> {
        self.replay_records(batch.payload)
    }
}

/// When the catalog's log gets a checkpoint.
pub(super) struct CatalogKeeper {
    keeper: Option<Arc<dyn LogKeeper>>,
    /// Bytes that went into the log since the last checkpoint, and that one's size.
    bytes_since: u64,
    state_bytes: u64,
}

impl CatalogKeeper {
    pub(super) fn new(keeper: Option<Arc<dyn LogKeeper>>) -> Self {
        Self { keeper, bytes_since: 0, state_bytes: 0 }
    }

    pub(super) fn note_written(&mut self, bytes: usize) {
        self.bytes_since += bytes as u64;
    }

    /// Writing all of it now costs no more than a part of what was written since the last time.
    pub(super) fn is_due(&self) -> bool {
        self.keeper.is_some() && self.bytes_since >= CHECKPOINT_BYTES_MIN.max(2 * self.state_bytes)
    }

    pub(super) fn has_news(&self) -> bool {
        self.keeper.is_some() && self.bytes_since > 0
    }

    /// Makes a checkpoint of `records`, which everything up to `position` made. A failure costs space and time at the
    /// next start, so it is only told.
    pub(super) async fn write(&mut self, position: LogPosition, records: Records) {
        let Some(keeper) = self.keeper.clone() else { return };
        let state = Bytes::from(records.encode_to_vec());
        (self.bytes_since, self.state_bytes) = (0, state.len() as u64);
        let work = tokio::task::spawn_blocking(move || write_and_trim(&*keeper, position, state));
        if let Ok(Err(failure)) = work.await {
            tracing::warn!(%failure, "a checkpoint of the catalog could not be written");
        }
    }
}

/// A checkpoint holds all of the catalog, so no segment is needed that ends before the older of the two.
fn write_and_trim(keeper: &dyn LogKeeper, position: LogPosition, state: Bytes) -> Result<(), KeepFailure> {
    keeper.write_checkpoint(position, vec![state])?;
    let below = keeper.removable_below().unwrap_or_default();
    let mut segments = keeper.segments();
    segments.pop();
    segments.retain(|segment| segment.end_index <= below);
    let gone: Vec<_> = segments.iter().map(|segment| segment.first_index).collect();
    if gone.is_empty() { Ok(()) } else { keeper.remove_segments(&gone).map(|_| ()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::{Password, SALT_BYTES, hash_password};
    use crate::broker::catalog::Changes;
    use crate::broker::request::QueueDeclaration;
    use crate::model::{ConnectionId, ExchangeName, FieldTable, QueueName, RoutingKey, UserName};
    use crate::routing::{ExchangeDefinition, ExchangeKind};

    const CONNECTION: ConnectionId = ConnectionId(1);

    fn exchange(name: &str, durable: bool) -> ExchangeDefinition {
        ExchangeDefinition {
            name: ExchangeName::new(name).unwrap(),
            kind: ExchangeKind::Topic,
            durable,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::from([("alternate-exchange", "amq.fanout".into())]),
        }
    }

    fn declaration(name: &str, durable: bool) -> QueueDeclaration {
        QueueDeclaration {
            name: QueueName::new(name).unwrap(),
            durable,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        }
    }

    fn binding(source: &str, destination: Destination) -> Binding {
        Binding {
            source: ExchangeName::new(source).unwrap(),
            destination,
            key: RoutingKey::new("a.#").unwrap(),
            arguments: FieldTable::default(),
        }
    }

    fn filled() -> Catalog {
        let mut catalog = Catalog::default();
        catalog.durable_shards = 3;
        let changes = &mut Changes::default();
        let vhost = VhostName::new("shop").unwrap();
        catalog.put_vhost(&vhost, changes);
        for (name, durable) in [("stays", true), ("goes", false)] {
            catalog.declare_exchange(&vhost, exchange(name, durable), changes).unwrap();
            catalog.declare_queue(&vhost, CONNECTION, declaration(name, durable), changes).unwrap();
        }
        catalog.declare_queue(&vhost, CONNECTION, declaration("deleted", true), changes).unwrap();
        let deleted = Arc::clone(&catalog.vhosts[&vhost].queues["deleted"]);
        catalog.remove_queue(&vhost, &deleted, changes);
        let queue = |name| Destination::Queue(QueueName::new(name).unwrap());
        let stays = Destination::Exchange(ExchangeName::new("stays").unwrap());
        for (source, destination) in [
            ("stays", queue("stays")),
            ("stays", queue("goes")),
            ("goes", queue("stays")),
            ("amq.topic", stays),
        ] {
            catalog.bind(&vhost, CONNECTION, binding(source, destination), changes).unwrap();
        }
        let hash = hash_password(&Password::new("secret").unwrap(), &[7; SALT_BYTES]).unwrap();
        catalog.put_user(UserName::new("ann").unwrap(), Some(hash), true, vec![vhost], changes).unwrap();
        catalog
    }

    #[test]
    fn what_outlives_the_process_comes_back_and_nothing_else() {
        let catalog = filled();
        let records = catalog.records();
        let mut restored = filled();
        restored.restore(records.encode_to_vec().into()).unwrap();
        assert_eq!(restored.records(), records, "what was there before is void");
        let state = restored.vhosts.values().next().unwrap();
        assert_eq!(state.queues.keys().map(|name| &**name).collect::<Vec<_>>(), ["stays"]);
        assert!(state.table.exchange("goes").is_none());
        assert_eq!(state.table.bindings_count(), 2);
        assert_eq!(restored.users.len(), 1);
        assert_eq!((restored.next_queue, restored.durable_shards), (catalog.next_queue, 3));
        assert!(Catalog::default().restore(Bytes::from_static(b"\x0a\x02\xff")).is_err());
    }
}
