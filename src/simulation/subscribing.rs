//! Subscriptions are made, changed in one step, joined, left and ended, and queues to which nobody comes go with time.

use std::collections::BTreeMap;

use super::books::{Finding, QueueNumber, Stage};
use super::retained::Bounds;
use super::run::{EXCHANGES, PATTERNS, Run};
use super::subscriptions::{Dark, Listening, Patterns, SubscriptionBook};
use super::topology::Topology;
use crate::broker::{SubscriptionBinding, SubscriptionDeclaration, SubscriptionListing};
use crate::model::{ExchangeName, FieldTable, MemberName, RoutingKey, SubscriptionName};

/// Patterns of a subscription, at most.
const PATTERNS_MAX: usize = 3;
/// From one look of the broker for queues that nobody came for to the next, in milliseconds.
const EXPIRY_LOOK_MS: u64 = 1_000;

/// Somebody joins a subscription, and says what it is to be, or not.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    pub(super) subscription: usize,
    member: &'static str,
    pub(super) queue: QueueNumber,
    /// `None`: it stays as it is.
    pub(super) wanted: Option<Listening>,
    /// When it was asked for.
    asked_ms: u64,
}

impl Joining {
    pub(super) fn declaration(&self, book: &SubscriptionBook) -> SubscriptionDeclaration {
        let patterns = self.wanted.iter().flat_map(|wanted| &wanted.patterns);
        let binding = |(exchange, key): &(&str, &str)| SubscriptionBinding {
            exchange: ExchangeName::new(exchange).expect("a name of the simulation's"),
            key: RoutingKey::new(key).expect("a key of the simulation's"),
            arguments: FieldTable::default(),
        };
        let arguments = |wanted: &Listening| wanted.retains.map(Bounds::arguments).unwrap_or_default();
        SubscriptionDeclaration {
            name: SubscriptionName::new(book.name).expect("a name of the simulation's"),
            sharing: Some(book.sharing),
            member: MemberName::new(self.member).expect("a name of the simulation's"),
            bindings: patterns.map(binding).collect(),
            expires_after_ms: book.expires_after_ms,
            annotations: BTreeMap::new(),
            queue_arguments: self.wanted.as_ref().map(arguments),
            keep: self.wanted.is_none(),
        }
    }
}

impl Run {
    /// Somebody makes, changes, joins, leaves or ends a subscription; `None`: what became of the last change is not known.
    pub(super) fn change_subscription(&mut self) -> Option<Topology> {
        let subscription = self.random.below(self.books.subscriptions.len());
        let book = &self.books.subscriptions[subscription];
        let there = self.books.queues_of(subscription);
        let is_usable =
            |queue: &QueueNumber| matches!(self.books.queues[*queue].stage, Stage::There | Stage::Fading);
        if book.may_be.is_some() || !there.iter().all(is_usable) {
            return None;
        }
        let (member, name) = book.queues[self.random.below(book.queues.len())];
        if book.is.is_some() && self.random.one_in(8) {
            if !member.is_empty() && self.random.one_in(2) {
                let queue = self.books.queue_named(name)?;
                self.books.queues[queue].stage = Stage::Going;
                return Some(Topology::Leave { subscription, member, queue });
            }
            there.into_iter().for_each(|queue| self.books.queues[queue].stage = Stage::Going);
            self.books.subscriptions[subscription].may_be = Some(None);
            return Some(Topology::Unsubscribe(subscription));
        }
        let wanted = match &book.is {
            // Who only joins says nothing of what it listens to.
            Some(_) if self.random.one_in(2) => None,
            is => {
                let (before, retentions) = (is.as_ref().and_then(|is| is.retains), book.retentions);
                let count = 1 + self.random.below(PATTERNS_MAX);
                let pattern =
                    |_| (EXCHANGES[self.random.below(3)], PATTERNS[self.random.below(PATTERNS.len())]);
                let patterns = (0..count).map(pattern).collect::<Patterns>();
                let other = self.random.pick(retentions.iter().copied());
                let retains = other.filter(|_| self.random.one_in(2)).unwrap_or(before);
                Some(Listening { patterns, retains })
            }
        };
        let queue = self.books.queue_named(name).unwrap_or_else(|| self.books.add_queue(name));
        self.books.joining(subscription, queue, wanted.as_ref());
        let asked_ms = self.world.workers.now().0;
        let attended = &mut self.books.queues[queue].attended;
        if attended.until_ms == 0 {
            *attended =
                Dark { since_ms: asked_ms, earliest_ms: asked_ms, is_of_this_life: true, ..*attended };
        }
        // From now on, at some time, somebody is taken to be about to come.
        attended.until_ms = u64::MAX;
        let book = &mut self.books.queues[queue];
        book.may_be_anew |= book.stage == Stage::Fading;
        Some(Topology::Subscribe(Joining { subscription, member, queue, wanted, asked_ms }))
    }

    /// Whether a refusal to join has a reason: the subscription may have gone because nobody came.
    pub(super) fn may_be_missing(&self, joining: &Joining) -> bool {
        joining.wanted.is_none() && self.books.subscriptions[joining.subscription].may_have_expired
    }

    pub(super) fn subscribed(&mut self, joining: Joining, is_done: bool) {
        let now_ms = self.world.workers.now().0;
        let Joining { subscription, queue, wanted, asked_ms, .. } = joining;
        let book = &mut self.books.queues[queue];
        let was_there = book.stage != Stage::Asked;
        // A refusal may follow upon a success that was undone.
        book.may_be_anew &= !is_done;
        if !is_done {
            book.attended.until_ms = now_ms;
            self.counters.subscriptions_in_trouble += u64::from(was_there && wanted.is_some());
            if !was_there {
                book.stage = Stage::Refused;
            }
            return;
        }
        if book.stage == Stage::Fading {
            // It may be another one, made after the first had gone.
            self.counters.returns_in_doubt += 1;
            self.books.loosen(queue);
        }
        self.counters.subscriptions_changed += u64::from(wanted.is_some());
        self.counters.subscription_members += u64::from(!was_there);
        let book = &mut self.books.queues[queue];
        book.stage = Stage::There;
        let since_ms = book.attended.since_ms.max(asked_ms);
        book.attended = Dark { since_ms, until_ms: now_ms, is_of_this_life: true, ..book.attended };
        self.books.joined(subscription, wanted);
    }

    pub(super) fn unsubscribed(&mut self, subscription: usize, is_done: bool) {
        for queue in self.books.queues_of(subscription) {
            self.left_subscription(queue, is_done);
        }
        if is_done {
            let book = &mut self.books.subscriptions[subscription];
            (book.is, book.may_be, book.may_have_expired) = (None, None, false);
        }
    }

    /// A member's queue is gone, or stays.
    pub(super) fn left_subscription(&mut self, queue: QueueNumber, is_done: bool) {
        match is_done {
            true => self.books.queue_gone(queue),
            false => self.books.queues[queue].stage = Stage::Staying,
        }
    }

    /// Whether somebody consumes from a queue. A client knows that before it hears of it.
    fn is_attended(&self, queue: QueueNumber) -> bool {
        let mut consumers = self.clients.iter().flat_map(|client| client.consumers.values());
        consumers.any(|consumer| consumer.is_live && consumer.queue == queue)
    }

    /// Whether nobody has come to the queue of a subscription, and something waits for whoever does.
    pub(super) fn is_dark(&self, queue: QueueNumber) -> bool {
        let book = &self.books.queues[queue];
        book.is_of_subscription() && !book.held.is_empty() && !self.is_attended(queue)
    }

    /// A consumer of a queue has left, or a single message was asked for.
    pub(super) fn note_use(&mut self, queue: QueueNumber) {
        let now_ms = self.world.workers.now().0;
        let attended = &mut self.books.queues[queue].attended;
        // Somebody may be joining.
        let until_ms = if attended.is_awaited() { u64::MAX } else { now_ms };
        *attended = Dark { since_ms: now_ms, until_ms, is_of_this_life: true, ..*attended };
    }

    /// Queues to which nobody came for as long as they wait may go from now on.
    pub(super) fn fade(&mut self) {
        for queue in 0..self.books.queues.len() {
            let may_be_there = match self.books.queues[queue].stage {
                Stage::There | Stage::Staying => true,
                // Nobody hears whether it is.
                Stage::Asked => self.is_topology_orphaned,
                _ => false,
            };
            if may_be_there && self.may_go(queue) {
                self.books.fades(queue);
            }
        }
    }

    /// Whether nobody came to a queue for as long as it waits.
    pub(super) fn may_go(&self, queue: QueueNumber) -> bool {
        let (book, now_ms) = (&self.books.queues[queue], self.world.workers.now().0);
        let is_late = book.expires_after_ms.is_some_and(|after| now_ms >= book.attended.since_ms + after);
        is_late && !self.is_attended(queue)
    }

    /// Waits until queues have gone to which nobody came for too long.
    pub(super) fn wait_for_fading(&mut self) -> Result<(), Finding> {
        self.fade();
        let now_ms = self.world.workers.now().0;
        let fading = (0..self.books.queues.len()).filter(|queue| {
            let book = &self.books.queues[*queue];
            let is_late = |after: u64| now_ms >= book.attended.until_ms.saturating_add(after);
            book.stage == Stage::Fading && book.expires_after_ms.is_some_and(is_late)
        });
        let late: Vec<QueueNumber> = fading.collect();
        for _ in 0..3 {
            self.world.workers.advance(EXPIRY_LOOK_MS);
            self.make_peace()?;
        }
        if self.disk.is_powered_off() {
            return Ok(());
        }
        self.look()?;
        for queue in late {
            match self.books.queues[queue].stage {
                Stage::Gone => self.counters.expired += 1,
                _ if self.is_troubled || self.is_full || self.disk.is_powered_off() => {}
                _ => {
                    let name = self.books.queues[queue].name;
                    return Err(format!("nobody came to queue '{name}' for too long, and it is there still"));
                }
            }
        }
        Ok(())
    }

    /// Whatever goes on, the list of subscriptions is as those who use them know it.
    pub(super) fn check_subscriptions(&mut self) -> Result<(), Finding> {
        let who = self.world.log_in();
        let listed = self.world.subscriptions(&who, &mut self.random)?;
        // Nothing has been heard since.
        self.fade();
        self.counters.subscriptions_listed += 1;
        self.books.check_listed(&listed)?;
        self.books.access.check(&self.world.access(&who)?)?;
        for SubscriptionListing { queue, dark_since, .. } in &listed {
            let Some(number) = queue.as_ref().and_then(|queue| self.books.queue_named(&queue.name)) else {
                continue;
            };
            let book = &self.books.queues[number];
            let (name, is_attended) = (book.name, self.is_attended(number));
            if book.stage != Stage::There {
                continue;
            }
            match dark_since {
                None if !is_attended => {
                    return Err(format!("queue '{name}' is said to have a consumer, and has none"));
                }
                Some(_) if is_attended => {
                    return Err(format!("queue '{name}' is said to be dark, and has a consumer"));
                }
                Some(since) if !book.attended.allows(since.0) => {
                    return Err(format!(
                        "queue '{name}' is said to be dark since {since:?}: {:?}",
                        book.attended
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Since when the queues of subscriptions are dark, by name.
    pub(super) fn dark(&mut self) -> Result<BTreeMap<String, Option<u64>>, Finding> {
        let who = self.world.log_in();
        let listed = self.world.subscriptions(&who, &mut self.random)?;
        let dark = listed.into_iter().filter_map(|listing| {
            Some((listing.queue?.name.to_string(), listing.dark_since.map(|since| since.0)))
        });
        Ok(dark.collect())
    }
}
