//! Ctrl-C: the first one asks to stop and be tidy, the second one stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;

/// Exit status after the second Ctrl-C: 128 and the number of the signal, as shells have it.
const STATUS_INTERRUPTED: i32 = 130;

/// Learns that somebody wants the command to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    requested: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on. Must be called within a tokio runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let cannot = |error| Failure::new(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let (request, requested) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if request.send_replace(true) {
                    std::process::exit(STATUS_INTERRUPTED);
                }
            }
        });
        Ok(Self { requested })
    }

    /// Returns once somebody wants the command to stop.
    pub(crate) async fn requested(&mut self) {
        if self.requested.wait_for(|requested| *requested).await.is_err() {
            // The listener never ends before the program does.
            std::future::pending::<()>().await;
        }
    }
}
