//! The way of a message from exchange to exchange.

use std::iter;
use std::sync::Arc;

use crate::model::NAME_BYTES_MAX;

use super::{ExchangeEntry, KeyNotAllowed, MessageHeaders, RouteError, Routed, RoutingTable};

impl RoutingTable {
    /// Finds the queues for a message published by a client. `out` is overwritten; after an error it is of no use.
    ///
    /// Each exchange is visited once at most, so rings of exchanges end. An exchange none of whose own bindings
    /// matched passes the message to its alternate exchange, and that one likewise. Of the exchanges on the way only
    /// the first is asked whether it allows the key.
    ///
    /// # Errors
    /// See [`RouteError`]; reaching no queue is none.
    pub fn route(
        &self,
        exchange: &str,
        key: &str,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), RouteError> {
        out.clear();
        if key.len() > NAME_BYTES_MAX {
            return Err(RouteError::KeyTooLong);
        }
        if exchange.is_empty() {
            if let Some(queue) = self.queue(key) {
                out.take_queue(queue);
            }
            return Ok(());
        }
        let first = self.exchange(exchange).ok_or(RouteError::NoSuchExchange)?;
        if first.definition().internal {
            return Err(RouteError::Internal);
        }
        if let Some(not_allowed) = self.key_not_allowed(first, key, out) {
            return Err(RouteError::KeyNotAllowed(Arc::new(not_allowed)));
        }
        if let Some(schemas) = first.schemas() {
            out.with_words(key, |words, out| out.take_schema(schemas.for_key(key, words)));
        }
        let mut next = Some(first);
        while let Some(entry) = next {
            entry.index.route(key, headers, out).map_err(RouteError::Headers)?;
            if !out.has_matched()
                && let Some(alternate) = entry.alternate_exchange()
            {
                out.take_alternate(alternate);
            }
            // An alternate exchange need not exist.
            next = iter::from_fn(|| out.next_exchange(&first.definition().name))
                .find_map(|name| self.exchange(&name));
        }
        out.finish();
        Ok(())
    }

    /// Why a client may not publish a key to an exchange, if it may not.
    pub(super) fn key_not_allowed(
        &self,
        exchange: &ExchangeEntry,
        key: &str,
        scratch: &mut Routed,
    ) -> Option<KeyNotAllowed> {
        let allowed = exchange.allowed_keys()?;
        let mut is_allowed = false;
        scratch.with_words(key, |words, _| is_allowed = allowed.allows(key, words));
        (!is_allowed).then(|| allowed.refuse(key, &exchange.definition().name, self.vhost()))
    }
}
