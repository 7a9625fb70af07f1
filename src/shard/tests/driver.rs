//! What stands around a shard: its log, its disk, one connection and somebody who reads bodies back.

use std::hash::BuildHasher;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};

use crate::journey::{Party, Taker};
use crate::message::{Delay, Expiration, MessageRun, encode_item, encode_priority, item, message_ends};
use crate::model::{
    BodySequence, ConnectionId, ExchangeName, QueueId, RoutingKey, ShardId, Timestamp, UserName,
};
use crate::queue::SequenceRun;
use crate::shard::bodies::Missing;
use crate::shard::read_back::read_back;
use crate::shard::*;
use crate::storage::testing::{MemoryDisk, SteppedLog};
use crate::storage::{
    Batch, BodyRead, DirectLogOptions, KnownLog, LogFailure, LogIndex, LogKeeper, LogPosition, MemoryLog,
    OpenFailure, Progress, ShardLog,
};

pub(super) const DIRECTORY: &str = "/shard";

/// Small, so that there are many.
const SEGMENT_BYTES: u64 = 8 * 1024;

/// How long a turn takes.
const TURN_MILLIS: u64 = 1000;

pub(super) const UNLIMITED: ConsumerLimits = ConsumerLimits {
    prefetch: 0,
    no_ack: false,
    exclusive: false,
    credit: None,
    window_bytes: u64::MAX,
    priority: 0,
};

/// A log that shard and test share.
#[derive(Clone)]
pub(super) struct SharedLog(pub(super) Arc<Mutex<SteppedLog>>);

impl ShardLog for SharedLog {
    fn next_index(&self) -> LogIndex {
        self.0.lock().unwrap().next_index()
    }

    fn propose(&mut self, batch: Batch) -> Result<LogIndex, LogFailure> {
        self.0.lock().unwrap().propose(batch)
    }

    fn progress(&self) -> Progress {
        self.0.lock().unwrap().progress()
    }

    fn idle(&self) -> bool {
        self.0.lock().unwrap().idle()
    }

    fn pending_bytes(&self) -> usize {
        self.0.lock().unwrap().pending_bytes()
    }

    fn reader(&self) -> Arc<dyn BodyRead> {
        self.0.lock().unwrap().reader()
    }

    fn position(&self) -> LogPosition {
        self.0.lock().unwrap().position()
    }

    fn known(&self) -> Option<KnownLog> {
        self.0.lock().unwrap().known()
    }

    fn keeper(&self) -> Option<Arc<dyn LogKeeper>> {
        self.0.lock().unwrap().keeper()
    }
}

/// The expiration of a message that has none.
pub(super) const NEVER: u64 = u64::MAX;

/// What comes of a request.
pub(super) type Answer<T> = tokio::sync::oneshot::Receiver<Result<T, Box<crate::model::Refusal>>>;

/// Whatever number a queue has, it may have existed.
pub(super) const LAST_NUMBERED: QueueId = QueueId(u64::MAX);

pub(super) struct Driver {
    pub(super) shard: Shard,
    pub(super) log: Option<SharedLog>,
    pub(super) outlet: Outlet,
    pub(super) notices: Arc<Mailbox<Notice>>,
    now: Timestamp,
    reader: Arc<dyn BodyRead>,
    access: LogAccess,
    last_ticket: u64,
    hold_reads: bool,
    held: Vec<Job>,
    turn_millis: u64,
}

impl Driver {
    /// A shard whose queues do not survive.
    pub(super) fn in_memory(queues: &[QueueId]) -> Self {
        let (mut shard, notices) = new_shard(usize::MAX);
        shard.start(Box::new(MemoryLog::new()), &options_of(queues), LAST_NUMBERED).unwrap();
        Self::around(shard, notices, None)
    }

    /// A shard on what the disk has.
    pub(super) fn open(disk: &MemoryDisk, resident_bytes_max: usize, queues: &[QueueId]) -> Self {
        Self::try_open(disk, resident_bytes_max, queues).unwrap()
    }

    pub(super) fn try_open(
        disk: &MemoryDisk,
        resident_bytes_max: usize,
        queues: &[QueueId],
    ) -> Result<Self, OpenFailure> {
        Self::try_open_with(disk, resident_bytes_max, queues, SEGMENT_BYTES)
    }

    /// With segments of this length.
    pub(super) fn try_open_with(
        disk: &MemoryDisk,
        resident_bytes_max: usize,
        queues: &[QueueId],
        segment_bytes: u64,
    ) -> Result<Self, OpenFailure> {
        Self::try_open_as(disk, resident_bytes_max, &options_of(queues), segment_bytes)
    }

    /// With queues that are this.
    pub(super) fn open_as(
        disk: &MemoryDisk,
        resident_bytes_max: usize,
        queues: &[(QueueId, QueueOptions)],
    ) -> Self {
        Self::try_open_as(disk, resident_bytes_max, queues, SEGMENT_BYTES).unwrap()
    }

    fn try_open_as(
        disk: &MemoryDisk,
        resident_bytes_max: usize,
        queues: &[(QueueId, QueueOptions)],
        segment_bytes: u64,
    ) -> Result<Self, OpenFailure> {
        let (mut shard, notices) = new_shard(resident_bytes_max);
        let options = DirectLogOptions { segment_bytes, ..DirectLogOptions::default() };
        let log = SteppedLog::open(Arc::new(disk.clone()), Path::new(DIRECTORY), &options, &mut shard)?;
        let log = SharedLog(Arc::new(Mutex::new(log)));
        shard.start(Box::new(log.clone()), queues, LAST_NUMBERED)?;
        Ok(Self::around(shard, notices, Some(log)))
    }

    /// Time passes in which nothing happens but what the disk still does.
    pub(super) fn wake_after(&mut self, millis: u64) -> Vec<Event> {
        self.now.0 += millis;
        let mut events = self.turn(Vec::new());
        if !self.shard.log().idle() {
            events.extend(self.step());
        }
        events
    }

    /// The clock is set back.
    pub(super) fn turn_back(&mut self, millis: u64) {
        self.now.0 -= millis;
    }

    /// A clean stop.
    pub(super) fn stop(&mut self) {
        self.shard.prepare_stop(self.now);
        self.settle_down();
        if let Some(job) = self.shard.closing_checkpoint() {
            self.command(job.run_all(&self.access));
        }
    }

    fn around(shard: Shard, notices: Arc<Mailbox<Notice>>, log: Option<SharedLog>) -> Self {
        let reader = shard.log().reader();
        let access = LogAccess::of(shard.log());
        Self {
            shard,
            log,
            outlet: Arc::default(),
            notices,
            now: Timestamp(0),
            reader,
            access,
            last_ticket: 0,
            hold_reads: false,
            held: Vec::new(),
            turn_millis: TURN_MILLIS,
        }
    }

    /// Lets the shard do these things, with all that follows without the log's help; returns what it tells.
    pub(super) fn turn(&mut self, commands: Vec<Command>) -> Vec<Event> {
        let mut commands = commands;
        loop {
            self.now.0 += self.turn_millis;
            self.shard.turn(self.now, &mut commands);
            let (held, jobs): (Vec<Job>, Vec<Job>) =
                self.shard.take_jobs().into_iter().partition(|job| self.hold_reads && job.reads_back());
            self.held.extend(held);
            if jobs.is_empty() && !self.shard.has_work() {
                break;
            }
            commands.extend(jobs.into_iter().map(|job| job.run_all(&self.access)));
        }
        let mut events = Vec::new();
        self.outlet.update(|waiting| events.append(waiting));
        events
    }

    /// From now on a turn takes no time worth telling.
    pub(super) fn be_quick(&mut self) {
        self.turn_millis = 0;
    }

    /// From now on messages are not read back, until [`release_reads`](Self::release_reads).
    pub(super) fn hold_reads(&mut self) {
        self.hold_reads = true;
    }

    /// Messages are read back from there.
    pub(super) fn read_through(&mut self, reader: Arc<dyn BodyRead>) {
        self.access.reader = reader;
    }

    pub(super) fn release_reads(&mut self) -> Vec<Event> {
        self.hold_reads = false;
        let done = self.held.drain(..).map(|job| job.run_all(&self.access)).collect();
        self.turn(done)
    }

    pub(super) fn command(&mut self, command: Command) -> Vec<Event> {
        self.turn(vec![command])
    }

    /// The disk takes everything that was handed to it; what the shard then tells.
    pub(super) fn step(&mut self) -> Vec<Event> {
        if let Some(log) = &self.log {
            // A failure is told by the log's progress, too.
            let _ = log.0.lock().unwrap().step();
        }
        self.command(Command::LogProgress)
    }

    /// Steps until nothing is under way.
    pub(super) fn settle_down(&mut self) -> Vec<Event> {
        let mut events = self.command(Command::LogProgress);
        while !self.shard.is_settled() {
            events.extend(self.step());
        }
        events
    }

    /// A publish of these messages to these queues; returns its ticket.
    pub(super) fn publish(&mut self, ids: &[u64], pad: usize, queues: &[QueueId]) -> (u64, Vec<Event>) {
        let command = self.publish_command(ids, pad, queues);
        (self.last_ticket, self.command(command))
    }

    /// A publish of messages that expire after so many milliseconds; [`NEVER`]: they do not.
    pub(super) fn publish_expiring(&mut self, messages: &[(u64, u64)], queues: &[QueueId]) -> Vec<Event> {
        let ids: Vec<u64> = messages.iter().map(|(id, _)| *id).collect();
        let Command::Publish(publish) = self.publish_command(&ids, 10, queues) else {
            unreachable!("it is a publish")
        };
        let expirations = messages.iter().zip(0..).filter(|((_, after_millis), _)| *after_millis != NEVER);
        let expirations = expirations.map(|((_, after), index)| Expiration { index, after_millis: *after });
        self.command(Command::Publish(PublishBatch { expirations: expirations.collect(), ..publish }))
    }

    /// A publish of messages that are for so many milliseconds later; [`NEVER`]: for now.
    pub(super) fn publish_delayed(&mut self, messages: &[(u64, u64)], queues: &[QueueId]) -> Vec<Event> {
        let messages: Vec<_> = messages.iter().map(|(id, after)| (*id, *after, NEVER)).collect();
        self.publish_timed(&messages, queues)
    }

    /// The same of messages that besides expire so many milliseconds after that; [`NEVER`]: they do not.
    pub(super) fn publish_timed(&mut self, messages: &[(u64, u64, u64)], queues: &[QueueId]) -> Vec<Event> {
        let ids: Vec<u64> = messages.iter().map(|(id, ..)| *id).collect();
        let Command::Publish(mut publish) = self.publish_command(&ids, 10, queues) else {
            unreachable!("it is a publish")
        };
        for ((_, delay, expiration), index) in messages.iter().zip(0..) {
            if *delay != NEVER {
                publish.delays.push(Delay { index, after_millis: Some(*delay), at_millis: None });
            }
            if *expiration != NEVER {
                publish.expirations.push(Expiration { index, after_millis: *expiration });
            }
        }
        self.command(Command::Publish(publish))
    }

    /// Messages that are held back, by queue: their sequences, and until when.
    pub(super) fn delays(&self) -> Vec<(QueueId, u64, u64)> {
        let mut queues: Vec<QueueId> = self.shard.queues.keys().copied().collect();
        queues.sort_unstable();
        let of = |id: QueueId| {
            let held = self.shard.delays.of(id, &self.shard.queues[&id].queue).into_iter();
            held.map(move |held| (id, held.sequence, held.at.0))
        };
        queues.into_iter().flat_map(of).collect()
    }

    /// A publish of messages with priorities.
    pub(super) fn publish_prior(&mut self, messages: &[(u64, u8)], queues: &[QueueId]) -> Vec<Event> {
        let ids: Vec<u64> = messages.iter().map(|(id, _)| *id).collect();
        let Command::Publish(publish) = self.publish_command(&ids, 10, queues) else {
            unreachable!("it is a publish")
        };
        self.command(Command::Publish(PublishBatch { run: run_of_priorities(messages, 10), ..publish }))
    }

    pub(super) fn publish_command(&mut self, ids: &[u64], pad: usize, queues: &[QueueId]) -> Command {
        self.last_ticket += 1;
        Command::Publish(PublishBatch {
            origin: Arc::new(Origin {
                exchange: ExchangeName::new("logs").unwrap(),
                routing_key: RoutingKey::new(&format!("key.{}", ids[0] % 3)).unwrap(),
            }),
            run: run_of(ids, pad),
            segments: vec![Segment { first: 0, end: ids.len() as u32, queues: Arc::from(queues) }],
            expirations: Vec::new(),
            delays: Vec::new(),
            ticket: self.last_ticket,
            tracked: None,
            outlet: Arc::clone(&self.outlet),
            wait_durable: true,
            wake_when_taken: true,
        })
    }

    pub(super) fn attach(&mut self, queue: QueueId, handle: u32, limits: ConsumerLimits) -> Vec<Event> {
        let outlet = Arc::clone(&self.outlet);
        self.command(Command::Attach { queue, taker: taker(handle), limits, shared: None, outlet })
    }

    /// Attaches, and waits for all that comes of it.
    pub(super) fn consume(&mut self, queue: QueueId, handle: u32, limits: ConsumerLimits) -> Vec<Event> {
        let mut events = self.attach(queue, handle, limits);
        events.extend(self.settle_down());
        events
    }

    pub(super) fn get(&mut self, queue: QueueId, no_ack: bool) -> Vec<Event> {
        let outlet = Arc::clone(&self.outlet);
        let handle = if no_ack { GETS_NO_ACK } else { GETS };
        self.command(Command::Get { queue, key: key(handle), party: party(), outlet })
    }

    pub(super) fn settle(
        &mut self,
        queue: QueueId,
        handle: u32,
        range: TagRange,
        outcome: Outcome,
        request: Option<u64>,
    ) -> Vec<Event> {
        let reply = request.map(|request| SettleReply { request, outlet: Arc::clone(&self.outlet) });
        let settlements = vec![Settlement { range, outcome }];
        self.command(Command::Settle { queue, key: key(handle), settlements, reply })
    }

    /// How many were dropped, be it durable or not; `None`: the log has failed.
    pub(super) fn purge(&mut self, queue: QueueId) -> (Option<u64>, Vec<Event>) {
        let ready = self.shard.queues.get(&queue).map_or(0, |slot| slot.queue.counts().ready);
        let (reply, mut purged) = tokio::sync::oneshot::channel();
        let events = self.command(Command::Purge { queue, reply });
        match purged.try_recv() {
            Ok(answer) => (answer.ok(), events),
            Err(_) => (Some(ready), events),
        }
    }

    pub(super) fn delete(&mut self, queue: QueueId) -> (u64, Vec<Event>) {
        let (reply, mut deleted) = tokio::sync::oneshot::channel();
        let events = self.command(Command::DeleteQueue { queue, reply });
        (deleted.try_recv().unwrap(), events)
    }

    /// A number for all that the shard has to know after a crash.
    pub(super) fn digest(&self) -> u64 {
        let mut queues: Vec<_> =
            self.shard.queues.iter().map(|(id, slot)| (*id, slot.queue.digest())).collect();
        queues.sort_unstable();
        foldhash::fast::FixedState::default().hash_one((
            self.shard.commits.batch.next_body(),
            queues,
            self.expirations(),
        ))
    }

    /// Messages that expire, by queue: their sequences, and when.
    pub(super) fn expirations(&self) -> Vec<(QueueId, u64, u64)> {
        let mut queues: Vec<QueueId> = self.shard.queues.keys().copied().collect();
        queues.sort_unstable();
        let of = |queue: QueueId| {
            let expires = self.shard.expirations.of(queue).into_iter();
            expires.map(move |expires| (queue, expires.sequence, expires.at.0))
        };
        queues.into_iter().flat_map(of).collect()
    }

    /// Asks to look; the answer comes when it has been read back.
    pub(super) fn look(&mut self, look: Look) -> (Answer<Looked>, Vec<Event>) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        (answer, self.command(Command::Browse { look, reply }))
    }

    /// Takes messages out as moved; those that were not ready are told when that is durable.
    pub(super) fn take_out(&mut self, queue: QueueId, sequences: &[u64]) -> (Answer<Vec<u64>>, Vec<Event>) {
        let (reply, others) = tokio::sync::oneshot::channel();
        let sequences = sequences.iter().copied().collect();
        (others, self.command(Command::TakeOut { queue, sequences, why: TakenOut::Moved, reply }))
    }

    pub(super) fn inspect(&mut self, queue: QueueId) -> QueueState {
        let (reply, mut state) = tokio::sync::oneshot::channel();
        let events = self.command(Command::Inspect { queues: vec![queue], reply });
        assert!(events.is_empty(), "looking changes nothing: {events:?}");
        state.try_recv().unwrap().remove(0)
    }
}

fn new_shard(resident_bytes_max: usize) -> (Shard, Arc<Mailbox<Notice>>) {
    let notices = Arc::new(Mailbox::default());
    let options = ShardOptions {
        id: ShardId(0),
        resident_bytes_max,
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: 20 * 1024,
        lease_millis: None,
    };
    (Shard::new(options, Arc::clone(&notices)), notices)
}

pub(super) fn options_of(queues: &[QueueId]) -> Vec<(QueueId, QueueOptions)> {
    queues
        .iter()
        .map(|queue| (*queue, QueueOptions { logged: true, auto_delete: false, ..QueueOptions::default() }))
        .collect()
}

/// In the place of a consumer's number: single requests, with and without acknowledgements.
pub(super) const GETS: u32 = 0;
pub(super) const GETS_NO_ACK: u32 = u32::MAX;

pub(super) fn key(handle: u32) -> ConsumerKey {
    match handle {
        GETS | GETS_NO_ACK => ConsumerKey::one_by_one(ConnectionId(1), 1, handle == GETS_NO_ACK),
        handle => ConsumerKey::consumer(ConnectionId(1), 1, handle),
    }
}

pub(super) fn taker(handle: u32) -> Arc<Taker> {
    Arc::new(Taker { key: key(handle), tag: Arc::from(format!("consumer {handle}")), party: party() })
}

pub(super) fn party() -> Arc<Party> {
    Arc::new(Party {
        connection: ConnectionId(1),
        name: "driver".to_owned(),
        user: UserName::default(),
        peer: ([127, 0, 0, 1], 1).into(),
    })
}

/// Messages with a number and so many bytes more.
pub(super) fn run_of(ids: &[u64], pad: usize) -> MessageRun {
    let mut bytes = BytesMut::new();
    let mut ends = Vec::new();
    for id in ids {
        bytes.put_u8(5 << 3 | 2);
        prost::encoding::encode_varint(8 + pad as u64, &mut bytes);
        bytes.put_u64(*id);
        bytes.put_bytes(*id as u8, pad);
        ends.push(bytes.len() as u32);
    }
    MessageRun::new(bytes.freeze(), ends)
}

/// The same with priorities: each in the form in which messages are stored.
pub(super) fn run_of_priorities(ids: &[(u64, u8)], pad: usize) -> MessageRun {
    let mut bytes = BytesMut::new();
    let mut ends = Vec::new();
    for (id, priority) in ids {
        let body = [&id.to_be_bytes()[..], &vec![*id as u8; pad]].concat();
        encode_item(&encode_priority(*priority), &body, None, false, &mut bytes);
        ends.push(bytes.len() as u32);
    }
    MessageRun::new(bytes.freeze(), ends)
}

/// One message as a consumer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) queue: QueueId,
    pub(super) handle: u32,
    pub(super) tag: u64,
    pub(super) id: u64,
    pub(super) redelivered: bool,
    pub(super) delivery_count: u32,
}

/// The messages that events bring.
pub(super) fn seen(events: &[Event]) -> Vec<Seen> {
    let deliveries = events.iter().filter_map(|event| match event {
        Event::Delivery(delivery) | Event::Got { message: Ok(Some(delivery)), .. } => Some(delivery),
        _ => None,
    });
    deliveries.flat_map(seen_in).collect()
}

fn seen_in(delivery: &Delivery) -> Vec<Seen> {
    assert_eq!(delivery.origin.exchange.as_str(), "logs");
    let ids: Vec<u64> = delivery.pieces.iter().flat_map(|piece| ids_in(&piece.bytes)).collect();
    assert_eq!(ids.len() as u64, delivery.count);
    let messages = (delivery.first_tag.0..).zip(ids);
    let Delivery { queue, consumer, redelivered, delivery_count, .. } = *delivery;
    let handle = if consumer.taking == Taking::OneByOneNoAck { GETS_NO_ACK } else { consumer.handle };
    messages.map(|(tag, id)| Seen { queue, handle, tag, id, redelivered, delivery_count }).collect()
}

pub(super) fn ids_in(piece: &Bytes) -> Vec<u64> {
    let mut start = 0;
    let ends = message_ends(piece).expect("pieces hold whole messages");
    let items = ends.into_iter().map(|end| &piece[std::mem::replace(&mut start, end as usize)..end as usize]);
    items
        .map(|mut item| {
            let whole = item;
            item = &item[1..];
            let length = prost::encoding::decode_varint(&mut item).unwrap() as usize;
            assert_eq!(length, item.len());
            // No number begins like that.
            let parts = (item[0] == item::MESSAGE).then(|| item::scan(whole, 0).unwrap());
            let (id, pad) = parts.map_or(item, |parts| &whole[parts.body]).split_at(8);
            let id = u64::from_be_bytes(id.try_into().unwrap());
            assert!(pad.iter().all(|byte| *byte == id as u8), "message {id} has bytes of another one");
            id
        })
        .collect()
}

/// Tickets of confirmed publishes.
pub(super) fn confirmed(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| if let Event::Published { ticket, .. } = event { Some(*ticket) } else { None })
        .collect()
}

impl Driver {
    /// Numbers of a queue's messages, oldest first, read where they are without a trace in the queue.
    pub(super) fn peek(&mut self, queue: QueueId) -> Vec<u64> {
        let slot = self.shard.queues.get_mut(&queue).expect("the queue is there");
        let sequences: Vec<u64> = slot.queue.contents().sequences().collect();
        sequences.into_iter().map(|sequence| self.peek_message(sequence)).collect()
    }

    /// The same of those that wait.
    pub(super) fn ready(&mut self, queue: QueueId) -> Vec<u64> {
        let slot = self.shard.queues.get_mut(&queue).expect("the queue is there");
        let sequences: Vec<u64> = slot.queue.ready_in(0..u64::MAX).map(|message| message.sequence).collect();
        sequences.into_iter().map(|sequence| self.peek_message(sequence)).collect()
    }

    /// The same of those that are retained.
    pub(super) fn peek_retained(&mut self, queue: QueueId) -> Vec<u64> {
        let slot = self.shard.queues.get(&queue).expect("the queue is there");
        let sequences: Vec<u64> =
            slot.queue.retained_in(0..u64::MAX).map(|message| message.sequence).collect();
        sequences.into_iter().map(|sequence| self.peek_message(sequence)).collect()
    }

    fn peek_message(&mut self, sequence: u64) -> u64 {
        let run = SequenceRun { first: BodySequence(sequence), count: 1 };
        loop {
            match self.shard.bodies.look_up(run) {
                Ok(found) => return ids_in(&found.bytes)[0],
                Err(why) => assert_eq!(why, Missing::Cold),
            }
            let cold = self.shard.bodies.cold_from(sequence, 0);
            let held = self.shard.bodies.held_back_counter();
            for loaded in read_back(&*self.reader, &cold, &held) {
                self.shard.bodies.install(&loaded.extent, loaded.groups.unwrap()).unwrap();
            }
        }
    }
}
