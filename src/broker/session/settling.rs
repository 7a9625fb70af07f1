//! Settlements, and the answers to those who want to know that the disk has them.

use std::sync::Arc;

use super::consuming::no_such_consumer;
use super::gets::SettledGets;
use super::session::Session;
use super::word::{FrontEnd, Word};
use crate::model::Refusal;
use crate::shard::{Command, ConsumerKey, SettleReply, Settlement};

/// Deliveries to be settled.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// The channel.
    pub channel: u32,
    /// The consumer; 0: messages got one by one.
    pub consumer: u32,
    /// Which deliveries, and what became of them.
    pub settlements: Vec<Settlement>,
    /// Answer when the disk has it.
    pub request: Option<u64>,
}

/// A request to settle that queues have not answered for yet.
#[derive(Debug)]
pub(super) struct Settling {
    /// `None`: the channel was closed, or a refusal was the answer.
    pub(super) channel: Option<u32>,
    request: u64,
    /// Queues that have not told.
    queues: usize,
}

/// In the place of a consumer's number: what the channel got one by one.
pub(super) const GETS: u32 = 0;

impl<F: FrontEnd> Session<F> {
    /// Settles deliveries. If an answer is wanted, [`Word::Settled`] follows. [`Word::Refused`] in its stead, or unasked, with
    /// 404 for a consumer that does not exist, 406 for tags that were not given out or are settled; the others are settled
    /// then.
    pub fn settle(&mut self, settle: SettleRequest) {
        let SettleRequest { channel, consumer, settlements, request } = settle;
        if consumer == GETS {
            return self.settle_gets(channel, &settlements, request);
        }
        let key = self.key(channel, consumer);
        let Some(consumer) = self.consumers.get(&(channel, consumer)) else {
            return self.refuse_settling(channel, request, no_such_consumer(consumer));
        };
        let (shard, queue) = (consumer.shard.clone(), consumer.queue);
        let ticket = self.ask_queues(channel, request, 1);
        let reply = ticket.map(|request| SettleReply { request, outlet: Arc::clone(&self.outlet) });
        shard.send(Command::Settle { queue, key, settlements, reply });
    }

    fn settle_gets(&mut self, channel: u32, settlements: &[Settlement], request: Option<u64>) {
        let SettledGets { by_queue, refusal } = self.gets.entry(channel).or_default().settle(settlements);
        // What is refused is answered by the refusal, and by nothing else.
        let wanted = request.filter(|_| refusal.is_none());
        if let Some(refusal) = refusal {
            self.refuse_settling(channel, request, refusal);
        }
        let shards = by_queue.into_iter().filter_map(|(source, settlements)| {
            let shard = self.broker.shared.shard(source.shard)?.clone();
            Some((shard, source.queue, settlements))
        });
        let shards: Vec<_> = shards.collect();
        let ticket = self.ask_queues(channel, wanted, shards.len());
        let key = self.key_of_gets(channel, false);
        for (shard, queue, settlements) in shards {
            let outlet = || Arc::clone(&self.outlet);
            let reply = ticket.map(|request| SettleReply { request, outlet: outlet() });
            shard.send(Command::Settle { queue, key, settlements, reply });
        }
    }

    /// So many queues are asked; returns under which number they answer, if an answer is wanted. If they are none, it is given.
    pub(super) fn ask_queues(&mut self, channel: u32, request: Option<u64>, queues: usize) -> Option<u64> {
        let request = request?;
        if queues == 0 {
            self.said.push_back(Word::Settled { channel, request });
            return None;
        }
        Some(self.settling.insert(Settling { channel: Some(channel), request, queues }))
    }

    /// A queue has settled what was asked for.
    pub(super) fn settled(&mut self, ticket: u64) -> Option<Word<F>> {
        let Settling { channel, request, .. } = self.settling_answered(ticket, |_| {})?;
        channel.map(|channel| Word::Settled { channel, request })
    }

    /// A queue has refused what was to be settled, or a part of it.
    pub(super) fn settle_refused(
        &mut self,
        key: ConsumerKey,
        ticket: Option<u64>,
        refusal: Box<Refusal>,
    ) -> Option<Word<F>> {
        let Some(ticket) = ticket else {
            let ConsumerKey { channel, handle, .. } = key;
            let is_known = match key.is_consumer() {
                true => self.consumers.contains_key(&(channel, handle)),
                false => self.gets.contains_key(&channel),
            };
            return is_known.then_some(Word::Refused { channel, request: 0, refusal });
        };
        let mut told = None;
        self.settling_answered(ticket, |settling| {
            let request = settling.request;
            told = settling.channel.take().map(|channel| Word::Refused { channel, request, refusal });
        });
        told
    }

    /// What a request was, once all queues have answered.
    fn settling_answered(&mut self, ticket: u64, note: impl FnOnce(&mut Settling)) -> Option<Settling> {
        let settling = self.settling.get_mut(ticket)?;
        note(settling);
        settling.queues -= 1;
        if settling.queues > 0 { None } else { self.settling.remove(ticket) }
    }

    pub(super) fn refuse_settling(&mut self, channel: u32, request: Option<u64>, refusal: Refusal) {
        let request = request.unwrap_or(0);
        self.said.push_back(Word::Refused { channel, request, refusal: Box::new(refusal) });
    }
}
