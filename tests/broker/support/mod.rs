//! Running the binary, and a broker of one's own for each test.

pub(crate) mod seat;

use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

/// A command that takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// All was done: the standard output.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    /// All was done: the standard output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// It ended with a status, and said all of these on standard error.
    #[track_caller]
    pub(crate) fn fails(self, status: i32, needles: &[&str]) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        for needle in needles {
            assert!(self.stderr.contains(needle), "'{needle}' is not in: {}", self.stderr);
        }
        self
    }
}

/// The binary with arguments, in a directory and an environment of its own.
pub(crate) fn leveret(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(arguments).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, which must come in time.
#[track_caller]
pub(crate) fn run(command: Command) -> Outcome {
    run_with_input(command, b"")
}

/// As [`run`], with something on standard input.
#[track_caller]
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command may end without having read everything.
    std::thread::spawn(move || stdin.write_all(&input));
    finish(child)
}

/// Waits for the end of a command, which must come in time.
#[track_caller]
pub(crate) fn finish(child: Child) -> Outcome {
    let process = pid(&child);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => outcome(output.unwrap()),
        Err(_) => {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
            panic!("the command did not end in {DEADLINE:?}");
        }
    }
}

fn outcome(output: Output) -> Outcome {
    Outcome {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap()
}

/// What Ctrl-C does.
pub(crate) fn interrupt(child: &Child) {
    rustix::process::kill_process(pid(child), rustix::process::Signal::INT).unwrap();
}

/// Both ends of a terminal: what one reads who sits before it, and what a command is given.
pub(crate) fn terminal() -> (std::fs::File, Stdio) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    // No command that another test starts may hold it: then it would not be closed with this one.
    #[cfg(target_os = "linux")]
    let flags = flags | OpenptFlags::CLOEXEC;
    let master: OwnedFd = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    (master.into(), slave.into())
}

/// A broker on a free port with a data directory of its own; it ends with the test.
pub(crate) struct Broker {
    child: Child,
    address: String,
    data: TempDir,
    flags: Vec<String>,
}

impl Broker {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further flags for `serve`.
    #[track_caller]
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let data = TempDir::new().unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (child, address) = serve(serve_command(&data, "127.0.0.1:0", &flags), b"");
        Self { child, address, data, flags }
    }

    /// With variables in its environment, this time.
    #[track_caller]
    pub(crate) fn start_in(environment: &[(&str, &str)]) -> Self {
        let data = TempDir::new().unwrap();
        let mut command = serve_command(&data, "127.0.0.1:0", &[]);
        command.envs(environment.iter().copied());
        let (child, address) = serve(command, b"");
        Self { child, address, data, flags: Vec::new() }
    }

    /// Kills it without warning and starts it again with the same data on the same port.
    #[track_caller]
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills it without warning.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it as asked.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        interrupt(&self.child);
        assert!(self.child.wait().unwrap().success(), "the broker stops cleanly");
    }

    /// Tries to start it after its end; it must refuse.
    #[track_caller]
    pub(crate) fn refuses_to_start(&self, needles: &[&str]) {
        let mut serve = leveret(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        serve.arg(self.data()).args(&self.flags);
        run(serve).fails(1, needles);
    }

    /// Starts it after its end, and kills it again after a while.
    #[track_caller]
    pub(crate) fn kill_while_starting(&mut self, after: Duration) {
        let mut child = serve_command(&self.data, &self.address, &self.flags).spawn().unwrap();
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The directory with its catalog and its shards.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// Starts it again after its end, with the same data on the same port.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        (self.child, self.address) = serve(serve_command(&self.data, &self.address, &self.flags), b"");
    }

    /// Starts it again after its end with other flags.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self.restart();
    }

    /// Starts it again after its end, for whoever has the machine to get in as this user.
    #[track_caller]
    pub(crate) fn restart_recovering(&mut self, name: &str, password: &str) {
        let mut command = serve_command(&self.data, &self.address, &self.flags);
        command.args(["--recover-administrator", name]);
        (self.child, self.address) = serve(command, format!("{password}\n").as_bytes());
    }

    /// The URL of its default vhost, as its first user.
    pub(crate) fn url(&self) -> String {
        self.url_as("guest:guest", "")
    }

    pub(crate) fn url_as(&self, login: &str, vhost: &str) -> String {
        format!("leveret://{login}@{}/{vhost}", self.address)
    }

    /// A command for this broker.
    pub(crate) fn leveret(&self, arguments: &[&str]) -> Command {
        let mut command = leveret(arguments);
        command.env("LEVERET_URL", self.url());
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        run(self.leveret(arguments))
    }

    #[track_caller]
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        run_with_input(self.leveret(arguments), input)
    }

    /// A durable queue.
    #[track_caller]
    pub(crate) fn queue(&self, name: &str) {
        self.run(&["declare", "queue", name]).ok();
    }

    /// A queue with messages, one for each body.
    #[track_caller]
    pub(crate) fn queue_of(&self, name: &str, bodies: &[&str]) {
        self.queue(name);
        let lines: String = bodies.iter().map(|body| format!("{body}\n")).collect();
        self.run_with_input(&["publish", "--key", name, "--lines"], lines.as_bytes()).ok();
    }

    /// Ready and unacknowledged messages of a queue.
    #[track_caller]
    pub(crate) fn messages(&self, queue: &str) -> (u64, u64) {
        let queues = self.run(&["list", "queues", "--json"]).json();
        let entry = queues.as_array().unwrap().iter().find(|entry| entry["name"] == queue).unwrap();
        (entry["messages_ready"].as_u64().unwrap(), entry["messages_unacknowledged"].as_u64().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve_command(data: &TempDir, listen: &str, flags: &[String]) -> Command {
    let mut command = leveret(&["serve", "--listen", listen, "--log-level", "warn", "--data"]);
    command.arg(data.path().join("data")).args(flags).stderr(Stdio::inherit());
    command
}

#[track_caller]
fn serve(mut command: Command, input: &[u8]) -> (Child, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.next().expect("a broker says that it is ready").unwrap();
    let address = ready.strip_prefix("listening on ").expect(&ready).to_owned();
    // Somebody must read the rest, or the broker would find its output closed.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}
