//! A broker that may be killed: this program in a process of its own, with its data in a folder that goes with it.

use std::fs::{DirBuilder, remove_dir_all};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::cli::failure::Failure;
use crate::client::{Backoff, ConnectOptions};

/// Names for the folder that are tried: others may be there of processes that had this one's number.
const NAMES_MAX: u32 = 1000;

/// When it is tried to connect again: soon, because somebody watches, and for as long as anybody may talk about it.
const BACKOFF: Backoff = Backoff {
    delay_first: Duration::from_millis(50),
    delay_max: Duration::from_millis(500),
    attempts_max: u32::MAX,
    give_up_after: Duration::from_secs(24 * 60 * 60),
};

/// A broker on a free port of this machine, the same each time it is started.
pub(super) struct ChildBroker {
    data: PathBuf,
    /// Where it listens, once it has been started.
    address: Option<(String, u16)>,
    child: Option<Child>,
}

impl ChildBroker {
    /// Makes the folder.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut tried = 0;
        loop {
            let data = std::env::temp_dir().join(format!("leveret-demo-{}-{tried}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&data) {
                Ok(()) => return Ok(Self { data, address: None, child: None }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tried < NAMES_MAX => {
                    tried += 1;
                }
                Err(error) => {
                    return Err(Failure::io(&format!("cannot make a folder {}", data.display()), &error));
                }
            }
        }
    }

    /// Starts it, and waits until it listens.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let cannot = |error| Failure::io("cannot start a broker", &error);
        let program = std::env::current_exe().map_err(cannot)?;
        let listen = match &self.address {
            Some((host, port)) => format!("{host}:{port}"),
            None => "127.0.0.1:0".to_owned(),
        };
        let mut command = Command::new(program);
        command.args(["serve", "--listen", &listen, "--log-level", "error", "--data"]).arg(&self.data);
        // What the configuration of other brokers says is not for this one.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LEVERET_"))
        {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        let mut ready = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut ready).await.map_err(cannot)?;
        }
        self.child = Some(child);
        let address = ready.trim().strip_prefix("listening on ").and_then(|told| told.rsplit_once(':'));
        let address = address.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
        self.address = Some(address.ok_or_else(|| Failure::new("the broker did not start: see above"))?);
        Ok(())
    }

    /// Kills it without warning, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().await.map_err(|error| Failure::io("cannot kill the broker", &error))
    }

    /// Whether it was started, and not killed since.
    pub(super) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// How to connect to it, and to connect again when it is back.
    pub(super) fn options(&self) -> ConnectOptions {
        match &self.address {
            Some((host, port)) => ConnectOptions::default().host(host.clone()).port(*port).reconnect(BACKOFF),
            None => ConnectOptions::default(),
        }
    }

    /// Ends it, with its data.
    pub(super) async fn end(mut self) -> Result<(), Failure> {
        self.kill().await?;
        remove_dir_all(&self.data)
            .map_err(|error| Failure::io(&format!("cannot remove {}", self.data.display()), &error))
    }
}
