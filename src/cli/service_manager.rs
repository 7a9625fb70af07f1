//! Tells the service manager that started the broker how far it is, as sd_notify(3) lays down.
//!
//! Whoever starts a broker with `NOTIFY_SOCKET` in its environment learns on that datagram socket when clients can
//! connect, and when the broker begins to stop. A manager that cannot be told is logged and does not hurt the broker.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::model::in_words;

/// The variable in which a service manager says where it listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long a manager that has no room for another datagram may hold up the broker.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How far the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Clients can connect.
    Ready,
    /// It takes no new clients, and ends once everything is on disk.
    Stopping,
}

/// Tells the service manager, if there is one.
pub(super) fn tell(state: State) {
    let Some(socket) = env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(socket = %socket.display(), error = %in_words(&error), "cannot tell the service manager how far the broker is");
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let message: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(WAIT_MAX))?;
    // A datagram is sent as a whole or not at all.
    from.send_to_addr(message, &address(socket.as_bytes())?).map(drop)
}

/// An absolute path, or behind `@` a name of Linux's that no file system knows.
fn address(socket: &[u8]) -> io::Result<SocketAddr> {
    match socket {
        [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(socket)),
        [b'@', name @ ..] => abstract_address(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path from / nor a name behind @")),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has names behind @"))
}
