//! Connections that are told something in a turn, each of them woken once when the turn ends.

use std::sync::Arc;

use super::command::{Delivery, Event, Outlet};

#[derive(Default)]
pub(super) struct Outlets {
    /// To be woken.
    touched: Vec<Outlet>,
}

impl Outlets {
    pub(super) fn send(&mut self, outlet: &Outlet, event: Event) {
        outlet.update(|events| events.push(event));
        self.touch(outlet);
    }

    /// Sends messages to a consumer, as part of the delivery before if they go on where it ends.
    pub(super) fn deliver(&mut self, outlet: &Outlet, delivery: Delivery) {
        outlet.update(|events| match events.last_mut() {
            Some(Event::Delivery(last)) if last.continues_with(&delivery) => last.join(delivery),
            _ => events.push(Event::Delivery(delivery)),
        });
        self.touch(outlet);
    }

    /// Tells that messages were taken. Without `wake` the connection reads it when it is woken for something else.
    pub(super) fn tell_taken(&mut self, outlet: &Outlet, more: usize, wake: bool) {
        outlet.update(|events| match events.last_mut() {
            Some(Event::Taken { bytes }) => *bytes += more,
            _ => events.push(Event::Taken { bytes: more }),
        });
        if wake {
            self.touch(outlet);
        }
    }

    /// Wakes those who were told something since the last time.
    pub(super) fn wake(&mut self) {
        for outlet in self.touched.drain(..) {
            outlet.wake();
        }
    }

    fn touch(&mut self, outlet: &Outlet) {
        if !self.touched.last().is_some_and(|last| Arc::ptr_eq(last, outlet)) {
            self.touched.push(Arc::clone(outlet));
        }
    }
}

impl Delivery {
    fn continues_with(&self, next: &Self) -> bool {
        self.consumer == next.consumer
            && self.queue == next.queue
            && self.first_tag.0 + self.count == next.first_tag.0
            && (self.redelivered, self.delivery_count) == (next.redelivered, next.delivery_count)
            && (Arc::ptr_eq(&self.origin, &next.origin) || self.origin == next.origin)
    }

    fn join(&mut self, next: Self) {
        self.count += next.count;
        self.window_bytes += next.window_bytes;
        self.pieces.extend(next.pieces);
    }
}
