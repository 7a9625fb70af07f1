//! Exchanges of type `x-random`: each message goes to one binding, whichever chance says.
//!
//! Chance is drawn once for each message and told to whoever explains its way. An exchange's name counts in, so that several on
//! one way choose each for itself.

use std::sync::Arc;

use super::hash::{below, hash_pair, hash_text};
use super::one_of::{Choice, OneOf};
use crate::model::ExchangeName;
use crate::routing::target::Target;
use crate::routing::{Binding, Routed};

/// What chooses, in words.
pub(super) const CHOSEN_BY: &str = "chance";

#[derive(Debug, Clone)]
pub(in crate::routing) struct Index {
    exchange: u64,
    bindings: OneOf,
}

impl Index {
    pub(super) fn new(exchange: &ExchangeName) -> Self {
        Self { exchange: hash_text(exchange), bindings: OneOf::default() }
    }

    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        self.bindings.insert(binding, target);
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        self.bindings.remove(binding);
    }

    pub(super) fn route(&self, out: &mut Routed) {
        match choose_for(out.chance(), self.exchange, self.bindings.len()) {
            Choice::Place(place) => self.bindings.take(place, out),
            Choice::Any => self.bindings.take_all(out),
        }
    }
}

/// The place of the binding that an exchange chose for a message, given what chance said of that message.
pub(super) fn choose(chance: Option<u64>, exchange: &ExchangeName, bindings: usize) -> Choice {
    choose_for(chance, hash_text(exchange), bindings)
}

fn choose_for(chance: Option<u64>, exchange: u64, bindings: usize) -> Choice {
    match chance {
        Some(chance) => Choice::Place(below(hash_pair(chance, exchange), bindings)),
        None => Choice::Any,
    }
}
