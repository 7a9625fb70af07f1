//! Settlements, and the answers to those who want to know that the disk has them.

use std::sync::Arc;

use super::consuming::no_such_consumer;
use super::gets::AskedOfGets;
use super::session::Session;
use super::word::{FrontEnd, Word};
use crate::model::{QueueId, Refusal};
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
        let settling = |queue, key, settlements, reply| Command::Settle { queue, key, settlements, reply };
        if consumer == GETS {
            let asked = self.gets.entry(channel).or_default().settle(&settlements);
            return self.ask_about_gets(channel, asked, request, settling);
        }
        self.ask_about_deliveries((channel, consumer), settlements, request, settling);
    }

    /// Asks the queue of a consumer something about deliveries.
    pub(super) fn ask_about_deliveries<T>(
        &mut self,
        (channel, consumer): (u32, u32),
        what: Vec<T>,
        request: Option<u64>,
        command: impl Fn(QueueId, ConsumerKey, Vec<T>, Option<SettleReply>) -> Command,
    ) {
        let key = self.key(channel, consumer);
        let Some(consumer) = self.consumers.get(&(channel, consumer)) else {
            return self.refuse_settling(channel, request, no_such_consumer(consumer));
        };
        let (shard, queue) = (consumer.shard.clone(), consumer.queue);
        let ticket = self.ask_queues(channel, request, 1);
        shard.send(command(queue, key, what, self.reply_of(ticket)));
    }

    /// The same about messages that a channel got one by one, each queue of them.
    pub(super) fn ask_about_gets<T>(
        &mut self,
        channel: u32,
        asked: AskedOfGets<T>,
        request: Option<u64>,
        command: impl Fn(QueueId, ConsumerKey, Vec<T>, Option<SettleReply>) -> Command,
    ) {
        let AskedOfGets { by_queue, refusal } = asked;
        // What is refused is answered by the refusal, and by nothing else.
        let wanted = request.filter(|_| refusal.is_none());
        if let Some(refusal) = refusal {
            self.refuse_settling(channel, request, refusal);
        }
        let shards = by_queue.into_iter().filter_map(|(source, what)| {
            let shard = self.broker.shared.shard(source.shard)?.clone();
            Some((shard, source.queue, what))
        });
        let shards: Vec<_> = shards.collect();
        let ticket = self.ask_queues(channel, wanted, shards.len());
        let key = self.key_of_gets(channel, false);
        for (shard, queue, what) in shards {
            shard.send(command(queue, key, what, self.reply_of(ticket)));
        }
    }

    fn reply_of(&self, ticket: Option<u64>) -> Option<SettleReply> {
        ticket.map(|request| SettleReply { request, outlet: Arc::clone(&self.outlet) })
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
