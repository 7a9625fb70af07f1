//! A log of Leveret, seen through openraft's storage traits.
//!
//! Shows that what a single broker writes is the log of a Raft group with one voter: openraft takes it over as it is,
//! leads at once, reads it and appends to it, and the broker's own log opens what openraft appended. What a group of
//! several needs beyond that (votes of later terms, removal of entries that another leader never committed, snapshots
//! sent to others) answers [`io::ErrorKind::Unsupported`].

mod machine;
mod network;
mod store;

use std::fmt;
use std::io;

use bytes::Bytes;
use leveret::model::{BodySequence, Timestamp};
use openraft::EmptyNode;
use openraft::impls::leader_id_std;

pub use machine::Machine;
pub use network::NoNetwork;
pub use store::Store;

openraft::declare_raft_types!(
    /// The types of a log of Leveret. A frame has a term and no leader beside it, as in standard Raft, where a term
    /// has one leader.
    pub Config:
        D = Operations,
        R = (),
        Node = EmptyNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// What a batch of the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Sequence of the first message body.
    pub first_body: BodySequence,
    /// Number of message bodies.
    pub bodies: u32,
    /// When they happened.
    pub recorded_at: Timestamp,
    /// The encoded operations.
    pub payload: Bytes,
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bodies in {} bytes", self.bodies, self.payload.len())
    }
}

fn unsupported(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("a log of one voter has no need of {what}"))
}
