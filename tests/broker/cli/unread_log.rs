//! Nobody reads the broker's log: strangers fill the pipe that it goes to, and everybody is served all the same.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use tempfile::TempDir;

use crate::support::{leveret, run};

#[test]
fn strangers_that_fill_the_log_stop_nobody() {
    let data = TempDir::new().unwrap();
    let mut serve = leveret(&["serve", "--listen", "127.0.0.1:0", "--log-level", "debug", "--data"]);
    serve.arg(data.path().join("data")).stderr(Stdio::piped());
    let mut broker = serve.spawn().unwrap();
    let log = broker.stderr.take().unwrap();
    // As small as a pipe can be: some dozen lines.
    let room = rustix::pipe::fcntl_setpipe_size(&log, 4096).unwrap();
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let address = ready.strip_prefix("listening on ").unwrap();

    let mut line_bytes = 0;
    while line_bytes < 4 * room {
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stranger.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{answer:?}");
        line_bytes += "refusing a client of another protocol".len();
    }
    let mut list = leveret(&["list", "queues"]);
    list.env("LEVERET_URL", format!("leveret://guest:guest@{address}/"));
    run(list).ok();
    broker.kill().unwrap();
    broker.wait().unwrap();
}
