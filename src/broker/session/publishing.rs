//! The way of published messages: route, hand to shards, pair their answers into confirmations; wait where there is no room.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Context;

use super::super::histories;
use super::super::shortage::Shortage;
use super::confirmation::{Confirmation, ConfirmedRun, Part, Pending};
use super::excess::{Names, RefusedRuns};
use super::quarantine::{self, Quarantined};
use super::replies::{hand_to_requesters, refuse_unaddressed};
use super::returning::Returning;
use super::session::Session;
use super::sizes::SizesMax;
use super::target::{Address, Fate, Publication, Router, Target};
use super::tickets::Tickets;
use super::tracking::{Frame, Tracking};
use super::word::{FrontEnd, Word};
use super::writing::Writer;
use crate::journey::Tracked;
use crate::model::{BCC, Durability, Entity, JourneyNumber, Refusal, ReplyCode, ShardId};
use crate::shard::{Command, Excess, Origin, PublishBatch, Segment};

/// Bytes of messages that wait in mailboxes of shards for one connection, about. Little: what waits there delays
/// everything behind it, and a shard that is busy gets no faster by it.
const UNTAKEN_BYTES_MAX: usize = 64 * 1024;

/// The messages of a frame, and where they go.
#[derive(Debug)]
pub struct Publish<M> {
    /// The channel.
    pub channel: u32,
    /// The publisher.
    pub publisher: u32,
    /// Sequence of the first message, the others count up; 0: no confirms wanted.
    pub first_sequence: u64,
    /// Where they go, if not to the address of their publisher.
    pub address: Option<Address>,
    /// The messages; at least one.
    pub messages: M,
}

impl<M: Publication> Publish<M> {
    /// What it counts for while it waits: its messages, and about what it takes itself.
    fn held_bytes(&self) -> usize {
        let times = size_of_val(self.messages.expirations()) + size_of_val(self.messages.delays());
        self.messages.run().bytes().len() + 4 * self.messages.run().len() + times + 512
    }
}

/// What a session has published and is about to.
#[derive(Debug)]
pub(super) struct Publishing<F: FrontEnd> {
    router: Router,
    /// Targets of publishers, by channel and number.
    publishers: HashMap<(u32, u32), Target, foldhash::fast::RandomState>,
    /// The target of the address that was last given with messages.
    given: Option<Target>,
    pending: Tickets<Pending>,
    /// Bytes of what is pending.
    bytes: usize,
    /// Of these, bytes that still wait in the mailboxes of shards.
    untaken_bytes: usize,
    parked: Parked<F::Messages>,
    returning: Option<Returning<F::Messages>>,
    tracking: Tracking,
    /// Of queues that had no room.
    names: Names,
    /// What is told when all of that has gone back.
    after_returns: Vec<Word<F>>,
}

impl<F: FrontEnd> Publishing<F> {
    /// What somebody publishes who has published nothing yet.
    pub(super) fn new(writer: Writer) -> Self {
        Self {
            router: Router::of(writer),
            publishers: HashMap::default(),
            given: None,
            pending: Tickets::default(),
            bytes: 0,
            untaken_bytes: 0,
            parked: Parked { publishes: VecDeque::new(), bytes: 0, shortage: None },
            returning: None,
            tracking: Tracking::default(),
            names: Names::default(),
            after_returns: Vec::new(),
        }
    }
}

/// Messages that wait until there is room for them, in order. Each frame's have their address with them: their publisher may
/// be closed meanwhile.
#[derive(Debug)]
struct Parked<M> {
    publishes: VecDeque<Parcel<M>>,
    bytes: usize,
    /// What they wait for.
    shortage: Option<Shortage>,
}

/// The messages of a frame on their way.
#[derive(Debug)]
struct Parcel<M> {
    publish: Publish<M>,
    /// `None`: the channel was closed, and nobody hears of them.
    channel: Option<u32>,
}

impl<F: FrontEnd> Publishing<F> {
    pub(super) fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.returning.is_none()
    }

    fn confirm(&mut self, confirmation: Option<Confirmation>, said: &mut VecDeque<Word<F>>) {
        let Some(confirmation) = confirmation else { return };
        match &self.returning {
            Some(_) => self.after_returns.push(Word::Confirmed(confirmation)),
            None => said.push_back(Word::Confirmed(confirmation)),
        }
    }
}

impl<F: FrontEnd> Session<F> {
    /// Keeps an address for messages that name it by their publisher's number.
    pub fn open_publisher(&mut self, channel: u32, publisher: u32, address: Address) {
        self.close_publisher(channel, publisher);
        self.publishing.publishers.insert((channel, publisher), Target::new(address));
    }

    /// Forgets a publisher's address; one that is not there is fine.
    pub fn close_publisher(&mut self, channel: u32, publisher: u32) {
        if let Some(mut target) = self.publishing.publishers.remove(&(channel, publisher)) {
            target.forget_keys(&mut self.publishing.router);
        }
    }

    /// Whether more messages may be published: not while too many bytes wait for shards to take them, for the disk or for
    /// room, or messages go back.
    pub(super) fn may_publish(&self) -> bool {
        let Publishing { returning, parked, .. } = &self.publishing;
        returning.is_none() && self.has_turn() && parked.bytes < self.broker.publish_bytes_max()
    }

    fn has_turn(&self) -> bool {
        let Publishing { untaken_bytes, bytes, .. } = &self.publishing;
        *untaken_bytes < UNTAKEN_BYTES_MAX && *bytes < self.broker.publish_bytes_max()
    }

    /// Whether messages wait for room. What the client asks for meanwhile is carried out before they are: it may be what makes
    /// room, and a client that waits for an answer would wait without end.
    pub fn is_blocked(&self) -> bool {
        !self.publishing.parked.publishes.is_empty()
    }

    /// Whether messages go back: the next words come as the front end has room for them.
    pub fn is_returning(&self) -> bool {
        self.publishing.returning.is_some()
    }

    /// Takes the messages of a frame in. They wait if there is no room for them.
    pub fn publish(&mut self, mut publish: Publish<F::Messages>) {
        self.give_addresses(&mut publish);
        let mut parcel = Parcel { channel: Some(publish.channel), publish };
        if !self.is_blocked() {
            return self.publish_now(parcel);
        }
        let Publish { channel, publisher, address, .. } = &mut parcel.publish;
        if address.is_none() {
            let target = self.publishing.publishers.get(&(*channel, *publisher));
            *address = target.map(Target::address);
        }
        if address.is_none() {
            return self.refuse(&parcel);
        }
        self.publishing.parked.bytes += parcel.publish.held_bytes();
        self.publishing.parked.publishes.push_back(parcel);
    }

    fn publish_now(&mut self, mut parcel: Parcel<F::Messages>) {
        let publish = &mut parcel.publish;
        let sizes_max = SizesMax::of_publisher(self.broker.message_bytes_max());
        let Publishing { router, publishers, given, .. } = &mut self.publishing;
        let target = match &publish.address {
            Some(address) => Some(give(given, address, router)),
            None => publishers.get_mut(&(publish.channel, publish.publisher)),
        };
        let Some(target) = target else { return self.refuse(&parcel) };
        let gauges = &self.broker.shared.gauges;
        if gauges.memory.is_full() {
            publish.address.get_or_insert_with(|| target.address());
            return self.park(parcel, Shortage::Memory);
        }
        let mut fates = target.fates(&self.who.vhost, &publish.messages, sizes_max, router);
        let unaddressed = publish.messages.asking_for_replies();
        if !unaddressed.is_empty() {
            fates = refuse_unaddressed(fates, unaddressed);
        }
        if gauges.disk.is_short()
            && (fates.iter().any(|(_, fate)| fate.reaches_disk())
                || quarantine::reaches_disk(&self.who.vhost, &target.origin.exchange, &fates))
        {
            publish.address.get_or_insert_with(|| target.address());
            return self.park(parcel, Shortage::Disk);
        }
        let vhost = &self.who.vhost;
        let (held, mut fates) = histories::hold(vhost, target, &publish.messages, fates, (sizes_max, router));
        hide_blind_keys(&mut publish.messages, &fates);
        hand_to_requesters(vhost, &target.origin, &publish.messages, &mut fates);
        target.count(vhost, &self.description.meter.published, &fates);
        // Whole, so that nothing is held any more when the next message is looked at.
        held.into_iter().for_each(|held| {
            held.keep(&gauges.histories, &target.origin, &publish.messages, &fates, |_| true);
        });
        let (origin, mandatory, transient) = (Arc::clone(&target.origin), target.mandatory, target.transient);
        self.hand_out(parcel, fates, origin, Manner { mandatory, transient });
    }

    /// Gives shards what goes to them.
    fn hand_out(
        &mut self,
        parcel: Parcel<F::Messages>,
        fates: Vec<(u32, Fate)>,
        origin: Arc<Origin>,
        manner: Manner,
    ) {
        let Parcel { channel, publish: Publish { publisher, first_sequence, messages, .. } } = parcel;
        let tracked = match self.who.vhost.keeps_journeys() {
            true => self.track(&messages, channel, &origin, manner, &fates),
            false => None,
        };
        let mut returned = Vec::new();
        let mut refused = None;
        let mut shards: Vec<(ShardId, Vec<Segment>)> = Vec::new();
        let mut first = 0u32;
        let mut barred = false;
        for (count, fate) in &fates {
            match fate {
                Fate::Routed(route) => {
                    if route.reached() == 0 && manner.mandatory {
                        returned.push(first..first + count);
                    }
                    route.add_segments(first, first + count, &mut shards);
                }
                Fate::Refused(refusal) if first_sequence == 0 => refused = Some(refusal.clone()),
                Fate::Refused(_) => {}
                Fate::NotAllowed(not_allowed) => {
                    barred = true;
                    not_allowed.count(*count);
                    if first_sequence == 0 {
                        refused = Some(Box::new(not_allowed.refusal().clone()));
                    }
                }
                Fate::Unfit(unfit) => {
                    barred = true;
                    unfit.count();
                    if first_sequence == 0 {
                        refused = Some(Box::new(unfit.refusal().clone()));
                    }
                }
            }
            first += count;
        }
        let quarantined = match barred {
            true => quarantine::quarantine(&self.who.vhost, &origin, &messages, &fates),
            false => None,
        };
        let part = if quarantined.is_some() { Part::Others } else { Part::All };
        let origin_of_copies = Arc::clone(&origin);
        let apart = quarantined.map(|quarantined| (quarantined, fates.clone()));
        let bytes = messages.run().bytes().len();
        let first_journey = tracked.as_ref().map(|tracked| JourneyNumber(tracked.first_number));
        let pending = Pending {
            channel,
            publisher,
            first_sequence,
            shards: shards.len(),
            durability: self.broker.durability(),
            first_journey,
            fates,
            bytes,
            refusal: None,
            excess: RefusedRuns::default(),
            part,
        };
        let mut confirmation = None;
        if shards.is_empty() {
            confirmation = pending.confirmation();
        } else {
            self.publishing.bytes += bytes;
            let ticket = self.publishing.pending.insert(pending);
            for (shard, segments) in shards {
                let Some(handle) = self.broker.shared.shard(shard) else { continue };
                self.publishing.untaken_bytes += bytes;
                handle.send(Command::Publish(PublishBatch {
                    origin: Arc::clone(&origin),
                    run: messages.run().clone(),
                    segments,
                    expirations: messages.expirations().to_vec(),
                    delays: messages.delays().to_vec(),
                    ticket,
                    tracked: tracked.clone(),
                    outlet: Arc::clone(&self.outlet),
                    wait_durable: !manner.transient,
                    wake_when_taken: self.publishing.untaken_bytes >= UNTAKEN_BYTES_MAX / 2,
                }));
            }
        }
        if let Some(channel) = channel
            && !returned.is_empty()
        {
            returned.reverse();
            let messages = Arc::new(messages);
            self.publishing.returning =
                Some(Returning { channel, publisher, first_sequence, origin, messages, rest: returned });
        }
        if let Some((refusal, channel)) = refused.zip(channel) {
            let word = Word::Refused { channel, request: 0, refusal };
            match &self.publishing.returning {
                Some(_) => self.publishing.after_returns.push(word),
                None => self.said.push_back(word),
            }
        }
        self.publishing.confirm(confirmation, &mut self.said);
        if let Some((quarantined, fates)) = apart {
            let sender = Sender { channel, publisher, first_sequence, first_journey };
            self.hand_to_quarantine(sender, quarantined, fates, &origin_of_copies);
        }
    }

    /// Gives a queue copies of what was refused; who published it is told when they are stored.
    fn hand_to_quarantine(
        &mut self,
        sender: Sender,
        quarantined: Quarantined,
        fates: Vec<(u32, Fate)>,
        origin: &Arc<Origin>,
    ) {
        let Quarantined { copies, notes } = quarantined;
        let mut refusal = None;
        let copies = copies.and_then(|(shard, run, segments)| {
            let handle = self.broker.shared.shard(shard).cloned();
            if handle.is_none() {
                let text = format!("its shard {shard} is not running");
                refusal = Some(Refusal::new(ReplyCode::InternalError, text));
            }
            Some((handle?, run, segments))
        });
        let bytes = copies.as_ref().map_or(0, |(_, run, _)| run.bytes().len());
        let Sender { channel, publisher, first_sequence, first_journey } = sender;
        let pending = Pending {
            channel,
            publisher,
            first_sequence,
            shards: usize::from(copies.is_some()),
            durability: self.broker.durability(),
            first_journey,
            fates,
            bytes,
            refusal,
            excess: RefusedRuns::default(),
            part: Part::Barred(notes),
        };
        let Some((shard, run, segments)) = copies else {
            return self.publishing.confirm(pending.confirmation(), &mut self.said);
        };
        self.publishing.bytes += bytes;
        self.publishing.untaken_bytes += bytes;
        let ticket = self.publishing.pending.insert(pending);
        shard.send(Command::Publish(PublishBatch {
            origin: Arc::clone(origin),
            run,
            segments,
            // They are kept for somebody to look at them.
            expirations: Vec::new(),
            delays: Vec::new(),
            ticket,
            // The story of a message is its own; that of its copy is none of it.
            tracked: None,
            outlet: Arc::clone(&self.outlet),
            wait_durable: true,
            wake_when_taken: self.publishing.untaken_bytes >= UNTAKEN_BYTES_MAX / 2,
        }));
    }

    fn track(
        &mut self,
        messages: &F::Messages,
        channel: Option<u32>,
        origin: &Origin,
        manner: Manner,
        fates: &[(u32, Fate)],
    ) -> Option<Tracked> {
        let frame = Frame {
            vhost: &self.who.vhost,
            origin,
            mandatory: manner.mandatory,
            messages,
            publisher: &self.party,
            // That of a channel that was closed is not known any more.
            channel: channel.unwrap_or(0),
            now: (self.broker.shared.platform.clock)(),
        };
        self.publishing.tracking.begin(&frame, fates, &self.broker.shared.gauges.journeys)
    }

    /// Nobody knows where these go.
    fn refuse(&mut self, parcel: &Parcel<F::Messages>) {
        let Parcel { channel: Some(channel), publish } = parcel else { return };
        let (channel, publisher, first) = (*channel, publish.publisher, publish.first_sequence);
        let refusal = no_such_publisher(publisher);
        if first == 0 {
            return self.said.push_back(Word::Refused { channel, request: 0, refusal: Box::new(refusal) });
        }
        let last = first + publish.messages.run().len() as u64 - 1;
        let run = ConfirmedRun {
            first,
            last,
            durability: Durability::Memory,
            queues: 0,
            refusal: Some(refusal),
            first_journey: None,
        };
        let confirmation = Confirmation { channel, publisher, runs: vec![run] };
        self.publishing.confirm(Some(confirmation), &mut self.said);
    }

    /// The first of the messages that wait has to wait for this.
    fn park(&mut self, parcel: Parcel<F::Messages>, shortage: Shortage) {
        let parked = &mut self.publishing.parked;
        parked.bytes += parcel.publish.held_bytes();
        parked.publishes.push_front(parcel);
        parked.shortage = Some(shortage);
        let reason = self.broker.shortage_reason(shortage);
        self.description.note_blocked(Some(reason.clone()));
        self.said.push_back(Word::Blocked { shortage, reason });
    }

    /// Publishes what has waited, if there is room now; `true` if there is.
    pub(super) fn poll_relief(&mut self, context: &mut Context<'_>) -> bool {
        if !self.is_blocked() || self.is_returning() || !self.has_turn() {
            return false;
        }
        if let Some(shortage) = self.publishing.parked.shortage {
            if self.broker.poll_relief(shortage, context).is_pending() {
                return false;
            }
            self.publishing.parked.shortage = None;
        }
        while self.publishing.parked.shortage.is_none()
            && !self.is_returning()
            && self.has_turn()
            && let Some(parcel) = self.publishing.parked.publishes.pop_front()
        {
            self.publishing.parked.bytes -= parcel.publish.held_bytes();
            self.publish_now(parcel);
        }
        if !self.is_blocked() {
            self.description.note_blocked(None);
            self.said.push_back(Word::Unblocked);
        }
        true
    }

    /// The next messages that go back, or what is told after the last of them.
    pub(super) fn next_returned(&mut self) -> Option<Word<F>> {
        let returning = self.publishing.returning.as_mut()?;
        if let Some(returned) = returning.next() {
            return Some(Word::Returned(returned));
        }
        self.publishing.returning = None;
        self.said.extend(self.publishing.after_returns.drain(..));
        self.said.pop_front()
    }

    /// Shards have taken messages out of their mailboxes.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.publishing.untaken_bytes -= bytes;
    }

    /// A shard has the messages of a frame, but those that its queues had no room for: of these nobody hears who does not ask for
    /// confirms, as in RabbitMQ.
    pub(super) fn published(&mut self, ticket: u64, durability: Durability, excess: &[Excess]) {
        let Publishing { pending, names, .. } = &mut self.publishing;
        if !excess.is_empty()
            && let Some(pending) = pending.get_mut(ticket).filter(|pending| pending.is_confirmed())
        {
            names.refusals(&self.who.vhost, excess, &mut pending.excess);
        }
        self.answered(ticket, |pending| pending.durability = pending.durability.min(durability));
    }

    /// A shard could not keep the messages of a frame. If nobody asked for confirms, the channel is told in the other way.
    pub(super) fn publish_failed(&mut self, ticket: u64, refusal: Box<Refusal>) {
        let mut unasked = None;
        self.answered(ticket, |pending| {
            if pending.first_sequence == 0 {
                let word = |channel| Word::Refused { channel, request: 0, refusal: refusal.clone() };
                unasked = pending.channel.map(word);
            }
            pending.refusal = Some(*refusal);
        });
        self.said.extend(unasked);
    }

    fn answered(&mut self, ticket: u64, note: impl FnOnce(&mut Pending)) {
        let Some(pending) = self.publishing.pending.get_mut(ticket) else { return };
        note(pending);
        pending.shards -= 1;
        if pending.shards > 0 {
            return;
        }
        let Some(pending) = self.publishing.pending.remove(ticket) else { return };
        self.publishing.bytes -= pending.bytes;
        self.publishing.confirm(pending.confirmation(), &mut self.said);
    }

    /// A channel closes: its publishers go, and nothing is told any more of what was published on it.
    pub(super) fn close_publishers(&mut self, channel: u32) {
        self.publishing.pending.values_mut().for_each(|pending| pending.forget_channel(channel));
        let parked = self.publishing.parked.publishes.iter_mut();
        for parcel in parked.filter(|parcel| parcel.channel == Some(channel)) {
            parcel.channel = None;
        }
        let Publishing { publishers, router, .. } = &mut self.publishing;
        publishers.retain(|(other, _), target| {
            let stays = *other != channel;
            if !stays {
                target.forget_keys(router);
            }
            stays
        });
    }
}

/// Nobody who gets a message may see its blind keys. What is refused stays as it came: it is told why.
fn hide_blind_keys(messages: &mut impl Publication, fates: &[(u32, Fate)]) {
    if messages.with_further_keys().is_empty() {
        return;
    }
    let mut of = Vec::new();
    let mut candidates = messages.with_further_keys().iter().copied().peekable();
    let mut end = 0;
    for (count, fate) in fates {
        end += count;
        while let Some(index) = candidates.next_if(|index| *index < end) {
            // The headers of what was routed were read.
            let headers = || messages.headers(index as usize).ok().flatten();
            if matches!(fate, Fate::Routed(_))
                && headers().is_some_and(|headers| headers.value(BCC).is_some())
            {
                of.push(index);
            }
        }
    }
    if !of.is_empty() {
        messages.remove_header(BCC, &of);
    }
}

/// Who published a frame.
#[derive(Debug, Clone, Copy)]
struct Sender {
    channel: Option<u32>,
    publisher: u32,
    first_sequence: u64,
    first_journey: Option<JourneyNumber>,
}

/// What a publisher wants, besides that its messages arrive.
#[derive(Debug, Clone, Copy)]
struct Manner {
    mandatory: bool,
    transient: bool,
}

/// The target of an address that came with messages, for as long as the next ones bring the same.
fn give<'a>(given: &'a mut Option<Target>, address: &Address, router: &mut Router) -> &'a mut Target {
    if let Some(mut other) = given.take_if(|target| !target.is(address)) {
        other.forget_keys(router);
    }
    given.get_or_insert_with(|| Target::new(address.clone()))
}

fn no_such_publisher(publisher: u32) -> Refusal {
    Refusal::new(ReplyCode::NotFound, format!("no publisher {publisher} on this channel"))
        .about(Entity::Publisher, publisher.to_string())
        .hint("open it with OpenPublisher first")
}
