//! How safe a message is.

use std::fmt;

/// How safe a message is at the moment of its confirm; later variants are safer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Held in the broker's memory: gone when the broker stops.
    Memory,
    /// Handed to the operating system: survives a crash of the broker, not of the machine.
    Written,
    /// Reported as stored by the disk (`fdatasync`): survives a crash of the machine.
    Synced,
    /// Synced on a majority of replicas.
    Quorum,
}

impl Durability {
    /// The word used in output and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Written => "written",
            Self::Synced => "synced",
            Self::Quorum => "quorum",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
