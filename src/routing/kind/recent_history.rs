//! Exchanges of type `x-recent-history`: every binding, whatever the key, and the newest messages for what is bound later.
//!
//! Routing tells that a message is to be kept, and keeps nothing: whoever routes may be asking only.

use std::sync::Arc;

use super::fanout;
use crate::model::FieldTable;
use crate::routing::history::{HISTORY_MESSAGES_DEFAULT, length_of};
use crate::routing::target::Target;
use crate::routing::{History, Routed};

/// Why a binding lets a message through.
pub(super) const VERDICT: &str = "an x-recent-history exchange passes every message to every binding";

#[derive(Debug, Clone)]
pub(in crate::routing) struct Index {
    bindings: fanout::Index,
    history: Arc<History>,
}

impl Index {
    pub(super) fn new(arguments: &FieldTable) -> Self {
        // A length that makes no sense is refused by check_declare.
        let length = length_of(arguments).unwrap_or(HISTORY_MESSAGES_DEFAULT);
        Self { bindings: fanout::Index::default(), history: Arc::new(History::new(length)) }
    }

    pub(super) fn history(&self) -> &Arc<History> {
        &self.history
    }

    pub(super) fn insert(&mut self, target: Target) {
        self.bindings.insert(target);
    }

    pub(super) fn remove(&mut self, target: &Target) {
        self.bindings.remove(target);
    }

    pub(super) fn route(&self, out: &mut Routed) {
        out.take_history(&self.history);
        self.bindings.route(out);
    }
}
