//! For which returns a queue holds messages back.

/// Returns for which messages are held back before they go out once more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// All of them.
    #[default]
    All,
    /// A consumer gave it back.
    Failed,
    /// Its consumer went.
    Returned,
}

impl RetryOn {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::All, Self::Failed, Self::Returned];

    /// Its name in the arguments of a queue.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Failed => "failed",
            Self::Returned => "returned",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|on| on.as_str() == name)
    }
}
