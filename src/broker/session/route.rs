//! Where messages go that were routed.

use std::sync::Arc;

use super::super::requesters::Requester;
use super::super::vhost::Vhost;
use crate::model::{QueueId, ShardId};
use crate::routing::{History, QueueTarget, Routed, SchemaRule};
use crate::shard::Segment;

/// Queues by shard.
#[derive(Debug, Default)]
pub(in crate::broker) struct Route {
    pub(super) shards: Vec<(ShardId, Arc<[QueueId]>)>,
    pub(in crate::broker) queues: u32,
    /// What a message has to fit that takes it.
    pub(super) schemas: Vec<Arc<SchemaRule>>,
    /// Further keys of the one message that takes it.
    pub(super) further_keys: Vec<String>,
    /// Of exchanges that keep the messages that take it.
    pub(in crate::broker) histories: Vec<Arc<History>>,
    /// Who waits for the message as a reply.
    pub(super) requesters: Vec<Arc<Requester>>,
    /// It is that of all messages with the same exchange and key.
    pub(super) is_keyed: bool,
    /// What chance said when it was found.
    pub(super) chance: Option<u64>,
}

impl Route {
    /// Also to those who wait for replies under these keys. It holds for one message: they may be gone with the next.
    pub(super) fn go_to_requesters<'k>(&mut self, vhost: &Vhost, keys: impl Iterator<Item = &'k str>) {
        self.is_keyed = false;
        for requester in keys.filter_map(|key| vhost.requesters.find(key)) {
            if !self.requesters.iter().any(|known| Arc::ptr_eq(known, &requester)) {
                self.requesters.push(requester);
            }
        }
    }

    /// How many queues and requesters it goes to.
    pub(super) fn reached(&self) -> u32 {
        self.queues + self.requesters.len() as u32
    }

    /// To this queue alone.
    pub(in crate::broker) fn to_queue(queue: QueueTarget) -> Self {
        Self { shards: vec![(queue.shard, Arc::from([queue.id]))], queues: 1, ..Self::default() }
    }

    /// Where a message goes that was routed.
    pub(in crate::broker) fn of(routed: &Routed) -> Self {
        let mut shards: Vec<(ShardId, Vec<QueueId>)> = Vec::new();
        for queue in routed.queues() {
            match shards.iter_mut().find(|(shard, _)| *shard == queue.shard) {
                Some((_, queues)) => queues.push(queue.id),
                None => shards.push((queue.shard, vec![queue.id])),
            }
        }
        Self {
            shards: shards.into_iter().map(|(shard, queues)| (shard, Arc::from(queues))).collect(),
            queues: routed.queues().len() as u32,
            schemas: routed.schemas().to_vec(),
            further_keys: Vec::new(),
            histories: routed.histories().to_vec(),
            requesters: Vec::new(),
            is_keyed: routed.is_keyed(),
            chance: routed.chance(),
        }
    }
}

impl Route {
    /// Adds neighbouring messages that take this route to what goes to its shards.
    pub(in crate::broker) fn add_segments(
        &self,
        first: u32,
        end: u32,
        shards: &mut Vec<(ShardId, Vec<Segment>)>,
    ) {
        for (shard, queues) in &self.shards {
            let segment = Segment { first, end, queues: Arc::clone(queues) };
            match shards.iter_mut().find(|(other, _)| other == shard) {
                Some((_, segments)) => segments.push(segment),
                None => shards.push((*shard, vec![segment])),
            }
        }
    }
}

impl Route {
    /// Adds one message to what goes to its shards, but not to these queues. Returns whether there are others.
    pub(in crate::broker) fn add_segment_without(
        &self,
        place: u32,
        without: &[QueueId],
        shards: &mut Vec<(ShardId, Vec<Segment>)>,
    ) -> bool {
        let rest = self.shards.iter().map(|(shard, queues)| {
            let rest: Arc<[QueueId]> =
                queues.iter().copied().filter(|queue| !without.contains(queue)).collect();
            (*shard, rest)
        });
        let shards_of_rest: Vec<_> = rest.filter(|(_, queues)| !queues.is_empty()).collect();
        let rest = Self { shards: shards_of_rest, queues: 0, ..Self::default() };
        rest.add_segments(place, place + 1, shards);
        !rest.shards.is_empty()
    }
}
