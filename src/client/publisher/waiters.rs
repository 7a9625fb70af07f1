//! Tasks that wait for the same thing. Each has a ticket, and leaves with it when it stops waiting: a program that gives up over
//! and over while a broker takes nothing leaves nothing behind.

use std::collections::BTreeMap;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    wakers: BTreeMap<u64, Waker>,
    last_ticket: u64,
}

impl Waiters {
    /// Waits, with a new ticket if there is none yet.
    pub(super) fn wait(&mut self, ticket: &mut Option<u64>, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.last_ticket += 1;
            self.last_ticket
        });
        match self.wakers.get_mut(&ticket) {
            Some(known) => known.clone_from(waker),
            None => {
                self.wakers.insert(ticket, waker.clone());
            }
        }
    }

    /// Waits no more.
    pub(super) fn leave(&mut self, ticket: u64) {
        self.wakers.remove(&ticket);
    }

    /// Everybody is to look again.
    pub(super) fn take(&mut self, wake: &mut Vec<Waker>) {
        if !self.wakers.is_empty() {
            wake.extend(std::mem::take(&mut self.wakers).into_values());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_leave_are_not_woken_and_the_others_once() {
        let mut waiters = Waiters::default();
        let (mut stays, mut leaves) = (None, None);
        for _ in 0..3 {
            waiters.wait(&mut stays, Waker::noop());
            waiters.wait(&mut leaves, Waker::noop());
        }
        waiters.leave(leaves.expect("it waits"));
        let mut wake = Vec::new();
        waiters.take(&mut wake);
        waiters.take(&mut wake);
        assert_eq!(wake.len(), 1);
        waiters.wait(&mut stays, Waker::noop());
        waiters.take(&mut wake);
        assert_eq!(wake.len(), 2);
    }
}
