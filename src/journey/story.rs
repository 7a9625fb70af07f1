//! The stories of messages, put together of what is kept.

use std::collections::VecDeque;
use std::sync::Arc;

use super::disk::Part;
use super::event::{Event, Publication, What};
use super::receipt::Receipt;
use super::store::{Chunk, Entry, Kept};
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

/// A message that is meant, its id, and how it was published.
type Meant = (u64, Option<Box<str>>, Arc<Publication>);

/// Messages that are asked for.
struct Wanted<'a> {
    vhost: &'a VhostName,
    id: &'a str,
    made: Option<JourneyNumber>,
    before: u64,
}

impl Kept {
    /// Stories of messages in a vhost with this id, given or made, the newest first: those with lower numbers than `before`,
    /// `count` at most. Blocks if some are on disk: all that is there is read.
    pub fn stories(&self, vhost: &VhostName, id: &str, before: Option<u64>, count: usize) -> Vec<Story> {
        let made = id.parse::<JourneyNumber>().ok();
        let mut found = self.find(&Wanted { vhost, id, made, before: before.unwrap_or(u64::MAX) }, count);
        self.fill(&mut found);
        found.into_iter().map(Found::story).collect()
    }

    fn find(&self, wanted: &Wanted<'_>, count: usize) -> Vec<Found> {
        // Sessions put in what they publish as it comes: numbers in neighbouring parts are about in order.
        let enough = count.saturating_mul(2).max(count.saturating_add(64));
        let mut meant: Vec<Meant> = Vec::new();
        for chunk in self.chunks.iter().rev() {
            wanted.find_in(chunk, &mut meant);
            if meant.len() >= enough {
                break;
            }
        }
        for part in self.parts().rev() {
            if meant.len() >= enough {
                break;
            }
            self.read(part, &mut |chunk| {
                wanted.find_in(chunk, &mut meant);
                if meant.len() > enough.saturating_mul(2) {
                    keep_newest(&mut meant, enough);
                }
            });
        }
        keep_newest(&mut meant, count);
        meant.into_iter().map(|(number, given, publication)| Found::new(number, given, publication)).collect()
    }

    /// `found`: the highest number first.
    fn fill(&self, found: &mut [Found]) {
        let Some(lowest) = found.last().map(|found| found.number) else { return };
        for part in self.parts().filter(|part| part.tells_from(lowest)) {
            self.read(part, &mut |chunk| fill_from(chunk, lowest, found));
        }
        self.chunks.iter().for_each(|chunk| fill_from(chunk, lowest, found));
    }

    fn parts(&self) -> impl DoubleEndedIterator<Item = &Part> {
        self.on_disk.iter().flat_map(|(_, parts)| parts)
    }

    /// What cannot be read is as if it were not kept, and is told.
    fn read(&self, part: &Part, see: &mut dyn FnMut(&Chunk)) {
        let Some((folder, _)) = &self.on_disk else { return };
        if let Err(error) = folder.read(part, self.on_disk_below, see) {
            tracing::warn!("journeys on disk could not be looked at: {error}");
        }
    }
}

impl Wanted<'_> {
    fn find_in(&self, chunk: &Chunk, meant: &mut Vec<Meant>) {
        for entry in chunk.entries.iter().rev() {
            let Entry::Publication(publication) = entry else { continue };
            if publication.vhost != *self.vhost || publication.first >= self.before {
                continue;
            }
            let matching = matching(publication, self.id, self.made);
            let matching = matching.filter(|(number, _)| *number < self.before);
            meant.extend(
                matching.map(|(number, given)| (number, given.map(Box::from), Arc::clone(publication))),
            );
        }
    }
}

/// The highest numbers, in order from there on.
fn keep_newest(meant: &mut Vec<Meant>, count: usize) {
    meant.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
    meant.truncate(count);
}

fn fill_from(chunk: &Chunk, lowest: u64, found: &mut [Found]) {
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
    fn new(number: u64, message_id: Option<Box<str>>, publication: Arc<Publication>) -> Self {
        let receipts = publication.way.queues.iter().cloned().map(Receipt::new).collect();
        Self {
            number,
            message_id,
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
