//! What a record says: in protobuf, so that later versions can add fields.

use prost::{Message, Oneof};

use crate::pb;

/// Entries that follow each other, and what they speak of for the first time in their file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredChunk {
    /// Its place among all that were ever made.
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) parties: Vec<StoredParty>,
    #[prost(message, repeated, tag = "3")]
    pub(super) takers: Vec<StoredTaker>,
    #[prost(message, repeated, tag = "4")]
    pub(super) ways: Vec<StoredWay>,
    #[prost(message, repeated, tag = "5")]
    pub(super) entries: Vec<StoredEntry>,
}

/// A connection. `id`: what it is called in this file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredParty {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    #[prost(uint64, tag = "2")]
    pub(super) connection: u64,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) user: String,
    /// Address and port, as text.
    #[prost(string, tag = "5")]
    pub(super) peer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTaker {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    #[prost(uint32, tag = "2")]
    pub(super) party: u32,
    #[prost(uint64, tag = "3")]
    pub(super) connection: u64,
    #[prost(uint32, tag = "4")]
    pub(super) channel: u32,
    /// 0: as a consumer, 1: one at a time, 2: one at a time without acknowledgements.
    #[prost(uint32, tag = "5")]
    pub(super) taking: u32,
    #[prost(uint32, tag = "6")]
    pub(super) handle: u32,
    #[prost(string, tag = "7")]
    pub(super) tag: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredWay {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    #[prost(string, tag = "2")]
    pub(super) exchange: String,
    #[prost(string, tag = "3")]
    pub(super) routing_key: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) queues: Vec<StoredLabel>,
    #[prost(message, optional, tag = "5")]
    pub(super) explanation: Option<StoredExplanation>,
    #[prost(message, optional, tag = "6")]
    pub(super) refused: Option<pb::Error>,
    #[prost(bool, tag = "7")]
    pub(super) mandatory: bool,
    /// Bytes that it takes in memory, about.
    #[prost(uint64, tag = "8")]
    pub(super) bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredLabel {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, optional, tag = "3")]
    pub(super) subscription: Option<String>,
    #[prost(string, tag = "4")]
    pub(super) member: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredExplanation {
    #[prost(message, repeated, tag = "1")]
    pub(super) exchanges: Vec<StoredExchange>,
    #[prost(string, repeated, tag = "2")]
    pub(super) queues: Vec<String>,
    #[prost(uint64, tag = "3")]
    pub(super) bindings_omitted: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredExchange {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// The word for its kind.
    #[prost(string, tag = "2")]
    pub(super) kind: String,
    #[prost(string, optional, tag = "3")]
    pub(super) by_binding_of: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) as_alternate_of: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) bindings: Vec<StoredBinding>,
    #[prost(string, optional, tag = "6")]
    pub(super) alternate_exchange: Option<String>,
    #[prost(string, tag = "7")]
    pub(super) alternate_note: String,
    #[prost(string, optional, tag = "8")]
    pub(super) refused: Option<String>,
    #[prost(string, optional, tag = "9")]
    pub(super) schema: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredBinding {
    #[prost(string, tag = "1")]
    pub(super) source: String,
    #[prost(string, tag = "2")]
    pub(super) destination: String,
    #[prost(bool, tag = "3")]
    pub(super) to_exchange: bool,
    #[prost(string, tag = "4")]
    pub(super) key: String,
    #[prost(message, optional, tag = "5")]
    pub(super) arguments: Option<pb::FieldTable>,
    #[prost(bool, tag = "6")]
    pub(super) matched: bool,
    #[prost(string, tag = "7")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredEntry {
    #[prost(oneof = "StoredKind", tags = "1, 2")]
    pub(super) kind: Option<StoredKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum StoredKind {
    #[prost(message, tag = "1")]
    Publication(StoredPublication),
    #[prost(message, tag = "2")]
    Event(StoredEvent),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredPublication {
    #[prost(uint64, tag = "1")]
    pub(super) first: u64,
    #[prost(uint32, tag = "2")]
    pub(super) count: u32,
    /// Milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(super) at: u64,
    #[prost(string, tag = "4")]
    pub(super) vhost: String,
    #[prost(uint32, tag = "5")]
    pub(super) publisher: u32,
    #[prost(uint32, tag = "6")]
    pub(super) channel: u32,
    #[prost(uint32, tag = "7")]
    pub(super) way: u32,
    /// One for each message, or none.
    #[prost(string, repeated, tag = "8")]
    pub(super) message_ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredEvent {
    #[prost(uint64, tag = "1")]
    pub(super) first: u64,
    #[prost(uint32, tag = "2")]
    pub(super) count: u32,
    /// Milliseconds since 1970.
    #[prost(uint64, tag = "3")]
    pub(super) at: u64,
    #[prost(oneof = "StoredWhat", tags = "4, 5, 6, 7, 8, 9, 10, 11")]
    pub(super) what: Option<StoredWhat>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum StoredWhat {
    #[prost(message, tag = "4")]
    Taken(StoredTaken),
    #[prost(message, boxed, tag = "5")]
    NotTaken(Box<StoredNotTaken>),
    #[prost(message, tag = "6")]
    Delivered(StoredDelivered),
    /// It waits again, since a consumer gave it back.
    #[prost(uint64, tag = "7")]
    Requeued(u64),
    /// It waits again, since the consumer that had it is gone.
    #[prost(uint64, tag = "8")]
    ConsumerGone(u64),
    #[prost(message, tag = "9")]
    Left(StoredLeft),
    #[prost(uint64, tag = "10")]
    QueueDeleted(u64),
    /// Nothing more is known: of one queue, or of all of them.
    #[prost(message, tag = "11")]
    Unknown(StoredUnknown),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredTaken {
    #[prost(uint32, tag = "1")]
    pub(super) shard: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) queues: Vec<u64>,
    /// Sequence of the first message on the shard.
    #[prost(uint64, tag = "3")]
    pub(super) sequence: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredNotTaken {
    #[prost(uint32, tag = "1")]
    pub(super) shard: u32,
    #[prost(uint64, repeated, tag = "2")]
    pub(super) queues: Vec<u64>,
    #[prost(message, optional, tag = "3")]
    pub(super) refusal: Option<pb::Error>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredDelivered {
    #[prost(uint64, tag = "1")]
    pub(super) queue: u64,
    #[prost(uint32, tag = "2")]
    pub(super) taker: u32,
    #[prost(bool, tag = "3")]
    pub(super) redelivered: bool,
    #[prost(uint32, tag = "4")]
    pub(super) delivery_count: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredLeft {
    #[prost(uint64, tag = "1")]
    pub(super) queue: u64,
    /// The number that the reason has in logs.
    #[prost(uint32, tag = "2")]
    pub(super) departure: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StoredUnknown {
    /// `None`: all queues, since there was no room to look after it. Else what happened there was not written in time.
    #[prost(uint64, optional, tag = "1")]
    pub(super) queue: Option<u64>,
}
