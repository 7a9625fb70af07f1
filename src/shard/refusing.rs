//! Queues that refuse what comes when they are full. What of a frame is taken in by which queue is decided before any of it is: the
//! entry of the log says who got what, and a restart has nothing to decide.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::command::Segment;
use super::shard::Shard;
use crate::journey::Tracked;
use crate::message::MessageRun;
use crate::model::{
    BodySequence, Entity, MAX_LENGTH, MAX_LENGTH_BYTES, Overflow, QueueId, Refusal, ReplyCode,
};
use crate::queue::{Departure, Effect, Full, QueueCommand, Room, SequenceRun, SequenceRuns};

/// Messages of a frame that follow each other and that a queue had no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// Their places in the frame.
    pub messages: Range<u32>,
    /// The queue.
    pub queue: QueueId,
    /// What it has no room for.
    pub full: Full,
}

impl Excess {
    /// What their publisher is told; the name is "" if nobody knows it any more.
    pub fn refusal(&self, queue: &str) -> Refusal {
        let name = if queue.is_empty() { "the queue".to_owned() } else { format!("queue '{queue}'") };
        let (field, expected, got) = match self.full {
            Full::Messages(most) => (MAX_LENGTH, format!("at most {most} messages waiting"), "one more"),
            Full::Bytes(most) => (MAX_LENGTH_BYTES, format!("at most {most} bytes waiting"), "more"),
        };
        Refusal::new(ReplyCode::ResourceError, format!("{name} is full and refuses what comes"))
            .about(Entity::Queue, queue)
            .field(field, expected, got)
            .hint("publish it again when consumers have taken some of what waits there")
            .retryable()
    }
}

/// What queues refuse of a frame.
#[derive(Debug, Default)]
pub(super) struct Refused {
    excess: Vec<Excess>,
    /// Those that are dead letters for it: which of the messages that are taken in, counted from the first.
    dead: BTreeMap<QueueId, Vec<Range<u64>>>,
}

/// The rooms of those queues of a frame that refuse what comes.
#[derive(Default)]
struct Rooms {
    rooms: Vec<(QueueId, Room, Overflow)>,
    places: HashMap<QueueId, usize, foldhash::fast::FixedState>,
}

/// A frame of which is found out who takes what.
struct Sorting {
    rooms: Rooms,
    admitted: Vec<Segment>,
    /// Messages of those.
    taken: u64,
    refused: Refused,
}

impl Shard {
    /// Takes out of the segments of a frame what queues have no room for.
    pub(super) fn admit(&mut self, run: &MessageRun, segments: Vec<Segment>) -> (Vec<Segment>, Refused) {
        if !self.limiting.any_refuse() {
            return (segments, Refused::default());
        }
        let rooms = self.rooms(&segments);
        if rooms.rooms.is_empty() {
            return (segments, Refused::default());
        }
        let mut sorting = Sorting { rooms, admitted: Vec::new(), taken: 0, refused: Refused::default() };
        segments.iter().for_each(|segment| sorting.sort(run, segment));
        (sorting.admitted, sorting.refused)
    }

    fn rooms(&mut self, segments: &[Segment]) -> Rooms {
        let mut rooms = Rooms::default();
        for queue in segments.iter().flat_map(|segment| segment.queues.iter()) {
            if !self.limiting.refuses(*queue) || rooms.places.contains_key(queue) {
                continue;
            }
            let Some(slot) = self.queues.get_mut(queue) else { continue };
            let options = slot.queue.options();
            let overflow = match options.limits.overflow {
                Overflow::RejectPublishDlx if options.dead_letters => Overflow::RejectPublishDlx,
                _ => Overflow::RejectPublish,
            };
            let asked = slot.attached.gets.len() as u64;
            if let Some(room) = slot.with_room_to_borrow(|queue| queue.room(asked)) {
                rooms.places.insert(*queue, rooms.rooms.len());
                rooms.rooms.push((*queue, room, overflow));
            }
        }
        rooms
    }

    /// The rest of the frame was taken in, the first of it under this sequence. What its publisher is to be told: each message
    /// once, with the first of the queues that refuse it.
    pub(super) fn tell_refused(
        &mut self,
        refused: Refused,
        first: BodySequence,
        tracked: Option<&Tracked>,
    ) -> Box<[Excess]> {
        let Refused { mut excess, dead } = refused;
        for Excess { messages, queue, .. } in &excess {
            if let Some(slot) = self.queues.get_mut(queue) {
                slot.queue.count_refused(u64::from(messages.end - messages.start));
            }
        }
        if let Some(tracked) = tracked {
            // What is taken in as a dead letter has a story of its own.
            for of_queue in excess.iter().filter(|excess| !dead.contains_key(&excess.queue)) {
                let Range { start, end } = of_queue.messages;
                let segment = Segment { first: start, end, queues: Arc::from([of_queue.queue]) };
                self.observe_not_taken(tracked, &[segment], &of_queue.refusal(""));
            }
        }
        if !dead.is_empty() {
            self.freeze();
        }
        for (queue, messages) in dead {
            let mut runs = SequenceRuns::default();
            for Range { start, end } in messages {
                runs.push_run(SequenceRun { first: BodySequence(first.0 + start), count: end - start });
            }
            self.effects.push(Effect::Append(QueueCommand::DeadLetter(Departure::MaxLength, runs)));
            self.run_effects(queue);
        }
        excess.dedup_by(|next, before| next.messages == before.messages);
        excess.into_boxed_slice()
    }
}

impl Sorting {
    fn sort(&mut self, run: &MessageRun, segment: &Segment) {
        let Rooms { places, .. } = &self.rooms;
        let refusing = segment.queues.iter().filter_map(|queue| places.get(queue).copied());
        let refusing: Vec<usize> = refusing.collect();
        let mut from = segment.first;
        let mut without: Vec<(usize, Full)> = Vec::new();
        for place in segment.first..segment.end {
            let size = run.item(place as usize).len() as u64;
            let rooms = &mut self.rooms.rooms;
            let full = refusing.iter().filter_map(|index| Some((*index, rooms[*index].1.take(size).err()?)));
            let full: Vec<(usize, Full)> = full.collect();
            if full != without {
                self.part(segment, from..place, &without);
                (from, without) = (place, full);
            }
        }
        self.part(segment, from..segment.end, &without);
    }

    /// Messages of a segment that these queues have no room for.
    fn part(&mut self, segment: &Segment, places: Range<u32>, without: &[(usize, Full)]) {
        if places.is_empty() {
            return;
        }
        let Range { start: first, end } = places;
        let taken = self.taken..self.taken + u64::from(end - first);
        let mut gone = Vec::new();
        for (index, full) in without {
            let (queue, _, overflow) = self.rooms.rooms[*index];
            self.refused.excess.push(Excess { messages: first..end, queue, full: *full });
            match overflow {
                Overflow::RejectPublishDlx => {
                    self.refused.dead.entry(queue).or_default().push(taken.clone());
                }
                _ => gone.push(queue),
            }
        }
        let queues = match gone.is_empty() {
            true => Arc::clone(&segment.queues),
            false => segment.queues.iter().copied().filter(|queue| !gone.contains(queue)).collect(),
        };
        if !queues.is_empty() {
            self.admitted.push(Segment { first, end, queues });
            self.taken = taken.end;
        }
    }
}
