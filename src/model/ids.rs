//! Numbers that name things. Newtypes, so that no two kinds can be mixed up.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A queue, by a number that is never used twice in a broker's life.
    QueueId(u64)
}
id! {
    /// A shard of this broker, counted from 0.
    ShardId(u16)
}
id! {
    /// A client connection, counted from 1 since the broker started.
    ConnectionId(u64)
}
/// A client, by a number that it has drawn at random for its life. Who knows it can end the client's connection, so it is
/// shown nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(pub [u8; CLIENT_ID_BYTES]);

/// Bytes of a [`ClientId`].
pub const CLIENT_ID_BYTES: usize = 16;

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientId(hidden)")
    }
}

id! {
    /// A message body's place in its shard: the running count of bodies that the shard ever took.
    BodySequence(u64)
}
id! {
    /// The number under which a consumer received a delivery; each consumer counts from 1.
    DeliveryTag(u64)
}
