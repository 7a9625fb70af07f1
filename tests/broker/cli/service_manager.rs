//! A service manager that starts a broker is told on its socket when clients can connect and when the broker stops.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Broker, finish, interrupt, leveret};

/// A manager that hears nothing for so long is not told.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_manager_learns_that_clients_can_connect_and_that_the_broker_stops() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    is_told(&UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_manager_without_a_place_in_the_file_system_is_told_too() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let name = format!("leveret-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    is_told(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
}

#[track_caller]
fn is_told(manager: &UnixDatagram, socket: &str) {
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut broker = Broker::start_in(&[("NOTIFY_SOCKET", socket)]);
    assert_eq!(next(manager), "READY=1");
    broker.run(&["list", "queues"]).ok();
    broker.stop();
    assert_eq!(next(manager), "STOPPING=1");
}

fn next(manager: &UnixDatagram) -> String {
    let mut datagram = [0; 256];
    let bytes = manager.recv(&mut datagram).unwrap();
    String::from_utf8(datagram[..bytes].to_vec()).unwrap()
}

#[test]
fn a_manager_that_cannot_be_told_is_logged_and_the_broker_serves() {
    let long = format!("/{}", "long".repeat(100));
    for (socket, reason) in [
        ("/there/is/no/such/socket", "No such file or directory"),
        ("not/from/the/root", "neither a path from / nor a name behind @"),
        (long.as_str(), "path must be shorter than SUN_LEN"),
    ] {
        let data = TempDir::new().unwrap();
        let mut serve = leveret(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        serve.arg(data.path().join("data")).env("NOTIFY_SOCKET", socket).stderr(Stdio::piped());
        let mut broker = serve.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(broker.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("listening on "), "{ready}");
        interrupt(&broker);
        let outcome = finish(broker);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        let told = outcome.stderr.matches("cannot tell the service manager").count();
        assert_eq!((told, outcome.stderr.contains(reason)), (2, true), "{socket}: {}", outcome.stderr);
    }
}
