//! How those who take part in a subscription share it.

/// Who gets what, if several take part in a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All consume from one queue: each message goes to one of them.
    Shared,
    /// Every member has a queue of its own: each message goes to all members.
    Each,
}

impl Sharing {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Each => "each",
        }
    }
}
