//! Dead letters: what queues reject, let expire or have no room for is in the queue where they go, or in none only if somebody took it.
//!
//! One queue collects all of them. Nobody consumes from it, so what it held once it holds for ever, and what dies is looked for there.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Finding, Left, MessageId, QueueNumber, Stage};
use super::client::number_of;
use super::run::Run;
use super::world::LIST_MAX;
use crate::broker::{BrowseRequest, Came, Filter, LookedAt, QueueDeclaration, Which};
use crate::message::{DeliveredView, headers_of};
use crate::model::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_ROUTING_KEY, FieldTable, FieldValue, QueueName};

/// Where they go.
pub(super) const COLLECTOR: &str = "kite";
/// Queues whose messages go there.
const DYING: [&str; 3] = ["hen", "ibis", "jay"];
/// Rounds after which dead letters that are still on their way never come.
const ROUNDS_MAX: usize = 5_000;
/// Bytes of a page of them.
const PAGE_BYTES: usize = 1 << 20;

/// Whether messages of queues of this name become dead letters.
pub(super) fn has_dead_letters(name: &str) -> bool {
    DYING.contains(&name)
}

/// Says so in the declaration of such a queue.
pub(super) fn put_into(name: &str, arguments: &mut FieldTable) {
    if has_dead_letters(name) {
        let said = [(DEAD_LETTER_EXCHANGE, ""), (DEAD_LETTER_ROUTING_KEY, COLLECTOR)];
        arguments.0.extend(said.map(|(name, text)| (name.to_owned(), text.into())));
    }
}

/// The queue that collects them.
pub(super) fn collector() -> QueueDeclaration {
    QueueDeclaration {
        name: QueueName::new(COLLECTOR).expect("a name of the simulation's"),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
    }
}

/// A dead letter: which message it was, and of which queue.
type Letter = (MessageId, String);

impl Books {
    /// Whether a message can have died in a queue of this name.
    fn check_letter(&self, (id, name): &Letter) -> Result<(), Finding> {
        let Some(message) = self.messages.get(*id as usize) else {
            return Err(format!("message {id}, which nobody sent, is a dead letter of '{name}'"));
        };
        let of_name = |queue: &QueueNumber| self.queues[*queue].name == name && has_dead_letters(name);
        let mut places = message.places().filter(|place| of_name(&place.queue)).peekable();
        let nowhere = places.peek().is_none();
        let can_have_died = places.any(|place| {
            place.left != Left::No
                || self.may_have_expired(*id, place.queue)
                || self.queues[place.queue].stage == Stage::Gone
        });
        match can_have_died || nowhere && self.is_loose(*id) {
            true => Ok(()),
            false => Err(format!("message {id} is a dead letter of '{name}', where it cannot have died")),
        }
    }

    /// Messages that a queue had, or that died in it for certain, and that nobody took out: they are in it, or dead letters.
    pub(super) fn owed_somewhere(&self, queue: QueueNumber) -> BTreeSet<MessageId> {
        let book = &self.queues[queue];
        let held = book.held.iter().copied().filter(|id| {
            let message = &self.messages[*id as usize];
            let is_kept = message.on_disk || message.confirmed_in == Some(self.life);
            let place = self.place(*id, queue);
            is_kept && place.is_some_and(|place| place.is_sure && !place.may_be_gone && !place.is_moving)
        });
        held.chain(book.died.iter().copied()).collect()
    }
}

impl Run {
    /// Everything that a queue had came out: what did not come is a dead letter, and nothing else is.
    pub(super) fn check_dead(
        &mut self,
        queue: QueueNumber,
        owed: &BTreeSet<MessageId>,
        came: &[MessageId],
    ) -> Result<(), Finding> {
        let name = self.books.queues[queue].name;
        if !has_dead_letters(name) {
            return Ok(());
        }
        self.wait_for_letters(queue)?;
        let letters = self.letters()?;
        // Time went on meanwhile.
        self.books.note_time(self.world.workers.now().0);
        let missing: Vec<&MessageId> = owed
            .iter()
            .filter(|id| !came.contains(id) && !letters.contains_key(&(**id, name.to_owned())))
            .collect();
        if !missing.is_empty() {
            return Err(format!("messages died in queue '{name}' and are no dead letters: {missing:?}"));
        }
        let twice = letters.iter().find(|(_, count)| **count > u64::from(self.books.life) + 1);
        if let Some(((id, of), count)) = twice {
            let lives = self.books.life;
            return Err(format!(
                "message {id} is {count} times a dead letter of '{of}', after {lives} starts"
            ));
        }
        letters.keys().try_for_each(|letter| self.books.check_letter(letter))?;
        let collected: BTreeSet<Letter> = letters.into_keys().collect();
        if let Some((id, of)) = self.collected.difference(&collected).next() {
            return Err(format!("message {id} was a dead letter of '{of}', and is none"));
        }
        self.counters.dead_letters += (collected.len() - self.collected.len()) as u64;
        self.collected = collected;
        Ok(())
    }

    /// Until all dead letters of a queue are stored.
    fn wait_for_letters(&mut self, queue: QueueNumber) -> Result<(), Finding> {
        let name = self.books.queues[queue].name;
        let mut left = 0;
        for _ in 0..ROUNDS_MAX {
            left = self.listing(queue)?.map_or(0, |listing| listing.counts.dead_letters);
            if left == 0 {
                return Ok(());
            }
            self.world.round(&mut self.random);
            self.listen()?;
        }
        Err(format!("{left} dead letters of queue '{name}' are not stored, and there is a place for them"))
    }

    /// All that are collected, and how often each is.
    fn letters(&mut self) -> Result<BTreeMap<Letter, u64>, Finding> {
        let mut letters = BTreeMap::new();
        let mut from = Some(0);
        while let Some(first) = from {
            let request = BrowseRequest {
                queue: COLLECTOR.to_owned(),
                queue_id: None,
                from: first,
                end: 0,
                came: Came::default(),
                which: Which::Ready,
                newest: None,
                filter: Filter::default(),
                count_max: LIST_MAX,
                bytes_max: PAGE_BYTES,
            };
            let (broker, who) = (self.world.broker.clone(), self.world.log_in());
            let page =
                self.world.until(async move { broker.browse(&who, request).await }, &mut self.random)?;
            let page = page.map_err(|refusal| format!("dead letters cannot be looked at: {refusal}"))?;
            for message in &page.messages {
                *letters.entry(letter(message)?).or_insert(0) += 1;
            }
            from = page.next;
        }
        Ok(letters)
    }
}

/// Which message it was, as its body says, and where it died, as its headers say.
fn letter(message: &LookedAt) -> Result<Letter, Finding> {
    let id = DeliveredView::of(&message.bytes).and_then(|view| number_of(view.body));
    let id = id.ok_or("a dead letter is nothing that anybody sent")?;
    let headers = headers_of(&message.bytes).ok().flatten();
    let deaths = headers.as_ref().and_then(|headers| headers.value("x-death"));
    match deaths {
        Some(FieldValue::List(deaths)) => match &deaths[..] {
            [FieldValue::Table(death)] if death.value("count") == Some(&FieldValue::Integer(1)) => {
                Ok((id, death.text("queue").unwrap_or_default().to_owned()))
            }
            other => Err(format!("message {id} died once, and tells {other:?}")),
        },
        other => Err(format!("dead letter {id} tells {other:?}")),
    }
}
