//! Bounds on what all consumers of a channel have and have not settled, together.

use std::sync::Arc;

use super::session::{Session, Waiting};
use super::word::{FrontEnd, Word};
use crate::shard::{ChannelPrefetch, Command, ConsumerKey, ShardHandle, SharedPrefetch};

impl<F: FrontEnd> Session<F> {
    /// Bounds what all consumers of a channel have and have not settled: those that are there and those that come; 0: no bound.
    /// [`Word::PrefetchLimited`] follows when it holds. What they have counts already, and may be more.
    pub fn limit_prefetch(&mut self, channel: u32, prefetch: u32, request: u64) {
        let consumers = match self.prefetches.get(&channel) {
            Some(bound) => {
                bound.set(prefetch);
                0
            }
            None if prefetch == 0 => 0,
            None => self.begin_to_share(channel),
        };
        self.waiting = Some(Waiting::Limited { channel, request, prefetch, consumers });
        let told = self.consumers_share(channel);
        self.said.extend(told);
    }

    /// Has the consumers of a channel share a bound that lets nothing go out yet: what one of them has does not count before its
    /// shard has told it. Returns how many there are.
    fn begin_to_share(&mut self, channel: u32) -> usize {
        self.prefetches.insert(channel, ChannelPrefetch::new());
        let mut places: Vec<(u32, u32)> =
            self.consumers.keys().filter(|place| place.0 == channel).copied().collect();
        places.sort_unstable();
        for place in &places {
            let Some(consumer) = self.consumers.get(place) else { continue };
            let Some(shared) = self.shared_prefetch(channel, &consumer.shard) else { continue };
            let (queue, key) = (consumer.queue, self.key(place.0, place.1));
            let outlet = Arc::clone(&self.outlet);
            consumer.shard.send(Command::Share { queue, key, shared, outlet });
        }
        places.len()
    }

    /// The bound of a channel, for consumers of a shard.
    pub(super) fn shared_prefetch(&self, channel: u32, home: &ShardHandle) -> Option<SharedPrefetch> {
        let prefetch = Arc::clone(self.prefetches.get(&channel)?);
        Some(SharedPrefetch { prefetch, home: home.clone() })
    }

    /// What a consumer has counts for the bound of its channel.
    pub(super) fn shares(&mut self, key: ConsumerKey) -> Option<Word<F>> {
        match &mut self.waiting {
            Some(Waiting::Limited { channel, consumers, .. }) if *channel == key.channel => {
                *consumers = consumers.saturating_sub(1);
            }
            _ => return None,
        }
        self.consumers_share(key.channel)
    }

    /// Sets a bound for which all consumers count.
    fn consumers_share(&mut self, of: u32) -> Option<Word<F>> {
        let all_count = |waiting: &mut Waiting<F>| matches!(waiting, Waiting::Limited { channel, consumers: 0, .. } if *channel == of);
        let Some(Waiting::Limited { channel, request, prefetch, .. }) = self.waiting.take_if(all_count)
        else {
            return None;
        };
        if let Some(bound) = self.prefetches.get(&channel) {
            bound.set(prefetch);
        }
        Some(Word::PrefetchLimited { channel, request })
    }
}
