//! The broker dies in the middle of the work: nothing that was confirmed is lost, and the work goes on by itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use serde_json::Value;

use super::support::{Broker, finish};

/// Lines of the text at least.
const LINES: usize = 120_000;
/// How often the broker is killed on the way.
const KILLS: usize = 3;

/// A real text that every machine has which has built this: the sources of the libraries in use. Each line has its
/// number, so that equal lines can be told apart.
fn text() -> Vec<String> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let mut lines = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        for file in sources(&manifest.parent().unwrap().join("src")) {
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            for line in text.lines() {
                lines.push(format!("{} {line}", lines.len()));
            }
            if lines.len() >= LINES {
                return lines;
            }
        }
    }
    panic!("the sources of all libraries have only {} lines", lines.len());
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
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
    for part in parts {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&mut stdin, part));
            broker.kill_and_restart();
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
