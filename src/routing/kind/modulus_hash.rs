//! Exchanges of type `x-modulus-hash`: the hash of the routing key, modulo the number of bindings, says which one.
//!
//! All bindings count alike, whatever their keys and arguments. When one is added or removed, most keys change their place.

use std::sync::Arc;

use super::hash::hash_text;
use super::one_of::{Choice, OneOf};
use crate::routing::target::Target;
use crate::routing::{Binding, Routed};

/// What chooses, in words.
pub(super) const CHOSEN_BY: &str = "the hash of the routing key";

#[derive(Debug, Clone, Default)]
pub(in crate::routing) struct Index(OneOf);

impl Index {
    pub(super) fn insert(&mut self, binding: &Arc<Binding>, target: Target) {
        self.0.insert(binding, target);
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        self.0.remove(binding);
    }

    pub(super) fn route(&self, key: &str, out: &mut Routed) {
        if let Choice::Place(place) = choose(key, self.0.len()) {
            self.0.take(place, out);
        }
    }
}

/// The place of the binding that a key goes to; of no bindings, one that there is not.
pub(super) fn choose(key: &str, bindings: usize) -> Choice {
    Choice::Place((hash_text(key) % bindings.max(1) as u64) as usize)
}
