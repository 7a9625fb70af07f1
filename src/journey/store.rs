//! Where journeys are kept: a ring of entries, the oldest of which give way.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::disk::{Folder, Part};
use super::event::{Event, Publication};
use crate::model::{JourneyNumber, Timestamp};
use crate::storage::DiskError;

/// Entries that are kept at most, however small they are.
const ENTRIES_MAX: usize = 1_000_000;
/// Parts that the room is divided into: so much of it goes at a time.
const CHUNKS: usize = 16;
/// A part is no longer than this, in bytes.
const CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// What a part takes besides its entries.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// One thing that is kept.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Publication(Arc<Publication>),
    Event(Event),
}

/// Entries that are not changed any more.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Its place among all that were ever made.
    pub(super) index: u64,
    pub(super) entries: Vec<Entry>,
    bytes: usize,
    /// Number of the first message that was published in it; `None`: none was.
    first_number: Option<u64>,
    first_at: Timestamp,
}

/// The journeys of a broker: those who pass messages put in what happens, and whoever asks reads. Shared by all.
#[derive(Debug)]
pub struct Journeys {
    bytes_max: usize,
    entries_max: usize,
    first_number: JourneyNumber,
    next_number: AtomicU64,
    /// Lower numbers are not among the publications any more.
    oldest_number: AtomicU64,
    ring: Mutex<Ring>,
    /// Where they are kept, too, and where the oldest of them are kept alone.
    folder: Option<Arc<Folder>>,
    /// One at a time writes.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Place of the next chunk.
    next_index: u64,
    /// Those with lower places are in the folder, or there was no room for them there.
    written_end: u64,
    sealed: VecDeque<Arc<Chunk>>,
    open: Chunk,
    bytes: usize,
    entries: usize,
    /// Publications that have given way, and are nowhere else.
    lost: u64,
    /// Who writes to the folder and waits for something to write.
    writer: Option<Waker>,
}

/// What there is at a moment, to be read without holding anybody up.
#[derive(Debug, Clone)]
pub struct Kept {
    pub(super) chunks: Vec<Arc<Chunk>>,
    /// Of what is on disk chunks with lower places are read: the others are among those above.
    pub(super) on_disk_below: u64,
    pub(super) on_disk: Option<(Arc<Folder>, Vec<Part>)>,
    /// When the oldest entry was made; `None`: there is none.
    pub since: Option<Timestamp>,
    /// Publications that have given way to newer ones.
    pub lost: u64,
}

impl Journeys {
    /// A store with so much room in bytes, whose first number is this one.
    pub fn new(bytes_max: usize, first: JourneyNumber) -> Self {
        Self::with_room(bytes_max, ENTRIES_MAX, first)
    }

    /// As [`new`](Self::new), and what has to give way is still in a folder, as is all else. Its next chunk has this place.
    pub fn on_disk(bytes_max: usize, first: JourneyNumber, folder: Folder, next_index: u64) -> Self {
        let mut journeys = Self::new(bytes_max, first);
        journeys.folder = Some(Arc::new(folder));
        journeys.ring = Mutex::new(Ring { next_index, written_end: next_index, ..Ring::default() });
        journeys.note_oldest(&mut journeys.ring());
        journeys
    }

    fn with_room(bytes_max: usize, entries_max: usize, first: JourneyNumber) -> Self {
        Self {
            bytes_max,
            entries_max,
            first_number: first,
            next_number: AtomicU64::new(first.0),
            oldest_number: AtomicU64::new(0),
            ring: Mutex::default(),
            folder: None,
            writing: Mutex::new(()),
        }
    }

    /// Numbers for so many messages: the first of them.
    pub fn numbers(&self, count: u64) -> u64 {
        self.next_number.fetch_add(count, Ordering::Relaxed)
    }

    /// The first number that was given.
    pub fn first_number(&self) -> JourneyNumber {
        self.first_number
    }

    /// The number that is given next.
    pub fn next_number(&self) -> JourneyNumber {
        JourneyNumber(self.next_number.load(Ordering::Relaxed))
    }

    /// The lowest number of a publication that may be kept.
    pub fn oldest_number(&self) -> u64 {
        self.oldest_number.load(Ordering::Relaxed)
    }

    /// Messages were published.
    pub fn publish(&self, publications: impl IntoIterator<Item = Publication>) {
        let mut ring = self.ring();
        for publication in publications {
            let bytes = ring.publication_bytes(&publication);
            if ring.open.first_number.is_none() {
                ring.open.first_number = Some(publication.first);
            }
            self.push(&mut ring, publication.at, Entry::Publication(Arc::new(publication)), bytes);
        }
    }

    /// Things happened, in this order; what holds them is emptied.
    pub fn tell(&self, events: &mut Vec<Event>) {
        let mut ring = self.ring();
        for event in events.drain(..) {
            self.push(&mut ring, event.at, Entry::Event(event), size_of::<Entry>());
        }
    }

    fn push(&self, ring: &mut Ring, at: Timestamp, entry: Entry, bytes: usize) {
        if ring.open.entries.is_empty() {
            ring.open.first_at = at;
            ring.open.bytes = CHUNK_OVERHEAD_BYTES;
            ring.bytes += CHUNK_OVERHEAD_BYTES;
        }
        ring.open.entries.push(entry);
        ring.open.bytes += bytes;
        ring.bytes += bytes;
        ring.entries += 1;
        if let Some(writer) = ring.writer.take() {
            writer.wake();
        }
        if ring.open.bytes >= (self.bytes_max / CHUNKS).min(CHUNK_BYTES_MAX) {
            ring.seal();
        }
        if ring.bytes <= self.bytes_max && ring.entries <= self.entries_max {
            return;
        }
        while ring.bytes > self.bytes_max || ring.entries > self.entries_max {
            if ring.sealed.is_empty() {
                ring.seal();
            }
            let Some(oldest) = ring.sealed.pop_front() else { break };
            ring.bytes -= oldest.bytes;
            ring.entries -= oldest.entries.len();
            if self.folder.is_none() || oldest.index >= ring.written_end {
                ring.lost += oldest.publications();
            }
        }
        self.note_oldest(ring);
    }

    fn note_oldest(&self, ring: &mut Ring) {
        let on_disk = self.folder.iter().filter_map(|folder| folder.oldest_number());
        let in_memory = ring.sealed.iter().map(|chunk| chunk.first_number).chain([ring.open.first_number]);
        let oldest = on_disk.chain(in_memory.flatten()).next();
        self.oldest_number.store(oldest.unwrap_or_else(|| self.next_number().0), Ordering::Relaxed);
    }

    /// Waits until something is to be written to the folder; the task is woken then, and when this is dropped.
    pub fn poll_unwritten(&self, context: &Context<'_>) -> Poll<()> {
        let mut ring = self.ring();
        if ring.written_end < ring.next_index || !ring.open.entries.is_empty() {
            return Poll::Ready(());
        }
        ring.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Writes to the folder what is not in it yet. Blocks; nobody else waits for it.
    ///
    /// # Errors
    /// The disk's: what was not written stays in memory as long as there is room, and is written the next time.
    pub fn write_out(&self) -> Result<(), DiskError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let unwritten: Vec<Arc<Chunk>> = {
            let mut ring = self.ring();
            ring.seal();
            let written = ring.sealed.partition_point(|chunk| chunk.index < ring.written_end);
            ring.sealed.range(written..).cloned().collect()
        };
        for chunk in unwritten {
            let is_written = folder.append(&chunk)?;
            let mut ring = self.ring();
            ring.written_end = chunk.index + 1;
            if !is_written && chunk.index < ring.first_index() {
                ring.lost += chunk.publications();
            }
            self.note_oldest(&mut ring);
        }
        Ok(())
    }

    /// As [`write_out`](Self::write_out), makes it durable, and writes nothing any more.
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<(), DiskError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let written = self.write_out();
        written.and(folder.close())
    }

    /// What there is now.
    pub fn kept(&self) -> Kept {
        let mut ring = self.ring();
        ring.seal();
        let chunks: Vec<Arc<Chunk>> = ring.sealed.iter().cloned().collect();
        let (on_disk_below, mut lost) = (ring.first_index(), ring.lost);
        // What gives way in memory from now on was seen above, and what gives way on disk is missed.
        drop(ring);
        let on_disk = self.folder.as_ref().map(|folder| {
            let (parts, lost_there) = folder.contents();
            lost += lost_there;
            (Arc::clone(folder), parts)
        });
        let since = on_disk.iter().flat_map(|(_, parts)| parts).find_map(|part| part.first_at);
        let since = since.or(chunks.first().map(|chunk| chunk.first_at));
        Kept { since, chunks, on_disk_below, on_disk, lost }
    }

    /// Bytes that they take on disk.
    pub fn bytes_on_disk(&self) -> u64 {
        self.folder.as_ref().map_or(0, |folder| folder.bytes())
    }

    /// Bytes and entries that are kept now.
    pub fn held(&self) -> (usize, usize) {
        let ring = self.ring();
        (ring.bytes, ring.entries)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journeys {
    fn drop(&mut self) {
        let writer = self.ring().writer.take();
        writer.into_iter().for_each(Waker::wake);
    }
}

impl Chunk {
    fn publications(&self) -> u64 {
        self.entries.iter().filter(|entry| matches!(entry, Entry::Publication(_))).count() as u64
    }
}

impl Ring {
    /// Place of the oldest chunk that is in memory.
    fn first_index(&self) -> u64 {
        self.sealed.front().map_or(self.next_index, |chunk| chunk.index)
    }

    fn seal(&mut self) {
        if self.open.entries.is_empty() {
            return;
        }
        let mut chunk = std::mem::take(&mut self.open);
        chunk.entries.shrink_to_fit();
        chunk.index = self.next_index;
        self.next_index += 1;
        self.sealed.push_back(Arc::new(chunk));
    }

    /// What a publication takes, with its way unless the one before it in its part took the same.
    fn publication_bytes(&self, publication: &Publication) -> usize {
        let shares_way = self.open.entries.iter().rev().take(8).any(|entry| match entry {
            Entry::Publication(other) => Arc::ptr_eq(&other.way, &publication.way),
            Entry::Event(_) => false,
        });
        let ids = publication.message_ids.iter().flatten();
        let ids: usize = ids.map(|id| size_of::<Box<str>>() + id.len()).sum();
        let way = if shares_way { 0 } else { publication.way.bytes };
        size_of::<Entry>() + size_of::<Publication>() + ids + way
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::journey::testing::{publication, taken as taken_by, way_to};
    use crate::model::{QueueId, VhostName};

    const Q: QueueId = QueueId(1);

    fn way() -> Arc<super::super::Way> {
        way_to(&[Q])
    }

    fn taken(first: u64, count: u32) -> Event {
        taken_by(first, count, Q)
    }

    fn numbers(journeys: &Journeys, id: &str) -> Vec<u64> {
        let stories = journeys.kept().stories(&VhostName::default(), id, None, 100);
        stories.iter().map(|story| story.number.0).collect()
    }

    #[test]
    fn the_oldest_give_way_and_the_room_is_never_exceeded() {
        let bytes_max = 64 * 1024;
        let journeys = Journeys::new(bytes_max, JourneyNumber(1));
        let way = way();
        let mut most = 0;
        for number in 1..=10_000 {
            let first = journeys.numbers(1);
            assert_eq!(first, number);
            journeys.publish([publication(first, 1, Some(&["some id"]), &way)]);
            journeys.tell(&mut vec![taken(first, 1)]);
            most = most.max(journeys.held().0);
        }
        assert!(most <= bytes_max && most > bytes_max / 2, "{most}");
        let kept = journeys.kept();
        let oldest = journeys.oldest_number();
        assert_eq!(kept.lost, oldest - 1, "what is lost is counted");
        assert_eq!(numbers(&journeys, &JourneyNumber(oldest).to_string()), [oldest]);
        assert_eq!(numbers(&journeys, &JourneyNumber(oldest - 1).to_string()), [] as [u64; 0]);
        let newest = kept.stories(&VhostName::default(), "some id", None, 3);
        assert_eq!(newest.iter().map(|story| story.number.0).collect::<Vec<_>>(), [10_000, 9_999, 9_998]);
        assert!(newest.iter().all(|story| story.events.len() == 1));
    }

    #[test]
    fn no_more_entries_are_kept_than_may_be_however_small() {
        let entries_max = 1_000;
        let journeys = Journeys::with_room(usize::MAX, entries_max, JourneyNumber(1));
        let way = way();
        let mut most = 0;
        for number in 1..=5_000 {
            journeys.publish([publication(number, 1, None, &way)]);
            journeys.tell(&mut vec![taken(number, 1)]);
            // Whoever asks ends a part: else there is one alone, and it goes as a whole.
            if number % 50 == 0 {
                journeys.kept();
            }
            most = most.max(journeys.held().1);
        }
        assert!(most <= entries_max && most > entries_max * 9 / 10, "{most}");
        assert_eq!(numbers(&journeys, &JourneyNumber(5_000).to_string()), [5_000]);
        assert_eq!(numbers(&journeys, &JourneyNumber(4_000).to_string()), [] as [u64; 0]);
        assert_eq!(journeys.kept().lost, journeys.oldest_number() - 1, "what is lost is counted");
    }

    #[test]
    fn one_entry_that_is_larger_than_the_room_leaves_nothing() {
        let journeys = Journeys::new(1_000, JourneyNumber(1));
        journeys.publish([publication(journeys.numbers(1), 1, Some(&["x".repeat(2_000).as_str()]), &way())]);
        assert_eq!(journeys.held(), (0, 0));
        assert_eq!(journeys.kept().lost, 1);
    }

    #[test]
    fn asking_often_costs_no_room_that_is_not_counted() {
        let journeys = Journeys::new(64 * 1024, JourneyNumber(1));
        for number in 1..=5_000 {
            journeys.tell(&mut vec![taken(number, 1)]);
            let kept = journeys.kept();
            let bytes: usize = kept.chunks.iter().map(|chunk| chunk.bytes).sum();
            assert_eq!(bytes, journeys.held().0);
            assert!(bytes <= 64 * 1024);
        }
    }

    #[test]
    fn a_message_is_found_among_those_that_it_was_published_with() {
        let journeys = Journeys::new(64 * 1024, JourneyNumber(100));
        let way = way();
        journeys.publish([publication(100, 3, None, &way), publication(103, 2, Some(&["", "b"]), &way)]);
        journeys.tell(&mut vec![taken(100, 2), taken(104, 1)]);
        let events = |id: &str| {
            let stories = journeys.kept().stories(&VhostName::default(), id, None, 10);
            stories.iter().map(|story| (story.number.0, story.events.len())).collect::<Vec<_>>()
        };
        let made = |number| JourneyNumber(number).to_string();
        assert_eq!(events(&made(100)), [(100, 1)]);
        assert_eq!(events(&made(102)), [(102, 0)]);
        assert_eq!(events(&made(103)), [(103, 0)]);
        assert_eq!(events("b"), [(104, 1)]);
        assert_eq!(events(&made(104)), [(104, 1)]);
        assert_eq!(events(""), [], "no id is no id");
        assert_eq!(events(&made(105)), []);
    }

    #[test]
    fn pages_follow_each_other() {
        let journeys = Journeys::new(64 * 1024, JourneyNumber(1));
        let way = way();
        (1..=10).for_each(|number| journeys.publish([publication(number, 1, Some(&["same"]), &way)]));
        let page = |before| {
            let stories = journeys.kept().stories(&VhostName::default(), "same", before, 4);
            stories.iter().map(|story| story.number.0).collect::<Vec<_>>()
        };
        assert_eq!(page(None), [10, 9, 8, 7]);
        assert_eq!(page(Some(7)), [6, 5, 4, 3]);
        assert_eq!(page(Some(3)), [2, 1]);
    }
}
