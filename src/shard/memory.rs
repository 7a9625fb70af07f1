//! How much is nowhere but in memory, and who waits until it is less.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Memory that messages of all volatile shards take together, with a bound: with what stands around them, and what queues
/// hold of them. Publishers look at it before they hand more
/// over; shards say what they hold. Once it is full it stays so until a fifth is free: who waits is not to wait again for
/// each message.
#[derive(Debug)]
pub struct MemoryGauge {
    used: AtomicU64,
    bytes_max: u64,
    full: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl MemoryGauge {
    /// Nothing used, of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), bytes_max, full: AtomicBool::new(false), waiting: Mutex::default() }
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes at most.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Waits for room; the task is woken when there is.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_full() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Again under the lock: whoever makes room from now on finds the waker.
        if !self.is_full() {
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
            let more = (now - before) as u64;
            let used = self.used.fetch_add(more, Ordering::SeqCst) + more;
            if used >= self.bytes_max && !self.is_full() {
                self.judge();
            }
            return;
        }
        let less = (before - now) as u64;
        let used = self.used.fetch_sub(less, Ordering::SeqCst) - less;
        if self.is_full() && used <= self.low_bytes() {
            self.judge();
        }
    }

    /// It is no longer full when no more than this is used.
    fn low_bytes(&self) -> u64 {
        self.bytes_max - self.bytes_max / 5
    }

    /// Under the lock, so that of two shards that change it at once the later one has the last word.
    fn judge(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (used, was_full) = (self.used.load(Ordering::SeqCst), self.is_full());
        let full = if was_full { used > self.low_bytes() } else { used >= self.bytes_max };
        self.full.store(full, Ordering::SeqCst);
        let waiting = if full { Vec::new() } else { std::mem::take(&mut *waiting) };
        waiting.into_iter().for_each(Waker::wake);
        match (was_full, full) {
            (false, true) => {
                let bytes_max = self.bytes_max;
                tracing::warn!(
                    used,
                    bytes_max,
                    "memory is full of messages; publishers wait until a fifth is free"
                );
            }
            (true, false) => tracing::info!(used, "there is memory for messages again; publishers go on"),
            _ => {}
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
        gauge.change(150, 81);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "there is no room yet");
        assert!(gauge.poll_room(&mut context).is_pending());
        gauge.change(81, 80);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(gauge.poll_room(&mut context).is_ready());
        assert_eq!(gauge.used_bytes(), 80);
        gauge.change(80, 99);
        assert!(gauge.poll_room(&mut context).is_ready(), "it is full again at its bound");
        gauge.change(99, 100);
        assert!(gauge.is_full());
    }
}
