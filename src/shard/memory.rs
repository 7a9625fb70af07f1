//! How much is nowhere but in memory, and who waits until it is less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes of messages that all volatile shards hold together, with a bound. Publishers look at it before they take more
/// in; shards say what they hold.
#[derive(Debug)]
pub struct MemoryGauge {
    used: AtomicU64,
    bytes_max: u64,
    waiting: Mutex<Vec<Waker>>,
}

impl MemoryGauge {
    /// Nothing used, of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), bytes_max, waiting: Mutex::default() }
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether there is room; if not, the task is woken when there is.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.used_bytes() < self.bytes_max {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Again under the lock: whoever makes room from now on finds the waker.
        if self.used.load(Ordering::SeqCst) < self.bytes_max {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// A shard holds `now` bytes after it held `before`.
    pub(super) fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.used.fetch_add((now - before) as u64, Ordering::SeqCst);
            return;
        }
        let less = (before - now) as u64;
        let was = self.used.fetch_sub(less, Ordering::SeqCst);
        if was >= self.bytes_max && was - less < self.bytes_max {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_there_is_room() {
        let gauge = MemoryGauge::new(100);
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        gauge.change(0, 99);
        assert!(gauge.poll_room(&mut context).is_ready());
        gauge.change(99, 150);
        assert!(gauge.poll_room(&mut context).is_pending());
        assert!(gauge.poll_room(&mut context).is_pending());
        gauge.change(150, 100);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "there is no room yet");
        gauge.change(100, 99);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(gauge.poll_room(&mut context).is_ready());
        assert_eq!(gauge.used_bytes(), 99);
    }
}
