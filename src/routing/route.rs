//! The way of a message from exchange to exchange.

use std::iter;

use crate::model::NAME_BYTES_MAX;

use super::{MessageHeaders, RouteError, Routed, RoutingTable};

impl RoutingTable {
    /// Finds the queues for a message published by a client. `out` is overwritten; after an error it is of no use.
    ///
    /// Each exchange is visited once at most, so rings of exchanges end. An exchange none of whose own bindings
    /// matched passes the message to its alternate exchange, and that one likewise.
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
}
