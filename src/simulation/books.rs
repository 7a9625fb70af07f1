//! What clients know, and what must therefore be so: the books that a broker is held against.
//!
//! Clients know what they sent and what they were told. From that follows for each message and queue whether the message
//! must be there, may be there, or must not. What was asked for and not answered may have happened or not.

use std::collections::{BTreeMap, BTreeSet};

use super::access::AccessBook;
use super::dying::{COLLECTOR, has_dead_letters};
use super::limits::Limits;
use super::subscriptions::{Dark, SubscriptionBook};
use super::{retained::Bounds, run::FLEETING};
use crate::model::Durability;

/// A message's number: the order in which all clients together published.
pub(super) type MessageId = u64;

/// A queue from its declaration to its deletion. The next queue of that name is another one.
pub(super) type QueueNumber = usize;

/// What a broker did that it must not do, in a sentence.
pub(super) type Finding = String;

#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) queues: Vec<QueueBook>,
    pub(super) messages: Vec<MessageBook>,
    pub(super) bindings: BTreeMap<Link, Certainty>,
    pub(super) subscriptions: Vec<SubscriptionBook>,
    pub(super) access: AccessBook,
    /// How often the broker was started. What is only in memory lives as long as one.
    pub(super) life: u32,
    /// Messages with lower numbers were sent in earlier lives.
    pub(super) life_from: MessageId,
    /// What the clock says, and the most that it ever said.
    pub(super) now_ms: u64,
    pub(super) latest_ms: u64,
    /// When nothing waited to be written for the last time.
    pub(super) written_ms: u64,
}

/// A binding of a queue to one of the exchanges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) exchange: &'static str,
    pub(super) key: &'static str,
    pub(super) queue: QueueNumber,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    Sure,
    /// It was asked for, or asked to go, and nobody knows yet.
    Maybe,
}

#[derive(Debug)]
pub(super) struct QueueBook {
    pub(super) name: &'static str,
    pub(super) stage: Stage,
    /// Messages that may be in it.
    pub(super) held: BTreeSet<MessageId>,
    /// What it retains of what consumers are done with, if anything.
    pub(super) bounds: Option<Bounds>,
    /// What may wait in it.
    pub(super) limits: Limits,
    /// What it was or may have been told to retain since everything that it retains was last looked at.
    pub(super) earlier_bounds: Vec<Option<Bounds>>,
    /// Messages that consumers may have been done with, if it may ever retain any.
    pub(super) done: BTreeSet<MessageId>,
    may_retain: bool,
    /// When everything in it was last seen.
    pub(super) emptied_ms: u64,
    /// Messages that left it for certain, and as dead letters.
    pub(super) died: BTreeSet<MessageId>,
    /// Milliseconds without a consumer after which it goes.
    pub(super) expires_after_ms: Option<u64>,
    pub(super) attended: Dark,
    /// Somebody asked to join while it may have gone already, and has not heard: it may be another one by now.
    pub(super) may_be_anew: bool,
    pub(super) is_durable: bool,
    /// The client to which it belongs alone.
    pub(super) owner: Option<u32>,
    /// That is gone.
    is_owner_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Somebody asked for it.
    Asked,
    /// The broker said that there is no way to record it: it is not there before a restart, and perhaps after one.
    Refused,
    There,
    /// Somebody asked for its end.
    Going,
    /// Nobody came for so long that it may go at any time.
    Fading,
    /// The broker said that there is no way to record its end: it stays before a restart, and perhaps after one.
    Staying,
    Gone,
}

impl Stage {
    /// Whether it is there for certain.
    pub(super) fn is_there(self) -> bool {
        matches!(self, Self::There | Self::Staying)
    }
}

#[derive(Debug)]
pub(super) struct MessageBook {
    pub(super) client: u32,
    /// As it was sent.
    pub(super) bytes: u64,
    /// When it was sent.
    pub(super) sent_ms: u64,
    /// When all its queues had it at the latest.
    pub(super) came_ms: Option<u64>,
    /// Confirmed as on disk.
    pub(super) on_disk: bool,
    /// Confirmed in this life of the broker.
    pub(super) confirmed_in: Option<u32>,
    /// It waited before it was routed: nobody knows what was bound then.
    is_loose: bool,
    places: Vec<Place>,
}

/// A message in a queue.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) queue: QueueNumber,
    /// It was routed there for certain.
    pub(super) is_sure: bool,
    pub(super) left: Left,
    /// When the queue had it at the latest: somebody saw it there. Other queues may get it later.
    came_ms: Option<u64>,
    /// Some client got it, at some time.
    pub(super) was_heard: bool,
    /// Where it stands in the queue, once somebody saw that.
    pub(super) sequence: Option<u64>,
    /// A consumer may have been done with it.
    pub(super) may_be_done: bool,
    /// It may have left in a way in which nothing is retained.
    pub(super) may_be_dropped: bool,
    /// It may have left otherwise than as a dead letter.
    pub(super) may_be_gone: bool,
    /// A move is taking it out.
    pub(super) is_moving: bool,
    /// It was retained no more.
    pub(super) is_forgotten: bool,
}

impl MessageBook {
    /// Where it was routed to.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }
}

impl Place {
    fn new(queue: QueueNumber, is_sure: bool) -> Self {
        Self {
            queue,
            is_sure,
            left: Left::No,
            came_ms: None,
            was_heard: false,
            sequence: None,
            may_be_done: false,
            may_be_dropped: false,
            may_be_gone: false,
            is_moving: false,
            is_forgotten: false,
        }
    }
}

/// How a message leaves a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A consumer was done with it: it may be retained.
    Done,
    /// Any other.
    Dropped,
    /// It was rejected or found no room: it is a dead letter, where there are any.
    Died,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    No,
    /// It was settled or purged, and nobody knows whether the disk has that.
    Perhaps,
    Surely,
}

/// Where a message goes, and whether that is certain.
pub(super) type Route = BTreeMap<QueueNumber, Certainty>;

impl Books {
    /// The queue of this name that is not gone.
    pub(super) fn queue_named(&self, name: &str) -> Option<QueueNumber> {
        self.queues.iter().rposition(|queue| queue.name == name && queue.stage != Stage::Gone)
    }

    /// Queues that are there for certain, and that nobody wants to end.
    pub(super) fn there(&self) -> Vec<QueueNumber> {
        (0..self.queues.len()).filter(|number| self.queues[*number].stage == Stage::There).collect()
    }

    /// Those of them that anybody may use.
    pub(super) fn for_all(&self) -> Vec<QueueNumber> {
        self.there().into_iter().filter(|number| self.queues[*number].owner.is_none()).collect()
    }

    /// A client is gone, and with it the queues that were its own. Returns how many held something.
    pub(super) fn owner_gone(&mut self, client: u32) -> u64 {
        let mut count = 0;
        for queue in self.queues.iter_mut().filter(|queue| queue.owner == Some(client)) {
            if queue.stage != Stage::Gone {
                count += u64::from(!queue.held.is_empty());
                (queue.stage, queue.is_owner_gone) = (Stage::Going, true);
            }
        }
        count
    }

    /// Queues whose owner is gone, and that may be there still.
    pub(super) fn has_orphans(&self) -> bool {
        self.queues.iter().any(|queue| queue.is_owner_gone && queue.stage == Stage::Going)
    }

    pub(super) fn add_queue(&mut self, name: &'static str) -> QueueNumber {
        let subscription = self.subscription_of(name).map(|number| &self.subscriptions[number]);
        let bounds = Bounds::of(name);
        self.queues.push(QueueBook {
            name,
            stage: Stage::Asked,
            held: BTreeSet::new(),
            bounds,
            limits: Limits::of(name),
            earlier_bounds: Vec::new(),
            done: BTreeSet::new(),
            died: BTreeSet::new(),
            emptied_ms: 0,
            may_retain: bounds.is_some() || subscription.is_some_and(|of| !of.retentions.is_empty()),
            expires_after_ms: subscription.and_then(|of| of.expires_after_ms),
            attended: Dark::default(),
            may_be_anew: false,
            is_durable: !FLEETING.contains(&name),
            owner: None,
            is_owner_gone: false,
        });
        self.queues.len() - 1
    }

    /// A queue is gone with all that was in it.
    pub(super) fn queue_gone(&mut self, number: QueueNumber) {
        self.queues[number].stage = Stage::Gone;
        self.queues[number].died.clear();
        self.bindings.retain(|link, _| link.queue != number);
        for id in std::mem::take(&mut self.queues[number].held) {
            self.place_mut(id, number).left = Left::Surely;
        }
    }

    /// Where a message goes that is published now.
    pub(super) fn route(&self, exchange: &str, key: &str) -> Route {
        let mut route = Route::new();
        if exchange.is_empty() {
            if let Some(number) = self.queue_named(key) {
                let is_sure = self.queues[number].stage.is_there();
                let may_be = self.queues[number].stage != Stage::Refused;
                if may_be {
                    route.insert(number, if is_sure { Certainty::Sure } else { Certainty::Maybe });
                }
            }
            return route;
        }
        for (link, certainty) in &self.bindings {
            if link.exchange == exchange && matches(exchange, link.key, key) {
                let is_sure = *certainty == Certainty::Sure && self.queues[link.queue].stage.is_there();
                let entry = route.entry(link.queue).or_insert(Certainty::Maybe);
                if is_sure {
                    *entry = Certainty::Sure;
                }
            }
        }
        route
    }

    /// A client sends a message.
    pub(super) fn published(&mut self, client: u32, route: &Route, bytes: u64) -> MessageId {
        let id = self.next_id();
        let places = route.iter().map(|(queue, certainty)| {
            self.queues[*queue].held.insert(id);
            Place::new(*queue, *certainty == Certainty::Sure)
        });
        let places = places.collect();
        self.messages.push(MessageBook {
            client,
            bytes,
            sent_ms: self.now_ms,
            came_ms: None,
            on_disk: false,
            confirmed_in: None,
            is_loose: false,
            places,
        });
        route.keys().for_each(|queue| self.make_room(*queue));
        id
    }

    /// The broker vouches for a message that reached so many queues.
    pub(super) fn confirmed(&mut self, id: MessageId, queues: u32, safe: Durability) -> Result<(), Finding> {
        let life = self.life;
        let message = &mut self.messages[id as usize];
        let queues_there = &self.queues;
        let is_sure = |place: &&Place| place.is_sure && queues_there[place.queue].stage.is_there();
        let sure = message.places.iter().filter(is_sure).count() as u32;
        let most = message.places.len() as u32;
        if !message.is_loose && (queues < sure || queues > most) {
            return Err(format!(
                "message {id} was confirmed for {queues} queues and belongs in {sure} to {most}"
            ));
        }
        message.came_ms = message.came_ms.or(Some(self.latest_ms));
        message.on_disk |= safe >= Durability::Synced;
        message.confirmed_in = Some(life);
        if queues == most && !message.is_loose {
            message.places.iter_mut().for_each(|place| place.is_sure = true);
        }
        Ok(())
    }

    /// A message waits, and is routed when there is room.
    pub(super) fn waits(&mut self, id: MessageId) {
        self.messages[id as usize].is_loose = true;
        self.refused(id);
    }

    /// The broker does not vouch for a message: it may be there or not.
    pub(super) fn refused(&mut self, id: MessageId) {
        self.messages[id as usize].places.iter_mut().for_each(|place| place.is_sure = false);
    }

    /// A client got a message from a queue.
    pub(super) fn delivered(
        &mut self,
        id: MessageId,
        queue: QueueNumber,
        redelivered: bool,
    ) -> Result<(), Finding> {
        let is_gone = self.queues[queue].stage == Stage::Gone;
        let name = self.queues[queue].name;
        let place = self.came_from(id, queue)?;
        if place.left == Left::Surely && !is_gone {
            return Err(format!("message {id} came from queue '{name}' after it had left that for certain"));
        }
        if place.was_heard && !redelivered {
            return Err(format!(
                "message {id} of queue '{name}' had been delivered before and is not marked so"
            ));
        }
        place.was_heard = true;
        self.check_sent_in_time(queue, id)
    }

    /// The place of a message that came from a queue: it was routed there.
    pub(super) fn came_from(&mut self, id: MessageId, queue: QueueNumber) -> Result<&mut Place, Finding> {
        let name = self.queues[queue].name;
        let Some(message) = self.messages.get_mut(id as usize) else {
            return Err(format!("message {id}, which nobody sent, came from queue '{name}'"));
        };
        if message.is_loose && message.places.iter().all(|place| place.queue != queue) {
            message.places.push(Place { may_be_done: true, ..Place::new(queue, false) });
            self.queues[queue].held.insert(id);
            self.make_room(queue);
        }
        let message = &mut self.messages[id as usize];
        let place = message.places.iter_mut().find(|place| place.queue == queue);
        let place = place
            .ok_or_else(|| format!("message {id} came from queue '{name}', to which it was not routed"))?;
        place.came_ms = place.came_ms.or(Some(self.latest_ms));
        Ok(place)
    }

    /// The latest time at which a queue can say that a message came, once somebody was told that it did.
    pub(super) fn came_ms(&self, id: MessageId, queue: QueueNumber) -> Option<u64> {
        let message = &self.messages[id as usize];
        let seen_ms = self.place(id, queue).and_then(|place| place.came_ms);
        seen_ms.into_iter().chain(message.came_ms).min()
    }

    /// Who published a message.
    pub(super) fn client_of(&self, id: MessageId) -> Option<u32> {
        self.messages.get(id as usize).map(|message| message.client)
    }

    /// A message may have left a queue.
    pub(super) fn leaving(&mut self, id: MessageId, queue: QueueNumber, way: Way) {
        let has_dead_letters = has_dead_letters(self.queues[queue].name);
        let place = self.place_mut(id, queue);
        place.left = place.left.max(Left::Perhaps);
        match way {
            Way::Done => place.may_be_done = true,
            Way::Dropped | Way::Died => place.may_be_dropped = true,
        }
        place.may_be_gone |= way != Way::Died || !has_dead_letters;
        if way == Way::Done && self.queues[queue].may_retain {
            self.queues[queue].done.insert(id);
        }
    }

    /// A message has left a queue for good.
    pub(super) fn left(&mut self, id: MessageId, queue: QueueNumber) {
        let place = self.place_mut(id, queue);
        place.left = Left::Surely;
        let has_died = !place.may_be_gone;
        self.queues[queue].held.remove(&id);
        if has_died && self.queues[queue].stage != Stage::Gone {
            self.queues[queue].died.insert(id);
        }
    }

    /// A queue went and was made anew, or did not: nobody knows which of its messages are there.
    pub(super) fn loosen(&mut self, queue: QueueNumber) {
        for id in self.queues[queue].held.clone() {
            self.leaving(id, queue, Way::Dropped);
            self.place_mut(id, queue).is_sure = false;
            if self.messages[id as usize].confirmed_in.is_none() {
                self.messages[id as usize].is_loose = true;
            }
        }
        for id in self.queues[queue].done.clone() {
            self.place_mut(id, queue).may_be_dropped = true;
        }
        self.queues[queue].died.clear();
    }

    /// Any message may have left a queue.
    pub(super) fn all_leaving(&mut self, queue: QueueNumber, way: Way) {
        let held: Vec<MessageId> = self.queues[queue].held.iter().copied().collect();
        held.into_iter().for_each(|id| self.leaving(id, queue, way));
    }

    /// The broker is gone. Clients know nothing of what they were not told.
    /// Returns how many queues went with it that held something.
    pub(super) fn ended(&mut self) -> u64 {
        self.life += 1;
        let mut count = 0;
        for number in 0..self.queues.len() {
            let queue = &self.queues[number];
            if !queue.is_durable && queue.stage != Stage::Gone {
                count += u64::from(!queue.held.is_empty());
                self.queue_gone(number);
            }
        }
        for message in &mut self.messages {
            if !message.on_disk {
                // What left for certain left behind it in the log.
                let places = message.places.iter_mut().filter(|place| place.left != Left::Surely);
                places.for_each(|place| place.is_sure = false);
            }
        }
        count
    }

    /// After a start: these queues and bindings are there.
    pub(super) fn found(
        &mut self,
        queues: &BTreeSet<String>,
        links: &BTreeSet<(String, String, String)>,
    ) -> Result<(), Finding> {
        for number in 0..self.queues.len() {
            let (name, stage) = (self.queues[number].name, self.queues[number].stage);
            let is_latest = self.queue_named(name) == Some(number);
            let is_there = queues.contains(name) && is_latest;
            match (stage, is_there) {
                (Stage::There, false) => return Err(format!("queue '{name}' was declared and is not there")),
                (Stage::Gone, _) => {}
                (_, true) if self.queues[number].is_owner_gone => {
                    return Err(format!("queue '{name}' is there, and its connection is gone"));
                }
                (_, true) => {
                    self.queues[number].stage = Stage::There;
                    if std::mem::take(&mut self.queues[number].may_be_anew) {
                        self.loosen(number);
                    }
                }
                (_, false) => self.queue_gone(number),
            }
        }
        let is_strange = |name: &&String| *name != COLLECTOR && self.queue_named(name).is_none();
        if let Some(name) = queues.iter().find(is_strange) {
            return Err(format!("queue '{name}' is there and should not be"));
        }
        let mut known = BTreeSet::new();
        for (link, certainty) in std::mem::take(&mut self.bindings) {
            let name = self.queues[link.queue].name;
            let found = (link.exchange.to_owned(), link.key.to_owned(), name.to_owned());
            let is_there = links.contains(&found);
            known.insert(found);
            if is_there {
                self.bindings.insert(link, Certainty::Sure);
            } else if certainty == Certainty::Sure {
                return Err(format!(
                    "queue '{name}' was bound to '{}' with '{}' and is not",
                    link.exchange, link.key
                ));
            }
        }
        match links.iter().find(|link| !known.contains(*link)) {
            Some((exchange, key, queue)) => {
                Err(format!("queue '{queue}' is bound to '{exchange}' with '{key}' and should not be"))
            }
            None => Ok(()),
        }
    }

    /// Everything that a queue had came out, in this order: is it what had to be there?
    pub(super) fn emptied(&self, queue: QueueNumber, came: &[MessageId]) -> Result<(), Finding> {
        let name = self.queues[queue].name;
        let seen: BTreeSet<MessageId> = came.iter().copied().collect();
        if seen.len() != came.len() {
            return Err(format!("queue '{name}' had a message twice: {came:?}"));
        }
        let owed =
            self.queues[queue].held.iter().filter(|id| self.is_owed(**id, queue) && !seen.contains(id));
        let owed: Vec<&MessageId> = owed.collect();
        if !owed.is_empty() {
            return Err(format!("queue '{name}' lost messages that were confirmed: {owed:?}"));
        }
        self.in_turn(queue, came)
    }

    /// The number of the message that is published next.
    pub(super) fn next_id(&self) -> MessageId {
        self.messages.len() as MessageId
    }

    /// What the clock says now.
    pub(super) fn note_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.latest_ms = self.latest_ms.max(now_ms);
    }

    /// Nothing waits to be written: all that was handed out before has been heard of.
    pub(super) fn note_all_written(&mut self) {
        self.written_ms = self.now_ms;
    }

    /// Whether nobody knows where a message went.
    pub(super) fn is_loose(&self, id: MessageId) -> bool {
        self.messages.get(id as usize).is_some_and(|message| message.is_loose)
    }

    pub(super) fn is_owed(&self, id: MessageId, queue: QueueNumber) -> bool {
        let message = &self.messages[id as usize];
        let is_kept = message.on_disk || message.confirmed_in == Some(self.life);
        is_kept
            && !self.may_have_expired(id, queue)
            && message.places.iter().any(|place| {
                place.queue == queue && place.is_sure && place.left == Left::No && !place.is_moving
            })
    }

    pub(super) fn place(&self, id: MessageId, queue: QueueNumber) -> Option<&Place> {
        self.messages.get(id as usize)?.places.iter().find(|place| place.queue == queue)
    }

    pub(super) fn place_mut(&mut self, id: MessageId, queue: QueueNumber) -> &mut Place {
        let places = &mut self.messages[id as usize].places;
        places.iter_mut().find(|place| place.queue == queue).expect("a queue holds what was routed to it")
    }
}

/// Whether a key matches a binding's: `*` one word, `#` any number of them, on the topic exchange.
fn matches(exchange: &str, pattern: &str, key: &str) -> bool {
    fn words(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                words(rest, key) || key.split_first().is_some_and(|(_, later)| words(pattern, later))
            }
            (Some((&"*", rest)), Some((_, later))) => words(rest, later),
            (Some((word, rest)), Some((other, later))) => word == other && words(rest, later),
            _ => false,
        }
    }
    match exchange {
        "amq.fanout" => true,
        "amq.topic" => words(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>()),
        _ => pattern == key,
    }
}
