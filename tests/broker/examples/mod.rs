//! The examples do what they say, on a broker of their own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::support::{Broker, finish, run};

/// The examples as they are now: building them here is free if they are built already.
fn examples() -> &'static BTreeMap<String, PathBuf> {
    static EXAMPLES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--examples", "--message-format=json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "the examples do not build");
        let messages = built.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let messages = messages.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
        messages
            .filter(|message| message["target"]["kind"][0] == "example")
            .filter_map(|message| {
                let name = message["target"]["name"].as_str()?.to_owned();
                Some((name, PathBuf::from(message["executable"].as_str()?)))
            })
            .collect()
    })
}

fn example(broker: &Broker, name: &str) -> Command {
    let mut command = Command::new(&examples()[name]);
    command.env_clear().env("LEVERET_URL", broker.url());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs an example, which must end well and leave no queue behind; its lines.
#[track_caller]
fn lines(name: &str) -> Vec<String> {
    let broker = Broker::start();
    let output = run(example(&broker, name)).ok();
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), serde_json::json!([]), "{name} tidies up");
    output.lines().map(str::to_owned).collect()
}

#[test]
fn publish_confirm() {
    let lines = lines("publish_confirm");
    assert_eq!(
        lines[..3],
        [
            "order 1 is synced and in 1 queue",
            "orders 2 to 100 are confirmed",
            "of the rest 9900 are confirmed and 0 failed",
        ]
    );
    assert!(lines[3].starts_with("it came back: 312 NO_ROUTE"), "{lines:?}");
    assert_eq!(lines[4..], ["dropped 10000 orders"]);
}

#[test]
fn consume_ack() {
    let mut lines = lines("consume_ack");
    assert_eq!(lines.pop().unwrap(), "total: 70");
    // When what was given back comes again depends on what is under way.
    lines.sort_unstable();
    let expected =
        ["accepted: 10", "accepted: 20, the second time", "accepted: 40", "given back: 20", "rejected: many"];
    assert_eq!(lines, expected);
}

#[test]
fn work_queue() {
    let mut lines = lines("work_queue");
    assert_eq!(lines.pop().unwrap(), "all tasks are done");
    assert_eq!(lines.iter().filter(|line| line.starts_with("unlucky: took")).count(), 1, "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.ends_with("(somebody had it before)")).count(),
        1,
        "{lines:?}"
    );
    for worker in ["fast: ", "slow: "] {
        assert!(lines.iter().any(|line| line.starts_with(worker)), "{worker}: {lines:?}");
    }
    for task in 1..=12 {
        let name = format!("task {task}");
        let is_done = |line: &&String| {
            line.split_once(": ")
                .is_some_and(|(_, text)| text == name || text.starts_with(&format!("{name} ")))
        };
        assert_eq!(lines.iter().filter(is_done).count(), 1, "{name}: {lines:?}");
    }
}

#[test]
fn topic_logs() {
    let lines = lines("topic_logs");
    assert_eq!(lines.iter().filter(|line| line.starts_with("pattern '")).count(), 2, "{lines:?}");
    assert_eq!(
        lines[2..],
        [
            "4 lines confirmed",
            "errors: [shop.error] the till is stuck",
            "shop: [shop.info] a customer came in",
            "errors: [stock.error] the roof leaks",
            "shop: [shop.error] the till is stuck",
        ]
    );
}

#[test]
fn caps() {
    let broker = Broker::start();
    // A second run finds nothing of the first one, but for its receipts.
    for _ in 0..2 {
        assert_eq!(
            run(example(&broker, "caps")).ok(),
            "4 orders are delivered\n\
             a misspelt event is refused: did you mean 'pickup.acme-widgets', which 'pickup.*' allows?\n\
             the hub has logged 12 events\n\
             1-800-flowers was away, and has heard 6 events in order\n"
        );
        for list in [&["list", "queues", "--json"][..], &["subscriptions", "--json"]] {
            assert_eq!(broker.run(list).json(), serde_json::json!([]), "it tidies up: {list:?}");
        }
        let exchanges = broker.run(&["list", "exchanges"]).ok();
        assert!(!exchanges.contains("example.caps"), "{exchanges}");
    }
}

#[test]
fn caps_on_the_command_line() {
    let broker = Broker::start();
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_leveret"));
    let mut places = vec![binary.parent().unwrap().to_owned()];
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
    let mut script = Command::new("sh");
    script.arg("examples/caps.sh").current_dir(env!("CARGO_MANIFEST_DIR"));
    script.env_clear().env("LEVERET_URL", broker.url()).env("PATH", std::env::join_paths(places).unwrap());
    script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(
        run(script).ok(),
        "a driver died with an order in hand\n\
         1-800-flowers comes back; it knows of 0 deliveries\n\
         acme-widgets: 5 orders were on their way, 5 are delivered\n\
         1-800-flowers: 5 orders were on their way, 5 are delivered\n\
         the hub saw 10 pickups, 10 on their way, 10 delivered\n"
    );
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), serde_json::json!([]), "it tidies up");
}

#[test]
fn reconnect() {
    let mut broker = Broker::start();
    let mut child = example(&broker, "reconnect").spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut lines: Vec<String> = output.by_ref().take(5).collect();
    broker.kill_and_restart();
    lines.extend(output);
    finish(child).ok();
    for needle in ["disconnected: ", "connected again: ", "confirmed: 40", "40 different numbers came"] {
        assert!(lines.iter().any(|line| line.starts_with(needle)), "{needle}: {lines:?}");
    }
}
