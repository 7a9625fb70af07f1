//! A real disk that is full: publishers wait, consumers and settlements go on, and nothing is lost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use tempfile::TempDir;

use crate::support::{finish, interrupt, leveret, run};

/// Makes a file system of 40 MiB in a mount namespace of its own, and runs a broker on it for each line that comes.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=40m leveret "$1" || exit
while read -r _; do
    "$2" serve --listen 127.0.0.1:0 --log-level error --data "$1/data" --shards 1 --disk-free-bytes-min 0 \
        --segment-bytes 1MiB --checkpoint-bytes 1MiB --cache-bytes-max 1MiB --publish-bytes-max 1MiB &
    echo "broker $!"
    wait $! 2>/dev/null
done 2>/dev/null
"#;

/// A broker whose disk has 40 MiB.
struct Small {
    _place: TempDir,
    shell: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    broker: i32,
    address: String,
}

impl Small {
    /// `None` where this user may not make a file system.
    fn start() -> Option<Self> {
        let place = TempDir::new().unwrap();
        let mut shell = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(place.path())
            .arg(env!("CARGO_BIN_EXE_leveret"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let stdin = shell.stdin.take().unwrap();
        let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut small = Self { _place: place, shell, stdin, lines, broker: 0, address: String::new() };
        small.run_broker()?;
        Some(small)
    }

    fn run_broker(&mut self) -> Option<()> {
        // Without a file system the shell is gone.
        self.stdin.write_all(b"\n").ok()?;
        let broker = self.lines.next()?.unwrap();
        self.broker = broker.strip_prefix("broker ").expect(&broker).parse().unwrap();
        let ready = self.lines.next().expect("the broker starts").unwrap();
        self.address = ready.strip_prefix("listening on ").expect(&ready).to_owned();
        Some(())
    }

    fn kill(&self) {
        let process = rustix::process::Pid::from_raw(self.broker).unwrap();
        // It may be gone already.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }

    fn leveret(&self, arguments: &[&str]) -> Command {
        let mut command = leveret(arguments);
        command.env("LEVERET_URL", format!("leveret://guest:guest@{}/", self.address));
        command
    }

    /// Publishes lines of a thousand bytes that begin with these numbers, and what it says meanwhile.
    fn publish(&self, queue: &str, numbers: std::ops::Range<u32>) -> (Child, mpsc::Receiver<String>) {
        let mut publish = self
            .leveret(&["publish", "--key", queue, "--lines", "--json"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = publish.stdin.take().unwrap();
        std::thread::spawn(move || {
            for number in numbers {
                // It ends early if the test does.
                if stdin.write_all(format!("{number:<999}\n").as_bytes()).is_err() {
                    return;
                }
            }
        });
        let stderr = BufReader::new(publish.stderr.take().unwrap());
        let (said, says) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        (publish, says)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.kill();
        // Both fail only if it is gone already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Waits until it says something.
#[track_caller]
fn hear(says: &mpsc::Receiver<String>, what: &str) {
    while !says.recv().expect(what).contains(what) {}
}

#[test]
fn publishers_wait_until_consumers_have_made_room() {
    let Some(mut small) = Small::start() else {
        // Not through a macro, whose output a test that passes does not show.
        let _ = std::io::stderr().write_all(
            b"NOT RUN: a full disk needs a small file system, and this user may not `unshare --map-root-user --mount`\n",
        );
        return;
    };
    run(small.leveret(&["declare", "queue", "q"])).ok();
    run(small.leveret(&["declare", "queue", "elsewhere", "--transient"])).ok();
    let (publish, says) = small.publish("q", 0..45_000);
    hear(&says, "takes no messages for now: ");
    // What is not written does not wait, and a request is answered.
    run(small.leveret(&["publish", "--key", "elsewhere", "in memory"])).ok();
    let connections = run(small.leveret(&["list", "connections", "--json"])).json();
    let blocked = connections.as_array().unwrap().iter().filter(|entry| entry["blocked"].is_string());
    assert_eq!(blocked.count(), 1, "{connections}");

    // A broker starts without a byte of room.
    interrupt(&publish);
    let confirmed = finish(publish).stdout;
    let confirmed: serde_json::Value = serde_json::from_str(&confirmed).unwrap();
    let confirmed = confirmed["confirmed"].as_u64().unwrap();
    small.kill();
    small.run_broker().unwrap();
    let (publish, says) = small.publish("q", 45_000..90_000);
    hear(&says, "takes no messages for now: ");

    let mut consume = small.leveret(&["consume", "q", "--raw"]).spawn().unwrap();
    let mut seen = BTreeSet::new();
    let lines = BufReader::new(consume.stdout.take().unwrap()).lines();
    for line in lines.map(Result::unwrap) {
        assert_eq!(line.len(), 999);
        let number: u32 = line.trim_end().parse().unwrap();
        assert!(seen.insert(number) && seen.last() == Some(&number), "{number} came again, or out of order");
        if number == 89_999 {
            break;
        }
    }
    let before = seen.range(..45_000).count() as u64;
    assert!(before >= confirmed, "{confirmed} were confirmed, and {before} came");
    assert_eq!(seen.range(..45_000).last(), Some(&(before as u32 - 1)), "none is missing in between");
    assert_eq!(seen.range(45_000..).count(), 45_000);
    hear(&says, "takes messages again");
    interrupt(&consume);
    finish(consume);
    let outcome = finish(publish).json();
    assert_eq!(outcome["confirmed"], 45_000, "{outcome}");
}
