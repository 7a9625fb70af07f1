//! How calls of a disk fail.

use std::io;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An input/output error. A sync that fails so loses what it should have stored, while readers still see it.
    Io,
    /// No space left.
    Full,
    /// Too many files are open; only creating files fails so: the first that is created from then on.
    OutOfFiles,
}

/// `EMFILE`.
const OUT_OF_FILES: i32 = 24;

impl Fault {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::other("the disk failed"),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::OutOfFiles => io::Error::from_raw_os_error(OUT_OF_FILES),
        }
    }
}
