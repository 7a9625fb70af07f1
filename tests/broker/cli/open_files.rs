//! Few files may be open: connections are refused before the logs are short of one.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::finish;

/// Starts a broker that may have so many files open.
fn serve_with_files(files: u32, data: &Path) -> std::process::Child {
    let script =
        format!("ulimit -n {files} && exec \"$0\" serve --listen 127.0.0.1:0 --shards 1 --data \"$1\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_leveret")]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn connections_leave_files_for_the_logs() {
    let data = TempDir::new().unwrap();
    let outcome = finish(serve_with_files(100, data.path()));
    outcome.fails(1, &["may have 100 files open", "needs 144", "ulimit -n"]);

    let mut broker = serve_with_files(150, data.path());
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let address = ready.strip_prefix("listening on ").unwrap();
    // 150 less 64 for the broker and 32 for each of two logs.
    let connections: Vec<TcpStream> = (0..22).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut refused = TcpStream::connect(address).unwrap();
    let mut answer = Vec::new();
    refused.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("22 at most") && answer.contains("files that it may open"), "{answer}");
    drop(connections);
    broker.kill().unwrap();
    let stderr = finish(broker).stderr;
    assert!(stderr.contains("allows fewer connections"), "{stderr}");
}
