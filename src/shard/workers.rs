//! What runs beside the tasks of a broker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

/// Does what would block a task, and lets time pass. Handed in, so that a whole broker runs step by step in one thread.
pub trait Workers: Send + Sync {
    /// Has `work` done where it may block. If it panics, that ends nothing but itself.
    fn run(&self, work: Box<dyn FnOnce() + Send>);

    /// The same when so much time has passed. To be called on one of the runtime's threads, or from within such work.
    fn run_later(&self, pause: Duration, work: Box<dyn FnOnce() + Send>);

    /// Ready when so much time has passed.
    fn sleep(&self, pause: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl fmt::Debug for dyn Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

/// Threads and timers of the tokio runtime that the caller runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuntimeWorkers;

impl Workers for RuntimeWorkers {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }

    fn run_later(&self, pause: Duration, work: Box<dyn FnOnce() + Send>) {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            tokio::task::spawn_blocking(work);
        });
    }

    fn sleep(&self, pause: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// Has `work` done and waits for what comes of it; `None` if it panicked, which the thread has reported, or if the process
/// is about to end and it was not begun.
pub async fn run_blocking<T: Send + 'static>(
    workers: &Arc<dyn Workers>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    workers.run(Box::new(move || {
        // Who waited may be gone.
        let _ = done.send(work());
    }));
    result.await.ok()
}
