//! The way of a message from exchange to exchange.

use std::iter;
use std::sync::Arc;

use crate::model::NAME_BYTES_MAX;

use super::allowed::KeyOf;
use super::{ExchangeEntry, KeyNotAllowed, Keys, MessageHeaders, RouteError, Routed, RoutingTable};

impl RoutingTable {
    /// Finds the queues for a message published by a client. `out` is overwritten; after an error it is of no use.
    ///
    /// Each exchange is visited once at most, so rings of exchanges end. An exchange none of whose own bindings
    /// matched passes the message to its alternate exchange, and that one likewise. Of the exchanges on the way only
    /// the first is asked whether it allows the keys: it has to allow each of them.
    ///
    /// # Errors
    /// See [`RouteError`]; reaching no queue is none.
    pub fn route<'k>(
        &self,
        exchange: &str,
        keys: impl Into<Keys<'k>>,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), RouteError> {
        let keys = keys.into();
        out.clear();
        if keys.all().any(|key| key.len() > NAME_BYTES_MAX) {
            return Err(RouteError::KeyTooLong);
        }
        if !keys.further.is_empty() {
            out.looked_beyond_the_key();
        }
        if exchange.is_empty() {
            keys.all().filter_map(|key| self.queue(key)).for_each(|queue| out.take_queue(queue));
            out.finish();
            return Ok(());
        }
        let first = self.exchange(exchange).ok_or(RouteError::NoSuchExchange)?;
        if first.definition().internal {
            return Err(RouteError::Internal);
        }
        if let Some(not_allowed) = self.key_not_allowed(first, keys, out) {
            return Err(RouteError::KeyNotAllowed(Arc::new(not_allowed)));
        }
        if let Some(schemas) = first.schemas() {
            out.for_each_key(keys, |key, out| {
                out.with_words(key, |words, out| out.take_schema(schemas.for_key(key, words)));
            });
        }
        self.follow(first, keys, headers, out)
    }

    /// Finds the queues for a message that another exchange passes to this one: nobody asks whether a client may publish it here.
    ///
    /// # Errors
    /// [`RouteError::NoSuchExchange`], and [`RouteError::Headers`] for headers that cannot be read.
    pub fn route_on<'k>(
        &self,
        exchange: &str,
        keys: impl Into<Keys<'k>>,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), RouteError> {
        out.clear();
        let first = self.exchange(exchange).ok_or(RouteError::NoSuchExchange)?;
        self.follow(first, keys.into(), headers, out)
    }

    /// From exchange to exchange.
    fn follow(
        &self,
        first: &ExchangeEntry,
        keys: Keys<'_>,
        headers: &mut dyn MessageHeaders,
        out: &mut Routed,
    ) -> Result<(), RouteError> {
        let mut next = Some(first);
        while let Some(entry) = next {
            entry.index.route(keys, headers, out).map_err(RouteError::Headers)?;
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

    /// Why a client may not publish with keys to an exchange, if it may not: the first of them that is not allowed.
    pub(super) fn key_not_allowed(
        &self,
        exchange: &ExchangeEntry,
        keys: Keys<'_>,
        scratch: &mut Routed,
    ) -> Option<KeyNotAllowed> {
        let allowed = exchange.allowed_keys()?;
        let mut not_allowed = None;
        scratch.for_each_key(keys, |key, scratch| {
            if not_allowed.is_none() {
                scratch.with_words(key, |words, _| {
                    not_allowed = Some(key).filter(|_| !allowed.allows(key, words))
                });
            }
        });
        let key = not_allowed?;
        let whose = if key == keys.first { KeyOf::Publication } else { KeyOf::Headers };
        Some(allowed.refuse((whose, key), &exchange.definition().name, self.vhost()))
    }
}
