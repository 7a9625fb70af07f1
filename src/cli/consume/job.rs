//! One run of the command of `--exec`: the body on its standard input, its end, and its end by force.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::environment::Environment;
use crate::model::in_words;

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It did what it was to do.
    Done,
    /// It did not; in words.
    Failed(String),
    /// It was ended because nobody wanted to wait any longer.
    Stopped,
    /// There is no such command, or it cannot be run here at all; in words. The message has no part in that.
    CannotRun(String),
}

/// Time for a command to end when it is told to.
const TERMINATE_MAX: Duration = Duration::from_secs(5);

/// What POSIX shells end with if a command cannot be run, or is not there.
const STATUS_NOT_RUN: [i32; 2] = [126, 127];

/// Runs a shell command for one message, at most until `stop` returns.
pub(super) async fn run(
    command: &str,
    url: Option<&str>,
    environment: Environment,
    body: &[u8],
    stop: impl Future<Output = ()>,
) -> Ended {
    let mut child = match spawn(command, url, environment) {
        Ok(child) => child,
        // A property or a header with a NUL in it, or too many of them, is the message's fault.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong) =>
        {
            return Ended::Failed(format!(
                "its properties do not fit into an environment: {}",
                in_words(&error)
            ));
        }
        Err(error) => return Ended::CannotRun(format!("cannot start a shell: {}", in_words(&error))),
    };
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command may end, or close its input, without having read everything.
            let _ = stdin.write_all(body).await;
            let _ = stdin.shutdown().await;
        }
        std::future::pending::<()>().await
    };
    let status = tokio::select! {
        status = child.wait() => status,
        () = feed => unreachable!("feeding stays pending"),
        () = stop => {
            end(&mut child).await;
            return Ended::Stopped;
        }
    };
    match status {
        Ok(status) => ended(status),
        Err(error) => Ended::CannotRun(format!("cannot wait for the command: {}", in_words(&error))),
    }
}

fn spawn(command: &str, url: Option<&str>, environment: Environment) -> io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).kill_on_drop(true);
    // Ctrl-C on a terminal goes to a whole group of processes: commands that run are to end by themselves.
    shell.process_group(0);
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if Environment::owns(&name) {
            shell.env_remove(name);
        }
    }
    shell.envs(environment.0);
    if let Some(url) = url {
        shell.env(crate::cli::session::URL_VARIABLE, url);
    }
    shell.spawn()
}

/// Ends a command and all that it has started, with force if need be.
async fn end(child: &mut Child) {
    for signal in [Signal::TERM, Signal::KILL] {
        // There is an id until the end has been waited for, so that it is nobody else's.
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let Some(group) = group else { return };
        // Fails only if it has ended already.
        let _ = kill_process_group(group, signal);
        if timeout(TERMINATE_MAX, child.wait()).await.is_ok() {
            return;
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Done,
        (Some(code), _) if STATUS_NOT_RUN.contains(&code) => {
            Ended::CannotRun(format!("the shell could not run the command (status {code})"))
        }
        (Some(code), _) => Ended::Failed(format!("the command ended with status {code}")),
        (None, Some(signal)) => Ended::Failed(format!("the command was ended by signal {signal}")),
        (None, None) => Ended::Failed(format!("the command ended: {status}")),
    }
}
