//! Tasks that wait for the same thing. Each has a ticket, and leaves with it when it stops waiting: a program that gives up over
//! and over while a broker takes nothing leaves nothing behind.

use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// By ticket.
    wakers: Vec<(u64, Waker)>,
    last_ticket: u64,
}

impl Waiters {
    /// Waits, with a new ticket if there is none yet.
    pub(super) fn wait(&mut self, ticket: &mut Option<u64>, waker: &Waker) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.last_ticket += 1;
            self.last_ticket
        });
        match self.place(ticket) {
            Ok(place) => self.wakers[place].1.clone_from(waker),
            Err(place) => self.wakers.insert(place, (ticket, waker.clone())),
        }
    }

    /// Waits no more.
    pub(super) fn leave(&mut self, ticket: u64) {
        if let Ok(place) = self.place(ticket) {
            self.wakers.remove(place);
        }
    }

    /// Everybody is to look again.
    pub(super) fn take(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.wakers.drain(..).map(|(_, waker)| waker));
    }

    /// Where the one with this ticket is, or would be.
    fn place(&self, ticket: u64) -> Result<usize, usize> {
        self.wakers.binary_search_by_key(&ticket, |&(ticket, _)| ticket)
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
