//! What a client says of itself and wants, in its first frame.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::negotiate::{Limits, agree};
use crate::model::{CLIENT_ID_BYTES, ClientId, Entity, NAME_BYTES_MAX, Refusal, ReplyCode};
use crate::wire::pb;

/// The one protocol version there is.
pub(super) const PROTOCOL_VERSION: u32 = 1;

/// Entries that a client may say of itself.
const CLIENT_ENTRIES_MAX: usize = 32;

/// The one way to prove who one is.
const MECHANISM: &str = "PLAIN";

/// Capability: `Blocked` and `Unblocked` are known.
pub(super) const BLOCKED: &str = "blocked";

/// Capability: a client that says who it is takes the place of its earlier connection.
pub(super) const CLIENT_ID: &str = "client_id";

/// Capability: `Subscribe`, `Unsubscribe` and the list of subscriptions are known.
pub(super) const SUBSCRIPTIONS: &str = "subscriptions";

/// Capability: `KeepJourneys`, `KeepNoJourneys`, `TellJourneys` and the list of rules are known.
pub(super) const JOURNEYS: &str = "journeys";

/// Capability: `Browse` is known.
pub(super) const BROWSE: &str = "browse";

/// Capability: messages are held back that ask for it, published or given back.
pub(super) const DELAY: &str = "delay";

/// Capability: `LimitPrefetch` is known.
pub(super) const CHANNEL_PREFETCH: &str = "channel_prefetch";

/// The vhost of those who name none.
const DEFAULT_VHOST: &str = "/";

/// Who wants to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The request to answer.
    pub request: u64,
    /// The PLAIN response: user and password.
    pub response: Bytes,
    /// The vhost.
    pub vhost: String,
    /// What the client says of itself.
    pub client: BTreeMap<String, String>,
    /// The number that it has drawn for its life.
    pub client_id: Option<ClientId>,
    /// Its name for the connection.
    pub name: String,
    /// It can be told that what it publishes is not taken for now.
    pub hears_blocked: bool,
    /// What both sides can do.
    pub limits: Limits,
}

impl Login {
    /// Reads a `Connect`.
    pub(super) fn read(request: u64, connect: pb::Connect, offered: &Limits) -> Result<Self, Refusal> {
        if connect.protocol_version < PROTOCOL_VERSION {
            let got = connect.protocol_version.to_string();
            let text = format!("protocol version {got} is not spoken here");
            return Err(Refusal::new(ReplyCode::NotImplemented, text).about(Entity::Connection, "").field(
                "protocol_version",
                PROTOCOL_VERSION.to_string(),
                got,
            ));
        }
        if connect.mechanism != MECHANISM {
            return Err(Refusal::new(ReplyCode::NotImplemented, "this login mechanism is not known here")
                .about(Entity::Connection, "")
                .field("mechanism", MECHANISM, connect.mechanism));
        }
        if connect.client.len() > CLIENT_ENTRIES_MAX {
            let expected = format!("{CLIENT_ENTRIES_MAX} entries at most");
            return Err(Refusal::new(ReplyCode::SyntaxError, "the client says too much of itself")
                .about(Entity::Connection, "")
                .field("client", expected, connect.client.len().to_string()));
        }
        if connect.connection_name.len() > NAME_BYTES_MAX {
            let expected = format!("{NAME_BYTES_MAX} bytes at most");
            return Err(Refusal::new(ReplyCode::SyntaxError, "the name of the connection is too long")
                .about(Entity::Connection, "")
                .field("connection_name", expected, connect.connection_name.len().to_string()));
        }
        let client_id = match <[u8; CLIENT_ID_BYTES]>::try_from(&connect.client_id[..]) {
            Ok(bytes) => Some(ClientId(bytes)),
            Err(_) if connect.client_id.is_empty() => None,
            Err(_) => {
                let expected = format!("{CLIENT_ID_BYTES} bytes, or none");
                return Err(Refusal::new(ReplyCode::SyntaxError, "this is no number of a client")
                    .about(Entity::Connection, "")
                    .field("client_id", expected, format!("{} bytes", connect.client_id.len())));
            }
        };
        let limits = agree(offered, &connect)?;
        let vhost = if connect.vhost.is_empty() { DEFAULT_VHOST.to_owned() } else { connect.vhost };
        Ok(Self {
            request,
            response: connect.response,
            vhost,
            client: connect.client,
            client_id,
            name: connect.connection_name,
            hears_blocked: connect.capabilities.iter().any(|name| name == BLOCKED),
            limits,
        })
    }
}
