//! What a broker holds in memory for messages.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::broker::Broker;
use crate::model::ShardId;
use crate::shard::{Command, Weight};

impl Broker {
    /// What each shard holds in memory; those that have stopped hold nothing.
    pub(crate) async fn weights(&self) -> BTreeMap<ShardId, Weight> {
        let mut weights = BTreeMap::new();
        for shard in self.shared.shards.values() {
            let (reply, weight) = oneshot::channel();
            shard.send(Command::Weigh { reply });
            weights.insert(shard.id(), weight.await.unwrap_or_default());
        }
        weights
    }

    /// Bytes that are nowhere but in memory, as publishers are held to them.
    pub(crate) fn memory_used_bytes(&self) -> u64 {
        self.shared.gauges.memory.used_bytes()
    }
}
