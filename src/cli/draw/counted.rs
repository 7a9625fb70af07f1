//! What the counters of a broker grew by between two looks.

use std::collections::{BTreeMap, HashMap};

use super::look::Look;
use crate::client::ConsumerEntry;

/// Messages between two looks, by who counted them.
pub(super) struct Counted<'a> {
    /// Published to each exchange.
    pub(super) exchanges: BTreeMap<&'a str, u64>,
    /// Into each queue, and out of it.
    queues: HashMap<&'a str, (u64, u64)>,
    /// Published by each connection to each exchange.
    published: HashMap<(u64, &'a str), u64>,
    /// Published by each connection to exchanges that are not counted apart.
    elsewhere: HashMap<u64, u64>,
    consumers: HashMap<ConsumerKey<'a>, u64>,
}

type ConsumerKey<'a> = (&'a str, u64, u32, &'a str);

fn key(entry: &ConsumerEntry) -> ConsumerKey<'_> {
    (&entry.queue, entry.connection_id, entry.channel, &entry.tag)
}

impl<'a> Counted<'a> {
    /// What the second look saw more than the first one.
    pub(super) fn between(before: &'a Look, now: &'a Look) -> Self {
        let exchanges = |look: &'a Look| {
            look.exchanges.iter().map(|entry| (entry.name.as_str(), entry.published_total)).collect()
        };
        let came = |look: &'a Look| {
            look.queues.iter().map(|entry| (entry.name.as_str(), entry.published_total)).collect()
        };
        let went = |look: &'a Look| {
            look.queues.iter().map(|entry| (entry.name.as_str(), entry.delivered_total)).collect()
        };
        let published = |look: &'a Look| {
            let of_all = look.connections.iter().flat_map(|connection| {
                connection
                    .published
                    .iter()
                    .map(|published| ((connection.id, published.exchange.as_str()), published.messages_total))
            });
            of_all.collect()
        };
        let elsewhere = |look: &Look| {
            look.connections.iter().map(|entry| (entry.id, entry.published_elsewhere_total)).collect()
        };
        let consumers =
            |look: &'a Look| look.consumers.iter().map(|entry| (key(entry), entry.delivered_total)).collect();
        let went = grown(&went(before), went(now));
        let queues = grown(&came(before), came(now)).into_iter();
        Self {
            exchanges: grown(&exchanges(before), exchanges(now)).into_iter().collect(),
            queues: queues.map(|(name, came)| (name, (came, went.get(name).copied().unwrap_or(0)))).collect(),
            published: grown(&published(before), published(now)),
            elsewhere: grown(&elsewhere(before), elsewhere(now)),
            consumers: grown(&consumers(before), consumers(now)),
        }
    }

    /// Into a queue, and out of it.
    pub(super) fn queue(&self, name: &str) -> (u64, u64) {
        self.queues.get(name).copied().unwrap_or_default()
    }

    /// From a connection to an exchange.
    pub(super) fn published(&self, connection: u64, exchange: &str) -> u64 {
        self.published.get(&(connection, exchange)).copied().unwrap_or(0)
    }

    /// From a connection to exchanges that are not counted apart.
    pub(super) fn published_elsewhere(&self, connection: u64) -> u64 {
        self.elsewhere.get(&connection).copied().unwrap_or(0)
    }

    /// To a consumer.
    pub(super) fn consumed(&self, entry: &ConsumerEntry) -> u64 {
        self.consumers.get(&key(entry)).copied().unwrap_or(0)
    }
}

/// By how much each counter grew. One that was not there began at zero in between; one that is smaller began anew.
fn grown<K: Eq + std::hash::Hash>(before: &HashMap<K, u64>, now: HashMap<K, u64>) -> HashMap<K, u64> {
    let grown = now.into_iter().map(|(key, now)| {
        let more = before.get(&key).map_or(now, |before| now.checked_sub(*before).unwrap_or(now));
        (key, more)
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_begin_and_begin_anew() {
        let before = HashMap::from([("grew", 5), ("same", 5), ("anew", 5), ("gone", 5)]);
        let now = HashMap::from([("grew", 7), ("same", 5), ("anew", 2), ("began", 3)]);
        let expect = HashMap::from([("grew", 2), ("same", 0), ("anew", 2), ("began", 3)]);
        assert_eq!(grown(&before, now), expect);
    }
}
