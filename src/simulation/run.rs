//! The run of one seed: which step is next.

use std::collections::{BTreeMap, BTreeSet};

use super::activity::priority;
use super::books::{Books, Finding, MessageId, QueueNumber, Way};
use super::client::{Answer, CHANNEL, Client, Messages, Pending, message_bytes};
use super::counters::Counters;
use super::moving::Seized;
use super::random::Random;
use super::subscriptions::subscriptions;
use super::topology::Topology;
use super::trace::Trace;
use super::world::{World, fresh_disk};
use crate::broker::{
    Address, ConsumeRequest, Outcome as Settles, Publish, SettleRequest, Settlement, TagRange,
};
use crate::model::{ExchangeName, RoutingKey};
use crate::storage::testing::MemoryDisk;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulationOptions {
    /// What decides everything.
    pub seed: u64,
    /// Steps: something that a client, a task, a log or the disk does.
    pub steps: u64,
    /// Whether there are crashes and troubles of the disk.
    pub faults: bool,
    /// How many of the last things that happened are told of a failure.
    pub trace_lines: usize,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What happened, how often.
    pub counters: Counters,
    /// A number for all that happened: the same for the same options and the same program.
    pub trace: u64,
    /// What the broker did that it must not do, with the last of what happened before; `None`: nothing.
    pub failure: Option<Failure>,
}

/// A broker's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step at which it was found.
    pub step: u64,
    /// What it is, in a sentence.
    pub what: String,
    /// What happened last.
    pub trace: Vec<String>,
}

/// Runs a broker through what the seed decides, and holds it against its clients' books.
pub fn simulate(options: SimulationOptions) -> Outcome {
    let mut run = match Run::begin(options) {
        Ok(run) => run,
        Err(what) => {
            let failure = Failure { step: 0, what, trace: Vec::new() };
            return Outcome { counters: Counters::default(), trace: 0, failure: Some(failure) };
        }
    };
    let mut found = Ok(());
    while found.is_ok() && run.counters.steps < options.steps {
        run.counters.steps += 1;
        found = run.step();
    }
    let found = found.and_then(|()| run.end());
    let Run { counters, trace, .. } = run;
    let hash = trace.hash();
    let failure = found.err().map(|what| Failure { step: counters.steps, what, trace: trace.into_lines() });
    Outcome { counters, trace: hash, failure }
}

/// Longest time for which a client has the queue hold back what it gives back.
const DEFERRED_MAX_MS: usize = 3_000;
/// Names of queues.
pub(super) const QUEUES: [&str; 8] = ["ant", "bee", "cat", "dog", "eel", "hen", "ibis", "jay"];
/// Those of queues that only memory holds: one for everybody, one for the connection that made it.
pub(super) const FLEETING: [&str; 2] = [TRANSIENT, EXCLUSIVE];
const TRANSIENT: &str = "fly";
pub(super) const EXCLUSIVE: &str = "gnat";
pub(super) const EXCHANGES: [&str; 3] = ["amq.direct", "amq.fanout", "amq.topic"];
pub(super) const PATTERNS: [&str; 6] = ["a", "b.c", "a.*", "#", "*.c", "b.#"];
const KEYS: [&str; 5] = ["a", "a.c", "b.c", "b", "b.c.d"];
const CLIENTS_MAX: usize = 4;
/// Bytes of the largest body but a few.
const LARGE_BYTES: usize = 24 * 1024;

pub(super) struct Run {
    pub(super) options: SimulationOptions,
    pub(super) random: Random,
    pub(super) disk: MemoryDisk,
    pub(super) world: World,
    pub(super) clients: Vec<Client>,
    /// What they have seen and are about to move.
    pub(super) seized: Vec<Seized>,
    pub(super) books: Books,
    pub(super) counters: Counters,
    pub(super) trace: Trace,
    pub(super) now_ms: u64,
    /// The request that is changing what exists: one at a time, so that it is known what is certain.
    pub(super) topology: Option<Topology>,
    /// Whoever asked for it is gone: it is carried out or not, and nobody hears of it.
    pub(super) is_topology_orphaned: bool,
    /// A call of the disk fails, or has failed: this life of the broker ends soon.
    pub(super) is_troubled: bool,
    /// The disk has room for no more than this.
    pub(super) is_full: bool,
    /// The oldest message that a queue was seen to retain.
    pub(super) oldest_retained: BTreeMap<QueueNumber, u64>,
    /// Names of queues and subscriptions that may have gone by themselves around the end of the last broker.
    pub(super) passing: BTreeSet<&'static str>,
    /// Dead letters that were seen where they go, and where they died.
    pub(super) collected: BTreeSet<(MessageId, String)>,
    next_client: u32,
}

impl Run {
    fn begin(options: SimulationOptions) -> Result<Self, Finding> {
        let disk = fresh_disk();
        let now_ms = 1_000_000;
        let world =
            World::open(&disk, now_ms).map_err(|failure| format!("the broker does not start: {failure}"))?;
        Ok(Self {
            options,
            random: Random::new(options.seed),
            disk,
            world,
            clients: Vec::new(),
            seized: Vec::new(),
            books: Books { subscriptions: subscriptions(), ..Books::default() },
            counters: Counters::default(),
            trace: Trace::new(options.trace_lines),
            now_ms,
            topology: None,
            is_topology_orphaned: false,
            is_troubled: false,
            is_full: false,
            oldest_retained: BTreeMap::new(),
            passing: BTreeSet::new(),
            collected: BTreeSet::new(),
            next_client: 1,
        })
    }

    fn step(&mut self) -> Result<(), Finding> {
        if self.random.one_in(50) {
            self.rarely()?;
        }
        self.look_sometimes()?;
        self.quiet_step()
    }

    fn look_sometimes(&mut self) -> Result<(), Finding> {
        if self.random.one_in(180)
            && let Some(queue) = self.random.pick(self.books.for_all())
        {
            self.look_into(queue)?;
        }
        if self.is_full && self.random.one_in(25) {
            // What goes though there is no room is soon past.
            let retain = |queue: &QueueNumber| self.books.queues[*queue].bounds.is_some();
            let retaining: Vec<QueueNumber> = self.books.there().into_iter().filter(retain).collect();
            if let Some(queue) = self.random.pick(retaining) {
                self.look_into(queue)?;
            }
        }
        if self.random.one_in(200) && !self.disk.is_powered_off() {
            self.check_subscriptions()?;
        }
        Ok(())
    }

    /// A step in which nothing ends and nothing fails, if that is not ordered already.
    pub(super) fn quiet_step(&mut self) -> Result<(), Finding> {
        self.fade();
        match self.random.below(104) {
            0..=24 => self.publish(),
            25..=39 => self.settle(),
            40..=46 => self.consume(),
            47..=50 => self.get(),
            51..=55 => self.change_topology()?,
            56..=57 => self.come_or_go(),
            58 => self.purge(),
            59..=72 => drop(self.world.workers.step_log(&mut self.random)),
            73..=82 => self.work(),
            83..=86 => self.pass_time(),
            98..=100 => self.begin_reading(),
            101..=103 => self.move_messages(),
            _ => self.world.tick(1 + self.random.below(4)),
        }
        if self.random.one_in(2) {
            self.world.tick(1);
        }
        self.books.note_time(self.world.workers.now().0);
        self.counters.note(self.world.workers.take_counts());
        if self.disk.is_powered_off() {
            return self.crash();
        }
        self.listen()
    }

    /// The end of a run: everything is held against the books, and after a stop and a start again.
    fn end(&mut self) -> Result<(), Finding> {
        self.restart_if_troubled()?;
        self.audit()?;
        self.stop()?;
        self.audit()?;
        if self.options.faults { self.rot() } else { Ok(()) }
    }

    fn rarely(&mut self) -> Result<(), Finding> {
        match self.random.below(if self.options.faults { 40 } else { 4 }) {
            0..=1 => {
                self.restart_if_troubled()?;
                self.audit()
            }
            2..=3 => {
                self.restart_if_troubled()?;
                self.stop()
            }
            4..=8 => self.crash(),
            9..=11 => self.crash_in_peace(),
            12..=39 => {
                self.trouble();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Hears what the broker has to say to its clients.
    pub(super) fn listen(&mut self) -> Result<(), Finding> {
        self.books.note_time(self.world.workers.now().0);
        let mut index = 0;
        while index < self.clients.len() {
            let words = self.clients[index].words();
            let mut stays = true;
            for word in words {
                stays &= self.hear(index, word)?;
            }
            if stays {
                index += 1;
            } else {
                self.leave(index);
            }
        }
        if !self.world.workers.is_writing() {
            self.books.note_all_written();
        }
        self.publish_seized();
        Ok(())
    }

    fn publish(&mut self) {
        let Some(index) = self.some_client() else { return };
        if !self.clients[index].session.takes_more() || self.clients[index].session.is_blocked() {
            return;
        }
        let (exchange, key) = match self.random.one_in(2) {
            true => ("", self.some_name()),
            false => (EXCHANGES[self.random.below(3)], KEYS[self.random.below(KEYS.len())]),
        };
        let transient = self.random.one_in(8);
        let count = 1 + self.random.below(6);
        let padding = match self.random.below(12) {
            0 => self.random.below(LARGE_BYTES),
            1..=4 => self.random.below(1000),
            _ => self.random.below(20),
        };
        let route = self.books.route(exchange, key);
        let client = &mut self.clients[index];
        let first_sequence = client.next_sequence;
        let publish_next = |_| {
            let bytes = message_bytes(self.books.next_id(), padding);
            self.books.published(client.number, &route, bytes)
        };
        let ids: Vec<MessageId> = (0..count).map(publish_next).collect();
        client.sent.extend((first_sequence..).zip(ids.iter().copied()));
        client.next_sequence += count as u64;
        self.counters.published += count as u64;
        self.trace.note(format_args!(
            "client {} publishes {}..+{count} to '{exchange}' '{key}' {transient} {padding}",
            client.number, ids[0]
        ));
        let publish = Publish {
            channel: CHANNEL,
            publisher: 0,
            first_sequence,
            address: Some(Address {
                exchange: ExchangeName::new(exchange).expect("a name of the simulation's"),
                routing_key: RoutingKey::new(key).expect("a key of the simulation's"),
                mandatory: false,
                transient,
            }),
            messages: Messages::numbered(ids.iter().map(|id| (*id, padding))),
        };
        let session = &mut client.session;
        self.world.enter(|| session.publish(publish));
        if client.session.is_blocked() {
            ids.into_iter().for_each(|id| self.books.waits(id));
        }
    }

    /// Rather one of a queue that survives.
    pub(super) fn some_name(&mut self) -> &'static str {
        match self.random.one_in(8) {
            true => FLEETING[self.random.below(FLEETING.len())],
            false => QUEUES[self.random.below(QUEUES.len())],
        }
    }

    fn settle(&mut self) {
        let holding = (0..self.clients.len()).filter(|index| !self.clients[*index].held.is_empty());
        let Some(index) = self.random.pick(holding) else { return };
        let client = &mut self.clients[index];
        let Some((consumer, from)) = self.random.pick(client.held.keys().copied()) else { return };
        let first = if self.random.one_in(4) { 0 } else { from };
        // What it has not heard of yet it does not settle.
        let newest =
            client.held.range(..=(consumer, u64::MAX)).next_back().map_or(from, |((_, tag), _)| *tag);
        let last = if self.random.one_in(3) { newest.min(from + self.random.number() % 16) } else { from };
        let outcome = match self.random.below(8) {
            0 => Settles::Requeued,
            1 => Settles::Deferred(self.random.below(DEFERRED_MAX_MS) as u64),
            2 => Settles::Rejected,
            _ => Settles::Accepted,
        };
        let tags = (consumer, first)..=(consumer, last);
        let settled: Vec<_> = client.held.range(tags).map(|(place, message)| (*place, *message)).collect();
        for (place, _) in &settled {
            client.held.remove(place);
        }
        let messages: Vec<(MessageId, QueueNumber)> =
            settled.into_iter().map(|(_, message)| message).collect();
        self.trace.note(format_args!(
            "client {} settles {consumer} {first}-{last} {outcome:?} {messages:?}",
            client.number
        ));
        // One that is given several tags of which it does not hold some settles the others.
        let request = match outcome {
            Settles::Requeued | Settles::Deferred(_) => {
                self.counters.deferred += u64::from(matches!(outcome, Settles::Deferred(_)));
                self.random.one_in(2).then(|| client.request(Pending::Settle { messages: Vec::new() }))
            }
            _ => {
                let way = if outcome == Settles::Accepted { Way::Done } else { Way::Died };
                messages.iter().for_each(|(id, queue)| self.books.leaving(*id, *queue, way));
                (!self.random.one_in(4)).then(|| client.request(Pending::Settle { messages }))
            }
        };
        let settlements = vec![Settlement { range: TagRange { first, last }, outcome }];
        let session = &mut client.session;
        self.world
            .enter(|| session.settle(SettleRequest { channel: CHANNEL, consumer, settlements, request }));
    }

    fn consume(&mut self) {
        let Some((index, queue)) = self.some_use() else { return };
        let client = &mut self.clients[index];
        let live: Vec<u32> = client
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.is_live)
            .map(|(number, _)| *number)
            .collect();
        if live.len() >= 3 || self.random.one_in(5) {
            let Some(consumer) = self.random.pick(live) else { return };
            let request = client.request(Pending::Cancel);
            self.trace.note(format_args!("client {} cancels {consumer}", client.number));
            return client.session.cancel(CHANNEL, consumer, request);
        }
        self.counters.returns_from_dark += u64::from(self.is_dark(queue));
        let no_ack = self.random.one_in(4);
        let is_alone = !self.share(queue);
        let client = &mut self.clients[index];
        let consumer = client.new_consumer(queue, no_ack);
        client.consumers.get_mut(&consumer).into_iter().for_each(|consumer| consumer.is_alone = is_alone);
        let request = client.request(Pending::Consume { consumer });
        let name = self.books.queues[queue].name;
        self.trace.note(format_args!("client {} consumes '{name}' as {consumer} {no_ack}", client.number));
        client.session.consume(ConsumeRequest {
            queue: name.to_owned(),
            channel: CHANNEL,
            consumer,
            tag: String::new(),
            prefetch: [0, 1, 5, 50][self.random.below(4)],
            no_ack,
            exclusive: false,
            priority: priority(consumer),
            credit: self.random.one_in(6).then_some(3),
            request,
        });
    }

    /// One more takes from a queue. `true`: others do, or hold something of it.
    fn share(&mut self, queue: QueueNumber) -> bool {
        let mut is_shared = false;
        for client in &mut self.clients {
            for consumer in client.consumers.values_mut().filter(|consumer| consumer.queue == queue) {
                consumer.is_alone = false;
                is_shared |= consumer.is_live;
            }
            is_shared |= client.held.values().any(|(_, of)| *of == queue);
            is_shared |= client
                .pending
                .values()
                .any(|pending| matches!(pending, Pending::Get { queue: of, .. } if *of == queue));
        }
        is_shared
    }

    fn get(&mut self) {
        let Some((index, queue)) = self.some_use() else { return };
        self.share(queue);
        let client = &mut self.clients[index];
        let no_ack = self.random.one_in(3);
        let request = client.request(Pending::Get { queue, no_ack });
        let name = self.books.queues[queue].name;
        self.trace.note(format_args!("client {} gets from '{name}' {no_ack}", client.number));
        client.session.get(CHANNEL, name, no_ack, request);
        self.note_use(queue);
    }

    fn purge(&mut self) {
        let Some((index, queue)) = self.some_use() else { return };
        let client = &mut self.clients[index];
        let request = client.request(Pending::Purge);
        let name = self.books.queues[queue].name;
        self.trace.note(format_args!("client {} purges '{name}'", client.number));
        self.books.all_leaving(queue, Way::Dropped);
        let (broker, who) = (self.world.broker.clone(), client.session.identity().clone());
        client.session.carry_out(CHANNEL, request, async move {
            broker.purge_queue(&who, name).await.map(|_| Answer::Purged)
        });
    }

    fn come_or_go(&mut self) {
        if self.clients.len() < CLIENTS_MAX && !self.random.one_in(4) {
            self.arrive();
        } else if let Some(index) = self.some_client() {
            self.leave(index);
        }
    }

    pub(super) fn arrive(&mut self) -> usize {
        let client = Client::connect(&self.world, self.next_client);
        self.next_client += 1;
        self.trace.note(format_args!("client {} comes", client.number));
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// A client goes without a word. What it asked for may happen or not.
    pub(super) fn leave(&mut self, index: usize) {
        let client = self.clients.swap_remove(index);
        self.trace.note(format_args!("client {} goes", client.number));
        self.forget(&client);
        let session = client.session;
        self.world.enter(|| session.close());
        let live = client.consumers.values().filter(|consumer| consumer.is_live);
        live.for_each(|consumer| self.note_use(consumer.queue));
        self.counters.gone_with_connections += self.books.owner_gone(client.number);
    }

    /// What was on its way to a client that is gone, and needs no settling, has left its queue or not.
    pub(super) fn forget(&mut self, client: &Client) {
        let consumed = client.consumers.values().filter(|consumer| consumer.no_ack && consumer.is_live);
        let got = client.pending.values().filter_map(|pending| match pending {
            Pending::Get { queue, no_ack: true } => Some(*queue),
            _ => None,
        });
        let queues = consumed.map(|consumer| consumer.queue).chain(got);
        queues.for_each(|queue| self.books.all_leaving(queue, Way::Done));
        for pending in client.pending.values() {
            if let Pending::Remove { from, messages } = pending {
                self.perhaps_taken_out(*from, messages);
            }
        }
        if client.pending.values().any(|pending| matches!(pending, Pending::Topology)) {
            self.is_topology_orphaned = true;
        }
    }

    fn work(&mut self) {
        if self.world.workers.work(&mut self.random) {
            self.counters.work += 1;
        }
    }

    fn pass_time(&mut self) {
        let millis = match self.random.below(10) {
            0 => 10_000,
            1..=4 => 200,
            _ => 5,
        };
        self.now_ms += millis;
        self.world.workers.advance(millis);
        self.trace.note(format_args!("it is {}", self.world.workers.now().0));
    }

    pub(super) fn some_client(&mut self) -> Option<usize> {
        if self.clients.is_empty() {
            return Some(self.arrive());
        }
        Some(self.random.below(self.clients.len()))
    }

    /// A client that may ask for something, and a queue that is there for certain.
    pub(super) fn some_use(&mut self) -> Option<(usize, QueueNumber)> {
        let index = self.some_client()?;
        if !self.clients[index].session.takes_more() {
            return None;
        }
        let queue = self.random.pick(self.books.there())?;
        let Some(owner) = self.books.queues[queue].owner else { return Some((index, queue)) };
        let index = self.clients.iter().position(|client| client.number == owner)?;
        self.clients[index].session.takes_more().then_some((index, queue))
    }
}
