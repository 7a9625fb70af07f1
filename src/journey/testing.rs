//! What the tests of journeys tell.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{Event, Party, Publication, QueueLabel, Way, What};
use crate::model::{
    BodySequence, ConnectionId, ExchangeName, MemberName, QueueId, QueueName, RoutingKey, ShardId, Timestamp,
    UserName, VhostName,
};

pub(super) fn way_to(queues: &[QueueId]) -> Arc<Way> {
    let label = |id: &QueueId| QueueLabel {
        id: *id,
        name: QueueName::new(&format!("q{id}")).unwrap(),
        subscription: None,
        member: MemberName::default(),
    };
    Arc::new(Way {
        exchange: ExchangeName::default(),
        routing_key: RoutingKey::default(),
        queues: queues.iter().map(label).collect(),
        explanation: None,
        refused: None,
        mandatory: false,
        bytes: 300,
    })
}

pub(super) fn publication(first: u64, count: u32, ids: Option<&[&str]>, way: &Arc<Way>) -> Publication {
    let publisher = Party {
        connection: ConnectionId(1),
        name: String::new(),
        user: UserName::default(),
        peer: ([127, 0, 0, 1], 1).into(),
    };
    Publication {
        first,
        count,
        at: Timestamp(first),
        vhost: VhostName::default(),
        publisher: Arc::new(publisher),
        channel: 1,
        way: Arc::clone(way),
        message_ids: ids.map(|ids| ids.iter().map(|id| Box::from(*id)).collect()),
    }
}

/// A queue has taken messages with numbers from `first` on.
pub(super) fn taken(first: u64, count: u32, queue: QueueId) -> Event {
    let what =
        What::Taken { shard: ShardId(0), queues: Arc::from([queue]), sequence: BodySequence(1_000 + first) };
    Event { first, count, at: Timestamp(first), what }
}
