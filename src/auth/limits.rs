//! How much a user or a virtual host may have at most.

/// What one user may have at most, of all its connections together; `None`: there is no limit of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Connections, to all virtual hosts.
    pub max_connections: Option<u32>,
    /// Channels.
    pub max_channels: Option<u32>,
}

/// What one virtual host may have at most; `None`: there is no limit of this virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Queues of all kinds, those of subscriptions and exclusive ones, too.
    pub max_queues: Option<u32>,
    /// Bytes of messages that its queues hold, properties and body as they are encoded.
    pub max_bytes: Option<u64>,
}

/// New limits of a user; `None`: as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimitsChange {
    /// Of [`UserLimits::max_connections`].
    pub max_connections: Option<Option<u32>>,
    /// Of [`UserLimits::max_channels`].
    pub max_channels: Option<Option<u32>>,
}

/// New limits of a virtual host; `None`: as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimitsChange {
    /// Of [`VhostLimits::max_connections`].
    pub max_connections: Option<Option<u32>>,
    /// Of [`VhostLimits::max_queues`].
    pub max_queues: Option<Option<u32>>,
    /// Of [`VhostLimits::max_bytes`].
    pub max_bytes: Option<Option<u64>>,
}

impl UserLimitsChange {
    /// What becomes of the limits there are.
    pub fn applied_to(self, current: UserLimits) -> UserLimits {
        UserLimits {
            max_connections: self.max_connections.unwrap_or(current.max_connections),
            max_channels: self.max_channels.unwrap_or(current.max_channels),
        }
    }
}

impl VhostLimitsChange {
    /// What becomes of the limits there are.
    pub fn applied_to(self, current: VhostLimits) -> VhostLimits {
        VhostLimits {
            max_connections: self.max_connections.unwrap_or(current.max_connections),
            max_queues: self.max_queues.unwrap_or(current.max_queues),
            max_bytes: self.max_bytes.unwrap_or(current.max_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let current = VhostLimits { max_connections: Some(5), max_queues: Some(6), max_bytes: None };
        let change =
            VhostLimitsChange { max_connections: Some(None), max_queues: None, max_bytes: Some(Some(7)) };
        let expected = VhostLimits { max_connections: None, max_queues: Some(6), max_bytes: Some(7) };
        assert_eq!(change.applied_to(current), expected);
        let current = UserLimits { max_connections: Some(0), max_channels: Some(2) };
        assert_eq!(UserLimitsChange::default().applied_to(current), current);
    }
}
