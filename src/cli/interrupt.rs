//! Ctrl-C: the first one asks to stop and be tidy, the second one stops at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;

/// Exit status after the second Ctrl-C: 128 and the number of the signal, as shells have it.
const STATUS_INTERRUPTED: i32 = 130;

/// Learns that somebody wants the command to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt {
    signals: watch::Receiver<u32>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on; the second one ends the program. Must be called within a tokio runtime.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::listen_for(1)
    }

    /// As [`listen`](Self::listen), but the second one only [insists](Self::insisted): the third one ends the program.
    pub(crate) fn listen_twice() -> Result<Self, Failure> {
        Self::listen_for(2)
    }

    fn listen_for(told: u32) -> Result<Self, Failure> {
        let cannot = |error| Failure::io("cannot listen for signals", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let (count, signals) = watch::channel(0);
        tokio::spawn(async move {
            let mut heard = 0;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                heard += 1;
                count.send_replace(heard);
                if heard > told {
                    std::process::exit(STATUS_INTERRUPTED);
                }
            }
        });
        Ok(Self { signals })
    }

    /// Returns once somebody wants the command to stop.
    pub(crate) async fn requested(&mut self) {
        self.heard(1).await;
    }

    /// Returns once somebody wants it for the second time.
    pub(crate) async fn insisted(&mut self) {
        self.heard(2).await;
    }

    async fn heard(&mut self, count: u32) {
        if self.signals.wait_for(|heard| *heard >= count).await.is_err() {
            // The listener never ends before the program does.
            std::future::pending::<()>().await;
        }
    }
}
