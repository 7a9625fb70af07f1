//! The stories of messages, put together of what is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Event, Publication, What};
use super::receipt::Receipt;
use super::store::{Entry, Kept};
use crate::model::{JourneyNumber, VhostName};

/// Events of a story that are told at most: half of them from its beginning, half from its end.
const EVENTS_TOLD_MAX: usize = 1_000;

/// What became of one message.
#[derive(Debug, Clone)]
pub struct Story {
    /// The id that the broker has made for it.
    pub number: JourneyNumber,
    /// The id that its publisher gave it, if it did.
    pub message_id: Option<Box<str>>,
    /// How it was published, maybe with others.
    pub publication: Arc<Publication>,
    /// What happened to it since, in order.
    pub events: Vec<Event>,
    /// Further events in the middle.
    pub events_omitted: u64,
    /// What became of it, queue by queue, in the order of its way.
    pub receipts: Vec<Receipt>,
}

impl Kept {
    /// Stories of messages in a vhost with this id, given or made, the newest first: those with lower numbers than `before`,
    /// `count` at most.
    pub fn stories(&self, vhost: &VhostName, id: &str, before: Option<u64>, count: usize) -> Vec<Story> {
        let mut found = self.find(vhost, id, before.unwrap_or(u64::MAX), count);
        self.fill(&mut found);
        found.into_iter().map(Found::story).collect()
    }

    fn find(&self, vhost: &VhostName, id: &str, before: u64, count: usize) -> Vec<Found> {
        let made = id.parse::<JourneyNumber>().ok();
        let mut meant: Vec<(u64, Option<&str>, &Arc<Publication>)> = Vec::new();
        for chunk in self.chunks.iter().rev() {
            for entry in chunk.entries.iter().rev() {
                let Entry::Publication(publication) = entry else { continue };
                if publication.vhost != *vhost || publication.first >= before {
                    continue;
                }
                let matching = matching(publication, id, made).filter(|(number, _)| *number < before);
                meant.extend(matching.map(|(number, given)| (number, given, publication)));
            }
            // Sessions put in what they publish as it comes: numbers in neighbouring parts are about in order.
            if meant.len() >= count.saturating_mul(2).max(count.saturating_add(64)) {
                break;
            }
        }
        meant.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
        meant.truncate(count);
        meant
            .into_iter()
            .map(|(number, given, publication)| Found::new(number, given, Arc::clone(publication)))
            .collect()
    }

    /// `found`: the highest number first.
    fn fill(&self, found: &mut [Found]) {
        let Some(lowest) = found.last().map(|found| found.number) else { return };
        for chunk in &self.chunks {
            for entry in &chunk.entries {
                let Entry::Event(event) = entry else { continue };
                let end = event.first + u64::from(event.count);
                if end <= lowest {
                    continue;
                }
                let from = found.partition_point(|found| found.number >= end);
                let of_event = found[from..].iter_mut().take_while(|found| found.number >= event.first);
                of_event.for_each(|found| found.note(event));
            }
        }
    }
}

/// Numbers and given ids of those messages of a publication that have an id.
fn matching<'a>(
    publication: &'a Publication,
    id: &'a str,
    made: Option<JourneyNumber>,
) -> impl Iterator<Item = (u64, Option<&'a str>)> {
    let ids = publication.message_ids.as_deref();
    // Without given ids only one of them can be meant.
    let places = match (ids, made) {
        (Some(ids), _) => 0..ids.len(),
        (None, Some(JourneyNumber(number))) => {
            let place =
                number.checked_sub(publication.first).filter(|place| *place < publication.count.into());
            place.map_or(0..0, |place| place as usize..place as usize + 1)
        }
        (None, None) => 0..0,
    };
    places.filter_map(move |place| {
        let number = publication.first + place as u64;
        let given = ids.and_then(|ids| ids.get(place)).map(|id| &**id).filter(|id| !id.is_empty());
        let is_meant = given == Some(id) || made == Some(JourneyNumber(number));
        is_meant.then_some((number, given))
    })
}

struct Found {
    number: u64,
    message_id: Option<Box<str>>,
    publication: Arc<Publication>,
    events: Vec<Event>,
    late: VecDeque<Event>,
    events_omitted: u64,
    receipts: Vec<Receipt>,
}

impl Found {
    fn new(number: u64, message_id: Option<&str>, publication: Arc<Publication>) -> Self {
        let receipts = publication.way.queues.iter().cloned().map(Receipt::new).collect();
        Self {
            number,
            message_id: message_id.map(Box::from),
            publication,
            events: Vec::new(),
            late: VecDeque::new(),
            events_omitted: 0,
            receipts,
        }
    }

    fn note(&mut self, event: &Event) {
        match &event.what {
            What::Taken { queues, .. } => {
                let taken = self.receipts.iter_mut().filter(|receipt| queues.contains(&receipt.queue.id));
                taken.for_each(|receipt| receipt.note(event));
            }
            What::NotTaken(refused) => {
                let receipts = self.receipts.iter_mut();
                let refused = receipts.filter(|receipt| refused.queues.contains(&receipt.queue.id));
                refused.for_each(|receipt| receipt.note(event));
            }
            What::Unwatched => self.receipts.iter_mut().for_each(|receipt| receipt.note(event)),
            what => {
                let queue = what.queue();
                let mut receipts = self.receipts.iter_mut();
                if let Some(receipt) = receipts.find(|receipt| Some(receipt.queue.id) == queue) {
                    receipt.note(event);
                }
            }
        }
        if self.events.len() < EVENTS_TOLD_MAX / 2 {
            return self.events.push(event.clone());
        }
        self.late.push_back(event.clone());
        if self.late.len() > EVENTS_TOLD_MAX / 2 {
            self.late.pop_front();
            self.events_omitted += 1;
        }
    }

    fn story(self) -> Story {
        let Self { number, message_id, publication, mut events, late, events_omitted, receipts } = self;
        events.extend(late);
        Story { number: JourneyNumber(number), message_id, publication, events, events_omitted, receipts }
    }
}
