//! The picture of a broker, printed and live.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::seat::{Seat, keep};
use crate::support::{Broker, finish};

/// A broker with an exchange, two queues, a subscription that is dark, a consumer, and a producer that goes on.
struct Shop {
    broker: Broker,
    producer: Producer,
    worker: Child,
}

impl Shop {
    fn open() -> Self {
        let broker = Broker::start();
        broker.run(&["declare", "exchange", "orders", "--type", "topic"]).ok();
        for (queue, key) in [("audit", "#"), ("eu", "*.eu")] {
            broker.queue(queue);
            broker.run(&["bind", "orders", queue, "--key", key]).ok();
        }
        broker
            .run(&["subscribe", "billing", "--exchange", "orders", "--key", "paid.*", "--declare-only"])
            .ok();
        let worker =
            broker.leveret(&["consume", "eu", "--name", "worker"]).stdout(Stdio::null()).spawn().unwrap();
        let publish = ["publish", "--exchange", "orders", "--key", "paid.eu", "--lines", "--name", "shop"];
        let producer = Producer::start(broker.leveret(&publish));
        let shop = Self { broker, producer, worker };
        shop.wait_until("something moves along every line that leads to somebody", |drawn| {
            let moves = |edge: &&Value| edge["messages_min"].as_u64() > Some(0);
            drawn["edges"].as_array().unwrap().iter().filter(moves).count() == 5
        });
        shop
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..200 {
            let drawn = self.broker.run(&["draw", "--json", "--interval", "0.3"]).json();
            if is_so(&drawn) {
                return drawn;
            }
        }
        panic!("it never came about that {what}");
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.producer.stop();
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

/// A command that publishes a line and another one, until it is stopped.
struct Producer {
    child: Child,
    is_over: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Producer {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let writer = Some(std::thread::spawn(move || write_lines(stdin, &seen)));
        Self { child, is_over, writer }
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        let _ = self.child.wait();
    }
}

fn write_lines(mut stdin: ChildStdin, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) && stdin.write_all(b"an order\n").is_ok() {
        // What is published, and not what anybody waits for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A terminal with a live picture in it.
fn live(broker: &Broker, columns: u16, rows: u16) -> Seat {
    Seat::start(broker.leveret(&["draw", "--live", "--interval", "0.3"]), columns, rows)
}

#[test]
fn a_broker_is_drawn_with_who_publishes_and_who_is_dark() {
    let shop = Shop::open();
    let drawn = shop.broker.run(&["draw", "--interval", "0.3"]).ok();
    for word in
        ["producer", "shop", "topic", "orders", "audit", "eu", "worker", "dark ", "billing", " wait", "▶"]
    {
        assert!(drawn.contains(word), "{word}: {drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "no terminal, no colours: {drawn}");
    assert!(
        drawn.starts_with("vhost /: 1 producer, 1 exchange, 3 queues, 2 consumers (1 dark)\n"),
        "{drawn}"
    );

    let graph = shop.broker.run(&["draw", "--json", "--interval", "0.3"]).json();
    let names: Vec<_> =
        graph["nodes"].as_array().unwrap().iter().map(|node| (&node["kind"], &node["name"])).collect();
    let expected = [
        ("producer", "shop"),
        ("exchange", "orders"),
        ("queue", "audit"),
        ("queue", "eu"),
        ("queue", "sub:billing"),
        ("consumer", "worker"),
        ("subscription", "billing"),
    ];
    let expected = expected.map(|(kind, name)| (json!(kind), json!(name)));
    assert_eq!(names, expected.iter().map(|(kind, name)| (kind, name)).collect::<Vec<_>>());
    assert_eq!(graph["edges"].as_array().unwrap().len(), 6);
    assert!(graph["nodes"][6]["dark_since_ms"].as_u64() > Some(0), "{graph}");

    let only = shop.broker.run(&["draw", "--queue", "e*", "--interval", "0.1"]).ok();
    assert!(only.contains("worker") && !only.contains("audit") && !only.contains("billing"), "{only}");
}

#[test]
fn a_picture_goes_into_files_or_to_standard_output() {
    let broker = Broker::start();
    broker.queue("hello");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (svg, chart) = (path("a.svg"), path("a.mmd"));
    let told = broker.run(&["draw", "--interval", "0.1", "--svg", &svg, "--mermaid", &chart]).ok();
    assert_eq!(told, format!("the picture is in '{svg}'\nthe picture is in '{chart}'\n"));
    let file = std::fs::read_to_string(&svg).unwrap();
    assert!(file.starts_with("<svg ") && file.contains(">hello</text>"), "{file}");
    assert!(std::fs::read_to_string(&chart).unwrap().contains("[(\"hello<br/>queue"));
    assert!(broker.run(&["draw", "--interval", "0.1", "--svg", "-"]).ok().starts_with("<svg "));
    assert!(broker.run(&["draw", "--interval", "0.1", "--mermaid", "-"]).ok().starts_with("flowchart LR\n"));
    broker.run(&["draw", "--svg", "-", "--json"]).fails(2, &["only one picture can go to standard output"]);
    broker.run(&["draw", "--svg", "/no/such/folder/a.svg", "--interval", "0.1"]).fails(1, &["cannot write"]);
    broker.run(&["draw", "--live"]).fails(2, &["--live draws in a terminal", "--svg"]);
    broker.run(&["draw", "--live", "--json"]).fails(2, &["--json"]);
    broker.run(&["draw", "--vhost", "nowhere"]).fails(1, &["nowhere"]);
}

#[test]
fn messages_move_in_a_terminal_of_any_size_until_q() {
    let shop = Shop::open();
    let mut seat = live(&shop.broker, 80, 24);
    let small = seat.see(&["vhost /", "shop", "orders", "billing", "dark ", "worker", "●", "q quits"]);
    keep("draw-live-80x24.txt", &small);
    assert!(!small.contains("topic exchange"), "{small}");
    seat.resize(200, 50);
    let large = seat.see(&["topic exchange", "subscription, dark ", "wait for it", "●", "q quits"]);
    keep("draw-live-200x50.txt", &large);
    seat.resize(40, 8);
    seat.see(&["72 columns and 10 rows are needed"]);
    seat.press(b"q");
    seat.ends().0.ok();
}

#[test]
fn whoever_is_told_to_end_leaves_the_terminal_as_it_was() {
    let broker = Broker::start();
    broker.queue("hello");
    let mut seat = live(&broker, 80, 24);
    seat.see(&["hello", "nothing moves"]);
    seat.terminate();
    seat.ends().0.ok();
}

#[test]
fn lists_count_what_was_published_where_and_what_went_to_whom() {
    let broker = Broker::start();
    broker
        .run(&[
            "declare",
            "exchange",
            "events",
            "--type",
            "topic",
            "--argument",
            "x-allowed-keys:json=[\"a\"]",
        ])
        .ok();
    broker.queue("all");
    broker.run(&["bind", "events", "all", "--key", "#"]).ok();
    let publish = |key: &str| {
        broker.run_with_input(&["publish", "--exchange", "events", "--key", key, "--lines"], b"1\n2\n3\n")
    };
    publish("a").ok();
    publish("b").fails(1, &[]);
    let exchange = &broker.run(&["list", "exchanges", "--json"]).json();
    let events = exchange.as_array().unwrap().iter().find(|entry| entry["name"] == "events").unwrap();
    assert_eq!((&events["published_total"], &events["refused_total"]), (&json!(3), &json!(3)));

    let mut worker = broker.leveret(&["consume", "all"]).stdout(Stdio::null()).spawn().unwrap();
    let delivered = || broker.run(&["list", "consumers", "--json"]).json()[0]["delivered_total"].as_u64();
    while delivered() != Some(3) {}
    worker.kill().unwrap();
    worker.wait().unwrap();

    let mut publisher =
        broker.leveret(&["publish", "--exchange", "events", "--key", "a", "--lines", "--name", "shop"]);
    let mut publisher = publisher.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = publisher.stdin.take().unwrap();
    stdin.write_all(b"4\n5\n").unwrap();
    let published = || {
        let connections = broker.run(&["list", "connections", "--json"]).json();
        let shop = connections.as_array().unwrap().iter().find(|entry| entry["name"] == "shop").cloned();
        shop.map(|shop| shop["published"].clone())
    };
    while published() != Some(json!([{ "exchange": "events", "messages_total": 2 }])) {}
    drop(stdin);
    finish(publisher).ok();
}
