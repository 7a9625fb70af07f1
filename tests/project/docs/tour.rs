//! The tour in README.md, typed by a shell against a broker, word for word.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{page, root};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
const SECTION: &str = "a-tour-of-five-minutes";
/// Where the broker of the page listens.
const PORT: &str = "7672";
/// A step that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(120);

/// What somebody types, and what the page says comes back.
struct Step {
    typed: String,
    answer: String,
}

#[test]
fn the_tour_does_what_it_says() {
    let steps = steps();
    assert!(steps.len() > 10, "only {} steps: where is the tour?", steps.len());
    let data = tempfile::tempdir().unwrap();
    let mut broker: Option<Broker> = None;
    for Step { typed, answer } in steps {
        if typed == "cargo run --release -- serve" {
            let started = Broker::start(&data);
            assert_eq!(answer, format!("listening on 127.0.0.1:{PORT}\n"));
            broker = Some(started);
        } else if typed.starts_with("kill -9 ") {
            let mut broker = broker.take().expect("a broker was started");
            broker.0.kill().unwrap();
            broker.0.wait().unwrap();
        } else if !typed.starts_with("export PATH=") {
            let broker = broker.as_ref().expect("a broker was started");
            assert_eq!(type_in(&typed, &broker.1), answer, "$ {typed}");
        }
    }
    broker.expect("the tour ends with a broker").stop();
}

/// The tour's commands with their answers.
fn steps() -> Vec<Step> {
    let page = page(&root().join("README.md"));
    let blocks = page.blocks.iter().filter(|block| block.section == SECTION && block.language == "console");
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks.flat_map(|block| &block.lines) {
        match line.strip_prefix("$ ") {
            Some(typed) => steps.push(Step { typed: typed.to_owned(), answer: String::new() }),
            None => {
                let step = steps.last_mut().expect("a block begins with a command");
                step.answer.push_str(line);
                step.answer.push('\n');
            }
        }
    }
    steps
}

/// Runs a line in a shell as somebody would who followed the tour; returns all that it printed.
fn type_in(line: &str, url: &str) -> String {
    let programs = Path::new(BINARY).parent().unwrap().to_str().unwrap();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(root());
    shell.env("PATH", path).env("LEVERET_URL", url).env("NO_COLOR", "1");
    let child = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    within(line, child, |child| {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        text
    })
}

/// Does something with a process that must not take for ever.
fn within<T: Send + 'static>(
    what: &str,
    mut child: Child,
    job: impl FnOnce(&mut Child) -> T + Send + 'static,
) -> T {
    let process = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(job(&mut child)));
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        kill_process(process, Signal::KILL).unwrap();
        panic!("still running after {DEADLINE:?}: {what}")
    })
}

/// A running broker, and its address as clients write it.
pub(crate) struct Broker(Child, String);

impl Broker {
    pub(crate) fn start(data: &TempDir) -> Self {
        let mut command = Command::new(BINARY);
        // Numbers of messages count in a shard: with one they are the same on every machine.
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--shards", "1", "--data"])
            .arg(data.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("listening on ").expect("a ready line");
        Self(child, format!("leveret://{address}"))
    }

    pub(crate) fn url(&self) -> &str {
        &self.1
    }

    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After `stop` it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
