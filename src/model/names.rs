//! Names, validated once where they enter.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::limits::NAME_BYTES_MAX;

/// A name of more than 255 bytes (AMQP 0-9-1 short string) was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTooLong {
    /// Its length in bytes.
    pub bytes: usize,
}

impl fmt::Display for NameTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name may have {NAME_BYTES_MAX} bytes at most, this one has {}", self.bytes)
    }
}

impl std::error::Error for NameTooLong {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the length. Costs one allocation; clones are free.
            pub fn new(name: &str) -> Result<Self, NameTooLong> {
                if name.len() > NAME_BYTES_MAX {
                    return Err(NameTooLong { bytes: name.len() });
                }
                Ok(Self(Arc::from(name)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self(Arc::from(""))
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Name of an exchange; "" is the default exchange.
    ExchangeName
}
name! {
    /// Name of a queue.
    QueueName
}
name! {
    /// Name of a virtual host.
    VhostName
}
name! {
    /// Name of a user.
    UserName
}
name! {
    /// The key a message is published with, or a binding's key.
    RoutingKey
}
name! {
    /// Name of a subscription.
    SubscriptionName
}
name! {
    /// Name of a member of a subscription; "" if its members share one queue.
    MemberName
}
