//! A mailbox: many senders, one task that takes everything at once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Values on their way to one task. The task is woken once however many values arrive before it runs. The mailbox
/// has no bound of its own: every sender is bound by what it may have under way.
#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    values: Vec<T>,
    waker: Option<Waker>,
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { values: Vec::new(), waker: None, closed: false }) }
    }
}

impl<T> Mailbox<T> {
    /// Adds a value and wakes the owner; gives the value back if the owner has closed the mailbox.
    pub fn push(&self, value: T) -> Result<(), T> {
        let waker = {
            let mut state = self.lock();
            if state.closed {
                return Err(value);
            }
            state.values.push(value);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Runs `change` on the waiting values without waking the owner: for a sender with more to come, which calls
    /// [`Mailbox::wake`] in the end. Does nothing once the mailbox is closed.
    pub fn update(&self, change: impl FnOnce(&mut Vec<T>)) {
        let mut state = self.lock();
        if !state.closed {
            change(&mut state.values);
        }
    }

    /// Wakes the owner if values wait for it.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.lock();
            if state.values.is_empty() { None } else { state.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all values, or arranges that the task is woken when there are some. `into` must be empty; its capacity
    /// is kept for the next values.
    pub fn poll_take(&self, context: &mut Context<'_>, into: &mut Vec<T>) -> Poll<()> {
        let mut state = self.lock();
        if state.values.is_empty() {
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                state.waker = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut state.values, into);
        Poll::Ready(())
    }

    /// Appends the values that wait, if any do, to those taken before.
    pub fn take_more(&self, into: &mut Vec<T>) {
        into.append(&mut self.lock().values);
    }

    /// Refuses values from now on and drops those that wait.
    pub fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.values)
        };
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock but `update`'s closures, which leave a valid vector behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
