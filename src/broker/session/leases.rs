//! Leases of deliveries: asking for more time, and what a client is told that had something for too long.

use super::session::Session;
use super::settling::GETS;
use super::word::{FrontEnd, Word};
use crate::model::{CONSUMER_TIMEOUT, Entity, QueueId, Refusal, ReplyCode};
use crate::shard::{Command, ConsumerKey, TagRange, Tags};

/// Deliveries that somebody is still at work on.
#[derive(Debug, Clone)]
pub struct ExtendRequest {
    /// The channel.
    pub channel: u32,
    /// The consumer; 0: messages got one by one.
    pub consumer: u32,
    /// Which deliveries.
    pub ranges: Vec<TagRange>,
    /// Answer when the queue has it.
    pub request: Option<u64>,
}

/// What came back to a queue, since somebody had it for longer than a lease.
pub(super) struct Lapse {
    pub(super) queue: QueueId,
    pub(super) key: ConsumerKey,
    /// In order.
    pub(super) lapsed: Vec<Tags>,
    pub(super) lease_millis: u64,
}

impl<F: FrontEnd> Session<F> {
    /// The leases of deliveries begin anew. If an answer is wanted, [`Word::Settled`] follows. [`Word::Refused`] in its stead, or
    /// unasked, with 404 for a consumer that does not exist, 406 for tags that were not given out or are settled; the leases of
    /// the others begin anew then.
    pub fn extend(&mut self, extend: ExtendRequest) {
        let ExtendRequest { channel, consumer, ranges, request } = extend;
        let extending = |queue, key, ranges, reply| Command::Extend { queue, key, ranges, reply };
        if consumer == GETS {
            let asked = self.gets.entry(channel).or_default().extend(&ranges);
            return self.ask_about_gets(channel, asked, request, extending);
        }
        self.ask_about_deliveries((channel, consumer), ranges, request, extending);
    }

    /// A queue has back what this client had for too long.
    pub(super) fn lapsed(&mut self, lapse: &Lapse) -> Option<Word<F>> {
        let Lapse { queue, key, lapsed, lease_millis } = lapse;
        let ConsumerKey { channel, handle: consumer, .. } = *key;
        let first = lapsed.first()?.first;
        let name = self.who.vhost.queue_of_id(*queue).map(|queue| queue.name.to_string()).unwrap_or_default();
        let refusal = |tag: u64| Box::new(lease_over(&name, tag, *lease_millis));
        if !key.is_consumer() {
            let tag = self.gets.get_mut(&channel)?.lose(*queue, lapsed)?;
            return Some(Word::Refused { channel, request: 0, refusal: refusal(tag) });
        }
        let refusal = refusal(first);
        if let Some(ended) = self.ended(*queue, *key, refusal.text.clone(), Some(refusal.clone())) {
            return Some(ended);
        }
        // It had ended, and kept what it had.
        let is_its =
            self.consumers.get(&(channel, consumer)).is_some_and(|consumer| consumer.queue == *queue);
        is_its.then_some(Word::Refused { channel, request: 0, refusal })
    }
}

fn lease_over(queue: &str, tag: u64, lease_millis: u64) -> Refusal {
    let text = format!(
        "delivery {tag} of queue '{queue}' was neither settled nor extended within {lease_millis} ms"
    );
    Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Queue, queue)
        .field(
            CONSUMER_TIMEOUT,
            format!("settled or extended within {lease_millis} ms"),
            format!("delivery tag {tag} that was not"),
        )
        .hint("it is back in its queue; take fewer at a time (prefetch), or extend what takes longer")
}
