//! Is it there, how is it, and what shells want to know.

use std::io::{BufRead, BufReader};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{Broker, finish, interrupt, leveret, run};

#[test]
fn ping_tells_whether_a_broker_answers() {
    let mut broker = Broker::start();
    let answer = broker.run(&["ping", "--json"]).json();
    assert_eq!(
        (&answer["server"], &answer["version"]),
        (&json!("leveret"), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(answer["connect_us"].is_u64() && answer["answer_us"].is_u64(), "{answer}");
    assert!(broker.run(&["ping"]).ok().starts_with("leveret "));
    broker.kill();
    broker.run(&["ping"]).fails(1, &["nothing listens at"]);
}

#[test]
fn a_health_check_needs_no_login() {
    let mut broker = Broker::start();
    broker.run_with_input(&["user", "put", "guest", "--password-stdin", "--administrator"], b"s3cret\n").ok();
    broker.run(&["ping"]).fails(1, &["403"]);
    assert!(broker.run(&["ping", "--no-login"]).ok().starts_with("a broker answers at 127.0.0.1:"));
    let answer = broker.run(&["ping", "--no-login", "--json"]).json();
    assert!(answer["answer_us"].is_u64() && answer["server"].is_null(), "{answer}");
    let connections = run(with_url(&broker, "guest:s3cret", &["list", "connections", "--json"])).json();
    assert_eq!(connections.as_array().unwrap().len(), 1, "only the one that lists: {connections}");
    broker.kill();
    broker.run(&["ping", "--no-login"]).fails(1, &["nothing listens at"]);

    // Something else listens there.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("leveret://{}", other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"220 mail.example.org ESMTP\r\n").unwrap();
        // Open until the command has gone.
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    run(leveret(&["ping", "--no-login", "--url", &url])).fails(1, &["does not speak Leveret's protocol"]);
    answering.join().unwrap();
}

fn with_url(broker: &Broker, login: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = leveret(arguments);
    command.args(["--url", &broker.url_as(login, "")]);
    command
}

#[test]
fn status_counts_what_is_there() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a", "b", "c"]);
    let status = broker.run(&["status", "--json"]).json();
    let number = |name: &str| status[name].as_u64().unwrap();
    assert_eq!((number("queues"), number("messages_ready"), number("consumers")), (1, 3, 0), "{status}");
    assert_eq!((&status["durability"], &status["vhost"]), (&json!("synced"), &json!("/")));
    assert_eq!((&status["faults"], &status["blocked"]), (&json!([]), &json!(null)));
    let text = broker.run(&["status"]).ok();
    assert!(text.contains("as 'guest' in vhost '/'") && text.contains("3 ready"), "{text}");
}

#[test]
fn a_name_is_that_of_connection_and_consumer() {
    let broker = Broker::start();
    broker.queue_of("orders", &["a"]);
    let mut child = broker.leveret(&["consume", "orders", "--name", "till 1", "--raw"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "a");
    let consumers = broker.run(&["list", "consumers", "--json"]).json();
    assert_eq!(consumers[0]["tag"], "till 1");
    let connections = broker.run(&["list", "connections", "--json"]).json();
    assert!(connections.as_array().unwrap().iter().any(|entry| entry["name"] == "till 1"), "{connections}");
    interrupt(&child);
    finish(child).ok();
}

#[test]
fn the_url_may_stand_before_or_behind_the_command() {
    let broker = Broker::start();
    let url = broker.url();
    for arguments in [["--url", &url, "ping"], ["ping", "--url", &url]] {
        run(leveret(&arguments)).ok();
    }
    run(leveret(&["--url", &url, "declare", "queue", "orders"])).ok();
    run(leveret(&["declare", "queue", "orders", "--url", &url])).ok();
    run(leveret(&["--url", &url, "ping", "--url", &url])).fails(2, &["one of them is enough"]);
    run(leveret(&["--url", &url, "config", "example"])).fails(2, &["takes no --url"]);
}

#[test]
fn shells_and_man_get_what_they_want() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(leveret(&["completions", shell])).ok();
        assert!(script.contains("subscribe") && script.contains("retry-delay"), "{shell}: {script}");
    }
    assert!(run(leveret(&["man"])).ok().contains(".TH leveret 1"));
    let place = TempDir::new().unwrap();
    run(leveret(&["man", "--dir", place.path().to_str().unwrap()])).ok();
    let page = std::fs::read_to_string(place.path().join("leveret-consume.1")).unwrap();
    assert!(page.contains("exec"), "{page}");
    run(leveret(&["man", "--dir", "/nonexistent"])).fails(1, &["cannot write pages to /nonexistent"]);
}
