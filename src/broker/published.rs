//! What a connection has published, by exchange.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::ExchangeName;

/// Exchanges that are counted apart, for each connection.
const EXCHANGES_COUNTED_MAX: usize = 64;

/// Counters of the messages that one connection has published and that were taken.
#[derive(Debug, Default)]
pub struct Published {
    exchanges: Mutex<BTreeMap<ExchangeName, Arc<AtomicU64>>>,
    /// For all exchanges that came when there was no more room.
    elsewhere: Arc<AtomicU64>,
}

impl Published {
    /// Where to count what goes to an exchange.
    pub(super) fn counter(&self, exchange: &ExchangeName) -> Arc<AtomicU64> {
        let mut exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = exchanges.get(exchange) {
            return Arc::clone(counter);
        }
        if exchanges.len() >= EXCHANGES_COUNTED_MAX {
            return Arc::clone(&self.elsewhere);
        }
        Arc::clone(exchanges.entry(exchange.clone()).or_default())
    }

    /// The messages by exchange, in order of name, and those to all other exchanges together.
    pub fn counts(&self) -> (Vec<(ExchangeName, u64)>, u64) {
        let exchanges = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = exchanges.iter().map(|(name, counter)| (name.clone(), counter.load(Ordering::Relaxed)));
        (counted.collect(), self.elsewhere.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_publishes_to_everything_is_counted_in_little_room() {
        let published = Published::default();
        for exchange in 0..1000 {
            let name = ExchangeName::new(&format!("e{exchange:03}")).unwrap();
            published.counter(&name).fetch_add(2, Ordering::Relaxed);
            published.counter(&name).fetch_add(1, Ordering::Relaxed);
        }
        let (counted, elsewhere) = published.counts();
        assert_eq!(counted.len(), EXCHANGES_COUNTED_MAX);
        assert!(counted.iter().all(|(_, messages)| *messages == 3), "{counted:?}");
        assert_eq!(elsewhere, 3 * (1000 - EXCHANGES_COUNTED_MAX as u64));
    }
}
