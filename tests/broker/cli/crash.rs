//! The broker dies in the middle of the work: nothing that was confirmed is lost, and the work goes on by itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, finish};

/// Lines of the text.
const LINES: usize = 120_000;
/// How often the broker is killed on the way.
const KILLS: usize = 3;

/// A real text that is there by construction: the sources of this crate, over and over. Each line has its number, so that
/// equal lines can be told apart.
fn text() -> Vec<String> {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let texts: Vec<String> = files.into_iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).cycle();
    lines.take(LINES).enumerate().map(|(number, line)| format!("{number} {line}")).collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let files = paths.into_iter().flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn write(stdin: &mut ChildStdin, lines: &[String]) {
    lines.iter().for_each(|line| writeln!(stdin, "{line}").unwrap());
}

/// Everything in a queue: line and whether its publisher says that it may be there twice.
fn drain(broker: &Broker, queue: &str) -> Vec<(String, bool)> {
    let (ready, unacknowledged) = broker.messages(queue);
    assert_eq!(unacknowledged, 0);
    let count = ready.to_string();
    let messages = broker.run(&["consume", queue, "--count", &count, "--json"]).ok();
    assert_eq!(broker.messages(queue), (0, 0));
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages
        .map(|message| {
            assert_eq!(message["redelivered"], false, "nobody consumed before: {message}");
            (message["body"].as_str().unwrap().to_owned(), message["resent"].as_bool().unwrap())
        })
        .collect()
}

/// All lines in order; what comes twice says so.
fn check(lines: &[String], received: Vec<(String, bool)>) {
    let mut next = 0;
    for (line, resent) in received {
        let number: usize = line.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(line, lines[number], "byte for byte");
        if number < next {
            assert!(resent, "line {number} came twice without a word");
            continue;
        }
        assert_eq!(number, next, "a line is missing");
        next += 1;
    }
    assert_eq!(next, lines.len());
}

#[test]
fn a_real_text_survives_brokers_that_are_killed() {
    let lines = text();
    let mut broker = Broker::start();
    broker.run(&["declare", "exchange", "text", "--type", "topic"]).ok();
    for (queue, key) in [("rust", "source.*.line"), ("everything", "#")] {
        broker.queue(queue);
        broker.run(&["bind", "text", queue, "--key", key]).ok();
    }

    let arguments = ["publish", "--exchange", "text", "--key", "source.rust.line", "--lines", "--json"];
    let mut publish = broker.leveret(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = publish.stdin.take().unwrap();
    let mut parts = lines.chunks(lines.len().div_ceil(KILLS + 1));
    write(&mut stdin, parts.next().unwrap());
    // Publishing must have begun, or there would be nothing to go on with.
    while broker.messages("everything").0 == 0 {
        std::thread::yield_now();
    }
    for (number, part) in (0..).zip(parts) {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&mut stdin, part));
            broker.kill();
            broker.kill_while_starting(Duration::from_millis(5 * number));
            broker.restart();
            writer.join().unwrap();
        });
    }
    drop(stdin);
    let outcome = finish(publish).json();
    assert_eq!(
        (&outcome["confirmed"], &outcome["durability"]),
        (&lines.len().into(), &"synced".into()),
        "{outcome}"
    );

    check(&lines, drain(&broker, "rust"));
    // What was drained stays drained, and the rest is there after one more crash.
    broker.kill_and_restart();
    assert_eq!(broker.messages("rust"), (0, 0));
    check(&lines, drain(&broker, "everything"));
}
