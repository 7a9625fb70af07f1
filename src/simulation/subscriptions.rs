//! What must be so of subscriptions: what they listen to and retain, who takes part, and who is dark since when.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Certainty, Finding, Link, QueueBook, QueueNumber, Stage};
use super::retained::Bounds;
use crate::broker::{Sharing, Subscription, SubscriptionListing};

/// Exchanges and patterns.
pub(super) type Patterns = BTreeSet<(&'static str, &'static str)>;

/// What a subscription was told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) patterns: Patterns,
    /// What its queues retain.
    pub(super) retains: Option<Bounds>,
}

/// The same as a broker shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownListening {
    pub(super) patterns: BTreeSet<(String, String)>,
    retains: Option<Bounds>,
    pub(super) queues: BTreeSet<String>,
}

/// What a broker shows of subscriptions, by name.
pub(super) type ShownSubscriptions = BTreeMap<String, ShownListening>;

/// A subscription, there or not.
#[derive(Debug)]
pub(super) struct SubscriptionBook {
    pub(super) name: &'static str,
    pub(super) sharing: Sharing,
    /// Members and their queues.
    pub(super) queues: &'static [(&'static str, &'static str)],
    /// What it may be told to retain.
    pub(super) retentions: &'static [Option<Bounds>],
    pub(super) expires_after_ms: Option<u64>,
    /// What it is; `None`: it is not there.
    pub(super) is: Option<Listening>,
    /// What somebody asked for, and nobody knows.
    pub(super) may_be: Option<Option<Listening>>,
    /// A queue of it may have gone because nobody came, and with the last one all of it.
    pub(super) may_have_expired: bool,
}

/// Since when a queue has no consumer, and how well that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dark {
    /// Not before this, if somebody came in this life of the broker.
    pub(super) since_ms: u64,
    /// Not after this.
    pub(super) until_ms: u64,
    /// Somebody came in this life.
    pub(super) is_of_this_life: bool,
    /// The earliest time that a clock showed while it was there.
    pub(super) earliest_ms: u64,
}

impl Dark {
    /// Whether somebody has asked to join, and comes from then on.
    pub(super) fn is_awaited(&self) -> bool {
        self.until_ms == u64::MAX
    }

    /// Whether a broker may say so.
    pub(super) fn allows(&self, since_ms: u64) -> bool {
        let from = if self.is_of_this_life { self.since_ms } else { self.earliest_ms };
        (from..=self.until_ms).contains(&since_ms)
    }
}

const NO_RETENTION: &[Option<Bounds>] = &[];
const RETENTIONS: &[Option<Bounds>] = &[None, Some(Bounds::of_messages(30)), Some(Bounds::of_bytes(20_000))];

/// All that there may be.
pub(super) fn subscriptions() -> Vec<SubscriptionBook> {
    let book = |name, sharing, queues| SubscriptionBook {
        name,
        sharing,
        queues,
        retentions: NO_RETENTION,
        expires_after_ms: None,
        is: None,
        may_be: None,
        may_have_expired: false,
    };
    let owl = book("owl", Sharing::Shared, &[("", "sub:owl")]);
    let fox = book("fox", Sharing::Each, &[("1", "sub:fox:1"), ("2", "sub:fox:2")]);
    vec![
        SubscriptionBook { retentions: RETENTIONS, ..owl },
        // Longer than whoever subscribes is waited for.
        SubscriptionBook { expires_after_ms: Some(30_000), ..fox },
    ]
}

impl Listening {
    fn is_shown(&self, shown: &ShownListening) -> bool {
        let named = self.patterns.iter().map(|(exchange, key)| (exchange.to_string(), key.to_string()));
        named.collect::<BTreeSet<_>>() == shown.patterns && self.retains == shown.retains
    }
}

impl ShownListening {
    fn of(subscription: &Subscription) -> Self {
        let bindings = subscription.bindings.iter();
        Self {
            patterns: bindings
                .map(|binding| (binding.exchange.to_string(), binding.key.to_string()))
                .collect(),
            retains: subscription.retention().map(Bounds::from),
            queues: subscription.members.values().map(|queue| queue.name.to_string()).collect(),
        }
    }
}

/// A list, by subscription.
pub(super) fn shown_in(listed: &[SubscriptionListing]) -> ShownSubscriptions {
    let shown = |listing: &SubscriptionListing| {
        (listing.subscription.name.to_string(), ShownListening::of(&listing.subscription))
    };
    listed.iter().map(shown).collect()
}

impl QueueBook {
    pub(super) fn is_of_subscription(&self) -> bool {
        self.name.starts_with("sub:")
    }
}

impl Books {
    /// Queues of a subscription that are not gone.
    pub(super) fn queues_of(&self, subscription: usize) -> Vec<QueueNumber> {
        let queues = self.subscriptions[subscription].queues.iter();
        queues.filter_map(|(_, name)| self.queue_named(name)).collect()
    }

    /// The subscription whose queue has this name.
    pub(super) fn subscription_of(&self, queue: &str) -> Option<usize> {
        self.subscriptions.iter().position(|book| book.queues.iter().any(|(_, name)| *name == queue))
    }

    /// Somebody asks for it: what is bound before or then may be bound.
    pub(super) fn joining(&mut self, subscription: usize, queue: QueueNumber, wanted: Option<&Listening>) {
        let book = &mut self.subscriptions[subscription];
        let before = book.is.clone();
        if let Some(wanted) = wanted {
            book.may_be = Some(Some(wanted.clone()));
        }
        let after = wanted.or(before.as_ref()).cloned();
        let patterns = |of: &Option<Listening>| of.iter().flat_map(|of| of.patterns.clone()).collect();
        let (old, new): (Patterns, Patterns) = (patterns(&before), patterns(&after));
        for of in self.queues_of(subscription) {
            if wanted.is_some() {
                let retains = [&before, &after].map(|listening| listening.as_ref().and_then(|it| it.retains));
                self.queues[of].earlier_bounds.extend(retains);
            }
            let is_new = of == queue && self.queues[of].stage == Stage::Asked;
            for (exchange, key) in old.union(&new) {
                let stays = old.contains(&(*exchange, *key)) && new.contains(&(*exchange, *key));
                if !stays || is_new {
                    self.bindings.insert(Link { exchange, key, queue: of }, Certainty::Maybe);
                }
            }
        }
    }

    /// All its queues are bound as it says, and no otherwise.
    pub(super) fn joined(&mut self, subscription: usize, wanted: Option<Listening>) {
        let queues = self.queues_of(subscription);
        let is_fading = queues.iter().any(|queue| self.queues[*queue].stage == Stage::Fading);
        let book = &mut self.subscriptions[subscription];
        book.may_have_expired &= is_fading;
        if wanted.is_some() {
            (book.is, book.may_be) = (wanted, None);
        }
        let Some(is) = book.is.clone() else { return };
        self.bindings.retain(|link, _| !queues.contains(&link.queue));
        for queue in queues {
            self.queues[queue].bounds = is.retains;
            let links = is.patterns.iter().map(|(exchange, key)| Link { exchange, key, queue });
            self.bindings.extend(links.map(|link| (link, Certainty::Sure)));
        }
    }

    /// Whether it is certain what all subscriptions are told to be.
    pub(super) fn subscriptions_are_sure(&self) -> bool {
        self.subscriptions.iter().all(|book| book.may_be.is_none())
    }

    /// A queue of a subscription may go at any time.
    pub(super) fn fades(&mut self, queue: QueueNumber) {
        let book = &mut self.queues[queue];
        book.stage = Stage::Fading;
        book.may_be_anew |= book.attended.is_awaited();
        if let Some(subscription) = self.subscription_of(self.queues[queue].name) {
            self.subscriptions[subscription].may_have_expired = true;
        }
    }

    /// A broker has started.
    pub(super) fn begins(&mut self, now_ms: u64) {
        self.life_from = self.messages.len() as u64;
        for queue in &mut self.queues {
            let earliest_ms = queue.attended.earliest_ms.min(now_ms);
            queue.attended = Dark { since_ms: now_ms, until_ms: now_ms, is_of_this_life: false, earliest_ms };
        }
    }

    /// At any time: what is shown is what it is or, if somebody asks for something else, that.
    pub(super) fn check_listed(&self, listed: &[SubscriptionListing]) -> Result<(), Finding> {
        let shown = shown_in(listed);
        for book in &self.subscriptions {
            let found = shown.get(book.name);
            let is_found = |listening: &Option<Listening>| match (listening, found) {
                (None, found) => found.is_none(),
                (Some(listening), Some(found)) => listening.is_shown(found),
                (Some(_), None) => book.may_have_expired,
            };
            if !is_found(&book.is) && !book.may_be.as_ref().is_some_and(is_found) {
                return Err(format!("subscription '{}' is shown as {found:?}: {book:?}", book.name));
            }
            let none = BTreeSet::new();
            let members = found.map_or(&none, |found| &found.queues);
            for (_, name) in book.queues {
                let stage = self.queue_named(name).map_or(Stage::Gone, |queue| self.queues[queue].stage);
                let is_right = match (stage, members.contains(*name)) {
                    (Stage::There | Stage::Staying, is_member) => is_member,
                    (Stage::Gone | Stage::Refused, is_member) => !is_member,
                    (Stage::Asked | Stage::Going | Stage::Fading, _) => true,
                };
                if !is_right {
                    return Err(format!(
                        "of subscription '{}' {members:?} are shown, and '{name}' is {stage:?}",
                        book.name
                    ));
                }
            }
        }
        self.check_known(&shown)
    }

    fn check_known(&self, shown: &ShownSubscriptions) -> Result<(), Finding> {
        match shown.keys().find(|name| self.subscriptions.iter().all(|book| book.name != name.as_str())) {
            Some(name) => Err(format!("subscription '{name}' is there, and nobody made it")),
            None => Ok(()),
        }
    }

    /// When nothing moves, as after a start: a subscription is as it was or as somebody asked for, never something between, and
    /// all its queues are bound so.
    pub(super) fn found_subscriptions(
        &mut self,
        shown: &ShownSubscriptions,
        links: &BTreeSet<(String, String, String)>,
    ) -> Result<(), Finding> {
        for number in 0..self.subscriptions.len() {
            let queues = self.queues_of(number);
            let book = &mut self.subscriptions[number];
            let found = shown.get(book.name);
            let is_found = |listening: &Option<Listening>| match (listening, found) {
                (None, None) => true,
                (Some(listening), Some(found)) => listening.is_shown(found),
                _ => false,
            };
            let may_be = book.may_be.take();
            let may_have_expired = std::mem::take(&mut book.may_have_expired);
            if found.is_none() && may_have_expired {
                book.is = None;
            } else if !is_found(&book.is) {
                book.is = may_be.filter(is_found).ok_or_else(|| {
                    format!("subscription '{}' was {:?}, and is {found:?}", book.name, book.is)
                })?;
            }
            let retains = book.is.as_ref().and_then(|is| is.retains);
            for queue in queues {
                let book = &mut self.queues[queue];
                book.bounds = retains;
                if found.is_none_or(|found| !found.queues.contains(book.name)) {
                    return Err(format!("queue '{}' is there, and belongs to nobody", book.name));
                }
            }
            for (_, queue) in self.subscriptions[number].queues {
                let bound = links.iter().filter(|(_, _, of)| of == queue);
                let bound: BTreeSet<_> = bound.map(|(from, key, _)| (from.clone(), key.clone())).collect();
                let is_member = found.is_some_and(|found| found.queues.contains(*queue));
                let patterns = found.filter(|_| is_member).map(|found| &found.patterns);
                if bound != patterns.cloned().unwrap_or_default() {
                    return Err(format!(
                        "queue '{queue}' is bound with {bound:?}, and is to be with {patterns:?}"
                    ));
                }
            }
        }
        self.check_known(shown)
    }
}
