//! What a full queue does with what comes.

/// What is done with messages for which a queue has no room, as `x-overflow` says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The oldest that wait make room.
    #[default]
    DropHead,
    /// What comes is refused.
    RejectPublish,
    /// What comes is refused, and goes where dead letters of the queue go.
    RejectPublishDlx,
}

impl Overflow {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::DropHead, Self::RejectPublish, Self::RejectPublishDlx];

    /// Its name, as RabbitMQ has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|overflow| overflow.as_str() == name)
    }
}
