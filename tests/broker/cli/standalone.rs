//! What needs no broker: usage, configuration, and brokers that are not there.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::support::{Outcome, leveret, run};

fn typed(arguments: &[&str]) -> Outcome {
    run(leveret(arguments))
}

#[test]
fn what_makes_no_sense_ends_with_status_2() {
    typed(&[]).fails(2, &["Usage: leveret", "serve", "publish"]);
    typed(&["pubish"]).fails(2, &["publish"]);
    typed(&["publish", "--key", "k"]).fails(2, &["--lines", "--file", "BODY"]);
    typed(&["publish", "body"]).fails(2, &["--key"]);
    typed(&["publish", "--key", "k", "--lines", "body"]).fails(2, &["cannot be used with"]);
    typed(&["publish", "--key", "k", "--header", "n:int=x", "body"]).fails(2, &["whole number"]);
    typed(&["consume", "q", "--count", "0"]).fails(2, &["--count"]);
    typed(&["consume", "q", "--idle-exit", "0"]).fails(2, &["0.001 to 86400"]);
    typed(&["consume", "q", "--raw", "--json"]).fails(2, &["cannot be used with"]);
    typed(&["list", "queue"]).fails(2, &["queues"]);
    typed(&["serve", "--data", "x", "--shards", "many"]).fails(2, &["--shards", "many", "1 to 64"]);
    typed(&["list", "queues", "--url", "http://localhost"]).fails(2, &["leveret://"]);
}

#[test]
fn help_and_version_are_on_standard_output() {
    assert!(typed(&["--help"]).ok().contains("leveret declare queue hello"));
    assert!(typed(&["--version"]).ok().starts_with("leveret "));
    for command in
        ["serve", "declare", "bind", "delete", "list", "publish", "consume", "get", "explain", "user"]
    {
        assert!(typed(&[command, "--help"]).ok().contains("Usage: leveret "), "{command}");
    }
}

#[test]
fn where_nothing_listens_one_learns_how_to_start_a_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let url = format!("leveret://{address}");
    let outcome = typed(&["list", "queues", "--url", &url]);
    outcome.fails(1, &["error: nothing listens at ", &address, "leveret serve", "--url"]);
}

#[test]
fn what_listens_there_may_be_something_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        // Until the other end has seen enough.
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    });
    let outcome = typed(&["list", "queues", "--url", &format!("leveret://{address}")]);
    outcome.fails(1, &["error: ", &address]);
    server.join().unwrap();
}

#[test]
fn the_configuration_in_effect_is_shown_with_origins() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("leveret.toml"), "handshake_ms = 5000\nshards = 3\n").unwrap();
    let show = |arguments: &[&str]| {
        let mut command = leveret(&["config", "show"]);
        command.args(arguments).current_dir(directory.path()).env("LEVERET_SHARDS", "5");
        run(command)
    };
    let table = show(&["--channel-max", "7"]).ok();
    let row = |key: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("handshake_ms"), ["handshake_ms", "5000", "./leveret.toml:1"]);
    assert_eq!(row("shards"), ["shards", "5", "LEVERET_SHARDS"]);
    assert_eq!(row("channel_max"), ["channel_max", "7", "--channel-max"]);
    assert_eq!(row("log_level"), ["log_level", "info", "default"]);
    assert!(!table.contains('\x1b'), "no colours where there is no terminal");

    let json = show(&["--json"]).json();
    assert_eq!(json["shards"]["value"], 5);
    assert_eq!(json["shards"]["layer"], "environment");
    assert_eq!(json["handshake_ms"]["origin"], "./leveret.toml:1");
}

#[test]
fn mistakes_in_the_configuration_stop_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "lisen = '127.0.0.1:1'\n").unwrap();
    let file = file.to_str().unwrap();
    typed(&["serve", "--config", file]).fails(1, &["mine.toml:1", "'lisen'", "did you mean 'listen'?"]);
    typed(&["serve", "--config", "/nonexistent"]).fails(1, &["cannot read /nonexistent"]);
    typed(&["serve", "--listen", "0.0.0.0:0"]).fails(1, &["LEVERET_DEFAULT_PASSWORD", "127.0.0.1"]);
}

#[test]
fn the_example_is_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    std::fs::write(&file, typed(&["config", "example"]).ok()).unwrap();
    assert_eq!(
        typed(&["config", "show", "--config", file.to_str().unwrap()]).ok(),
        typed(&["config", "show"]).ok()
    );
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let mut child = leveret(&["config", "example"]).spawn().unwrap();
    drop(child.stdout.take());
    let stderr = BufReader::new(child.stderr.take().unwrap());
    assert!(child.wait().unwrap().success());
    assert_eq!(stderr.lines().count(), 0);
}
