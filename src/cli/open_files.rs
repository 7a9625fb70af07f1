//! The limit on the files that a process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to `needed` as far as the system lets it; how many files may be open afterwards.
///
/// # Errors
/// If the limit is lower, could be higher, and stays where it is.
pub(super) fn allow_open_files(needed: u64) -> io::Result<u64> {
    let current = open_files_allowed();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = maximum.map_or(needed, |maximum| maximum.min(needed));
    if wanted <= current {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    Ok(wanted)
}

/// How many files may be open as it is.
pub(super) fn open_files_allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
