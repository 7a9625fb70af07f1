//! Looking into queues: what waits in them and what they retain, page by page.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Finding, MessageId, QueueNumber, Stage};
use super::client::{Answer, CHANNEL, Client, Pending, number_of};
use super::retained::{AtRest, Seen};
use super::run::Run;
use super::timing::Part;
use crate::broker::{BrowseRequest, BrowsedPage, Came, Filter, QueueListing, Which};
use crate::message::DeliveredView;
use crate::model::{QueueId, Refusal};

/// Messages of a page, at most.
const PAGE_MESSAGES_MAX: usize = 80;
/// Bytes of a page, at most.
const PAGE_BYTES_MAX: usize = 60_000;

/// What a client reads page by page while everything goes on.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) queue: QueueNumber,
    which: Which,
    newest: Option<u64>,
    /// The next page begins there, and all of them end there.
    from: u64,
    end: u64,
    queue_id: Option<QueueId>,
    /// What may have waited when this page was asked for; messages from the second on are newer.
    known: BTreeSet<MessageId>,
    first_new: MessageId,
    last_sequence: u64,
}

impl Run {
    /// A client begins to look at what waits, or to have repeated what is retained.
    pub(super) fn begin_reading(&mut self) {
        let Some((index, queue)) = self.some_use() else { return };
        let which = if self.random.one_in(3) { Which::Ready } else { Which::Retained };
        let newest = (which == Which::Retained && self.random.one_in(3))
            .then(|| 1 + self.random.below(PAGE_MESSAGES_MAX) as u64);
        self.trace.note(format_args!(
            "client {} reads {which:?} {newest:?} of '{}'",
            self.clients[index].number, self.books.queues[queue].name
        ));
        let reading = Reading {
            queue,
            which,
            newest,
            from: 0,
            end: 0,
            queue_id: None,
            known: BTreeSet::new(),
            first_new: 0,
            last_sequence: 0,
        };
        self.read_on(index, reading);
    }

    fn read_on(&mut self, index: usize, reading: Reading) {
        let Reading { queue, which, newest, from, end, queue_id, .. } = reading;
        let known = match which {
            Which::Ready => self.books.queues[queue].held.clone(),
            Which::Retained | Which::Delayed | Which::DeadLetters(_) => BTreeSet::new(),
        };
        let first_new = self.books.messages.len() as MessageId;
        let request = BrowseRequest { from, end, queue_id, newest, ..self.page_of(queue, which) };
        let client = &mut self.clients[index];
        let number = client.request(Pending::Read(Reading { known, first_new, ..reading }));
        let (broker, who) = (self.world.broker.clone(), client.session.identity().clone());
        client.session.carry_out(CHANNEL, number, async move {
            broker.browse(&who, request).await.map(|page| Answer::Browsed(Box::new(page)))
        });
    }

    pub(super) fn page_of(&mut self, queue: QueueNumber, which: Which) -> BrowseRequest {
        BrowseRequest {
            queue: self.books.queues[queue].name.to_owned(),
            queue_id: None,
            from: 0,
            end: 0,
            came: Came::default(),
            which,
            newest: None,
            filter: Filter::default(),
            count_max: 1 + self.random.below(PAGE_MESSAGES_MAX),
            bytes_max: 1 + self.random.below(PAGE_BYTES_MAX),
        }
    }

    /// A client gets a page that it asked for.
    pub(super) fn page_came(
        &mut self,
        index: usize,
        mut reading: Reading,
        page: &BrowsedPage,
    ) -> Result<(), Finding> {
        let (queue, name) = (reading.queue, self.books.queues[reading.queue].name);
        let shown = self.seen_in(queue, page)?;
        self.trace.note(format_args!(
            "client {} reads {:?} of '{name}'",
            self.clients[index].number,
            shown.iter().map(|seen| seen.id).collect::<Vec<_>>()
        ));
        if self.books.queues[queue].stage == Stage::Gone {
            return Ok(());
        }
        for seen in shown {
            if seen.sequence <= reading.last_sequence {
                return Err(format!("queue '{name}' shows {seen:?} after {}", reading.last_sequence));
            }
            reading.last_sequence = seen.sequence;
            self.note_seen(queue, reading.which, seen)?;
            let could_wait = seen.id >= reading.first_new || self.may_wait(&reading, seen.id);
            if reading.which == Which::Ready && !could_wait {
                return Err(format!("message {} is shown in queue '{name}' after it had left that", seen.id));
            }
        }
        match page.next {
            Some(from) if self.clients[index].session.takes_more() => {
                (reading.from, reading.end, reading.queue_id) = (from, page.end, Some(page.queue));
                reading.newest = None;
                self.read_on(index, reading);
            }
            Some(_) => {}
            None => self.counters.replays += u64::from(reading.which == Which::Retained),
        }
        Ok(())
    }

    fn may_wait(&self, reading: &Reading, id: MessageId) -> bool {
        // Of one whose way nobody knows the books learn only now.
        reading.known.contains(&id) || self.books.is_loose(id)
    }

    pub(super) fn note_seen(&mut self, queue: QueueNumber, which: Which, seen: Seen) -> Result<(), Finding> {
        match which {
            Which::Ready => {
                self.counters.browsed += 1;
                self.books.note_time(self.world.workers.now().0);
                self.books.check_due(queue, seen.id)?;
                self.books.seen_waiting(queue, seen)
            }
            Which::Retained => {
                self.counters.replayed += 1;
                let may_go_out = self.clients.iter().any(|client| {
                    let consumes = |queue_of: QueueNumber, no_ack: bool| no_ack && queue_of == queue;
                    let mut consumers = client.consumers.values();
                    consumers.any(|consumer| consumes(consumer.queue, consumer.no_ack))
                        || client.pending.values().any(|pending| {
                            matches!(pending, Pending::Get { queue: of, no_ack } if consumes(*of, *no_ack))
                        })
                });
                self.books.seen_retained(queue, seen, may_go_out)
            }
            Which::Delayed => {
                self.counters.seen_delayed += 1;
                self.books.seen_waiting(queue, seen)
            }
            // No client asks for those.
            Which::DeadLetters(_) => Ok(()),
        }
    }

    /// The messages of a page, which are what somebody sent.
    pub(super) fn seen_in(&self, queue: QueueNumber, page: &BrowsedPage) -> Result<Vec<Seen>, Finding> {
        let name = self.books.queues[queue].name;
        let seen = page.messages.iter().map(|message| {
            let item = DeliveredView::of(&message.bytes);
            let id = item.and_then(|item| number_of(item.body));
            let id = id.ok_or_else(|| format!("queue '{name}' shows a message that nobody sent so"))?;
            self.books.check_told(queue, id, message.came_at)?;
            Ok(Seen {
                id,
                sequence: message.sequence,
                bytes: message.bytes.len() as u64,
                redelivered: message.redelivered,
            })
        });
        seen.collect()
    }

    /// A look was refused: was there a reason?
    pub(super) fn check_excuse(&self, queue: QueueNumber, refusal: &Refusal) -> Result<(), Finding> {
        let is_excused = self.is_troubled || self.is_full || self.disk.is_powered_off();
        let book = &self.books.queues[queue];
        match is_excused || book.stage != Stage::There || self.may_go(queue) {
            true => Ok(()),
            false => Err(format!("queue '{}' cannot be looked into: {refusal}", book.name)),
        }
    }

    /// All that a queue shows; `None`: it cannot, and has a reason.
    pub(super) fn read_all(
        &mut self,
        queue: QueueNumber,
        which: Which,
        part: Part,
    ) -> Result<Option<Vec<Seen>>, Finding> {
        let mut all: Vec<Seen> = Vec::new();
        let (mut from, mut end, mut queue_id) = (0, 0, None);
        let mut first = part;
        loop {
            // Further pages are within what the first one was of.
            let Part { newest, came } = std::mem::take(&mut first);
            let request = BrowseRequest { from, end, queue_id, newest, came, ..self.page_of(queue, which) };
            let (broker, who) = (self.world.broker.clone(), self.world.log_in());
            let looked =
                self.world.until(async move { broker.browse(&who, request).await }, &mut self.random)?;
            let page = match looked {
                Ok(page) => page,
                Err(refusal) => {
                    self.check_excuse(queue, &refusal)?;
                    return Ok(None);
                }
            };
            for seen in self.seen_in(queue, &page)? {
                self.note_seen(queue, which, seen)?;
                all.push(seen);
            }
            let Some(next) = page.next else { return Ok(Some(all)) };
            (from, end, queue_id) = (next, page.end, Some(page.queue));
        }
    }

    pub(super) fn listing(&mut self, queue: QueueNumber) -> Result<Option<QueueListing>, Finding> {
        let name = self.books.queues[queue].name;
        let who = self.world.log_in();
        let listed = self.world.listed(&who, &mut self.random)?;
        Ok(listed.into_iter().find(|listing| listing.definition.name.as_str() == name))
    }

    /// Lets what was begun come to its end, and holds all that a queue shows against the books.
    pub(super) fn look_into(&mut self, queue: QueueNumber) -> Result<(), Finding> {
        self.make_peace()?;
        if self.disk.is_powered_off() || self.books.queues[queue].stage != Stage::There {
            return Ok(());
        }
        let name = self.books.queues[queue].name;
        // What becomes due goes to consumers that wait for it.
        let delayed_at_first = self.listing(queue)?.map(|listing| listing.counts.held_back);
        self.make_peace()?;
        let before = self.listing(queue)?;
        let Some(ready) = self.read_all(queue, Which::Ready, Part::default())? else { return Ok(()) };
        ready.iter().try_for_each(|seen| self.books.check_waiting(queue, *seen))?;
        let Some(delayed) = self.read_all(queue, Which::Delayed, Part::default())? else { return Ok(()) };
        self.world.workers.take_counts_into(&mut self.counters);
        let reads = self.counters.merged_reads;
        let Some(retained) = self.read_all(queue, Which::Retained, Part::default())? else { return Ok(()) };
        self.world.workers.take_counts_into(&mut self.counters);
        self.counters.merged_replays += u64::from(self.counters.merged_reads > reads);
        self.note_forgotten_in_need(queue, &retained);
        let after = self.listing(queue)?;
        self.listen()?;
        self.books.note_time(self.world.workers.now().0);
        let (Some(before), Some(after)) = (before, after) else {
            if self.may_go(queue) {
                return Ok(());
            }
            return Err(format!("queue '{name}' is there and is not listed"));
        };
        if !self.is_at_rest() || after.fault.is_some() || self.may_go(queue) {
            return Ok(());
        }
        self.trace.note(format_args!("'{name}' shows {} and retains {}", ready.len(), retained.len()));
        if self.books.some_may_have_expired(queue) && before.counts.ready != after.counts.ready {
            // Something expired meanwhile.
            return Ok(());
        }
        if delayed_at_first != Some(after.counts.held_back) {
            // Something became due meanwhile.
            return Ok(());
        }
        let numbers = |of: &QueueListing| (of.counts.ready, of.counts.unsettled, of.counts.bytes);
        if numbers(&before) != numbers(&after) || after.counts.ready != ready.len() as u64 {
            return Err(format!(
                "queue '{name}' counted {:?}, showed {} messages and counts {:?}",
                before.counts,
                ready.len(),
                after.counts
            ));
        }
        let sum = (retained.len() as u64, retained.iter().map(|seen| seen.bytes).sum());
        let count = |of: &QueueListing| (of.counts.retained, of.counts.retained_bytes);
        if count(&before) == count(&after) && count(&after) != sum {
            return Err(format!(
                "queue '{name}' retains {sum:?} messages and bytes and counts {:?}",
                after.counts
            ));
        }
        let held = self.clients.iter().flat_map(|client| client.held.values());
        let held: BTreeSet<MessageId> = held.filter(|(_, of)| *of == queue).map(|(id, _)| *id).collect();
        if delayed.iter().any(|seen| held.contains(&seen.id)) {
            // It became due after it was counted, or it is in two places.
            let counted = self.listing(queue)?.map(|listing| listing.counts.held_back);
            if counted != Some(after.counts.held_back) {
                return Ok(());
            }
        }
        let rest = AtRest { ready, delayed, held, retained };
        let forgotten = self.books.at_rest(queue, &rest)?;
        self.counters.looks += 1;
        self.counters.forgotten += forgotten.beyond_bounds;
        self.counters.forgotten_for_age += forgotten.too_old;
        self.counters.looks_at_full_queues += u64::from(after.counts.departures.max_length > 0);
        let has_expired = after.counts.departures.expired > 0;
        self.counters.looks_at_expired += u64::from(has_expired);
        self.counters.looks_at_expired_by_themselves += u64::from(has_expired && self.books.lets_wait(queue));
        // Others may come while it is read again, and some have no room then.
        let is_still = rest.delayed.is_empty();
        if is_still {
            self.read_by_time(queue, Which::Ready, &rest.ready, is_still)?;
        }
        self.read_by_time(queue, Which::Retained, &rest.retained, is_still)?;
        self.read_newest(queue, &rest.retained, is_still)
    }

    /// The newest of what is retained are the end of all of it.
    fn read_newest(&mut self, queue: QueueNumber, all: &[Seen], is_still: bool) -> Result<(), Finding> {
        if all.is_empty() || !self.random.one_in(3) {
            return Ok(());
        }
        let count = 1 + self.random.below(all.len());
        let Some(newest) = self.read_all(queue, Which::Retained, Part::newest(count as u64))? else {
            return Ok(());
        };
        if is_still && newest != all[all.len() - count..] && self.is_still(queue, Which::Retained, all)? {
            let name = self.books.queues[queue].name;
            return Err(format!("the newest {count} that queue '{name}' retains are {newest:?} of {all:?}"));
        }
        Ok(())
    }

    /// Whether a queue shows as much as it did. With time what waited for memory is delivered, and what is retained grows old.
    pub(super) fn is_still(
        &mut self,
        queue: QueueNumber,
        which: Which,
        all: &[Seen],
    ) -> Result<bool, Finding> {
        let count = self.listing(queue)?.map(|listing| match which {
            Which::Ready => listing.counts.ready,
            Which::Retained => listing.counts.retained,
            Which::Delayed => listing.counts.held_back,
            Which::DeadLetters(_) => listing.counts.dead_letters,
        });
        Ok(count == Some(all.len() as u64))
    }

    /// Whether everything that anybody asked for is done, and nothing failed.
    fn is_at_rest(&self) -> bool {
        let is_quiet = |client: &Client| client.pending.is_empty() && client.sent.is_empty();
        let workers = &self.world.workers;
        !self.is_troubled
            && !self.is_full
            && !self.disk.is_powered_off()
            && !workers.has_work()
            && !workers.is_writing()
            && self.clients.iter().all(is_quiet)
    }

    /// What was retained goes even if the disk has no room.
    fn note_forgotten_in_need(&mut self, queue: QueueNumber, retained: &[Seen]) {
        let oldest = retained.first().map_or(u64::MAX, |seen| seen.sequence);
        let before = self.oldest_retained.insert(queue, oldest).unwrap_or(u64::MAX);
        self.counters.forgotten_on_full_disks += u64::from(self.is_full && oldest > before);
    }

    /// What all queues retain, in order.
    pub(super) fn retained_everywhere(&mut self) -> Result<BTreeMap<QueueNumber, Vec<Seen>>, Finding> {
        let mut all = BTreeMap::new();
        for queue in self.books.for_all() {
            if let Some(retained) = self.read_all(queue, Which::Retained, Part::default())? {
                all.insert(queue, retained);
            }
        }
        Ok(all)
    }

    /// Whether a start has changed what is retained. With time some of it may have become too old.
    pub(super) fn check_retained(
        &mut self,
        before: &BTreeMap<QueueNumber, Vec<Seen>>,
    ) -> Result<(), Finding> {
        let after = self.retained_everywhere()?;
        self.books.note_time(self.world.workers.now().0);
        for (queue, retained) in before {
            if self.books.queues[*queue].stage != Stage::There {
                continue;
            }
            let name = self.books.queues[*queue].name;
            let now = after.get(queue).map_or(&[][..], Vec::as_slice);
            self.trace.note(format_args!("{name}: {retained:?} and then {now:?}"));
            let mut rest = now.iter().peekable();
            let gone: Vec<&Seen> = retained.iter().filter(|seen| rest.next_if_eq(seen).is_none()).collect();
            let is_same =
                rest.next().is_none() && gone.iter().all(|seen| self.books.is_too_old(seen.id, *queue));
            if !is_same {
                return Err(format!("queue '{name}' retained {retained:?}, and after a start {now:?}"));
            }
        }
        Ok(())
    }

    /// After a long time nothing is retained that is too old.
    pub(super) fn check_ages(&mut self) -> Result<(), Finding> {
        self.books.note_time(self.world.workers.now().0);
        for queue in self.books.for_all() {
            if let Some(retained) = self.read_all(queue, Which::Retained, Part::default())? {
                self.books.check_ages(queue, &retained)?;
            }
        }
        Ok(())
    }
}
