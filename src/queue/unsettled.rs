//! The messages that a consumer has and has not settled, by delivery tag.
//!
//! Tags rise by one; any of them may be settled at any time. What this costs, in memory and in time, depends on how many
//! messages are held, and not on how many tags lie between them: one that stays open keeps nothing else alive.

use std::collections::VecDeque;

use super::message_ref::MessageRef;

/// Tags in a chunk at most.
const CHUNK_TAGS: usize = 1024;
/// A full chunk of which less than one in so many is held keeps just those.
const SPARSE_BELOW: usize = 8;

#[derive(Debug)]
pub(super) struct Unsettled {
    /// In order of their tags. Only the last one may hold nothing.
    chunks: VecDeque<Chunk>,
    next_tag: u64,
    count: u64,
}

/// What is known of a range of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Some of them are held.
    pub(super) holds_any: bool,
    /// The first of them that is not.
    pub(super) missing: Option<u64>,
}

#[derive(Debug)]
struct Chunk {
    /// The first tag, and the one behind the last.
    first: u64,
    end: u64,
    live: usize,
    places: Places,
}

#[derive(Debug)]
enum Places {
    /// One for each tag; dead once settled.
    All(Vec<MessageRef>),
    /// Those that were held when it became sparse, by tag; dead once settled.
    Some(Vec<(u64, MessageRef)>),
}

impl Default for Unsettled {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), next_tag: 1, count: 0 }
    }
}

impl Unsettled {
    /// The tag that comes next.
    pub(super) fn next_tag(&self) -> u64 {
        self.next_tag
    }

    /// Messages that are held.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Gives away tags for messages that are settled already; returns the first.
    pub(super) fn skip(&mut self, count: u64) -> u64 {
        self.next_tag += count;
        self.next_tag - count
    }

    /// Holds messages; returns the tag of the first.
    pub(super) fn extend(&mut self, messages: &[MessageRef]) -> u64 {
        let first = self.next_tag;
        let mut rest = messages;
        while !rest.is_empty() {
            let chunk = self.chunk_with_room();
            let Places::All(places) = &mut chunk.places else { break };
            let (now, later) = rest.split_at(rest.len().min(CHUNK_TAGS - places.len()));
            places.extend_from_slice(now);
            chunk.end += now.len() as u64;
            chunk.live += now.len();
            self.next_tag += now.len() as u64;
            rest = later;
        }
        self.count += messages.len() as u64;
        first
    }

    /// The last chunk, with all its tags and room for the next one.
    fn chunk_with_room(&mut self) -> &mut Chunk {
        let tag = self.next_tag;
        if self.chunks.back().is_some_and(|chunk| chunk.live == 0 && matches!(chunk.places, Places::Some(_)))
        {
            self.chunks.pop_back();
        }
        let is_new = match self.chunks.back_mut() {
            Some(Chunk { end, places: Places::All(messages), .. })
                if *end == tag && messages.len() < CHUNK_TAGS =>
            {
                false
            }
            // Its room is used again, so that one message at a time does not cost an allocation each.
            Some(Chunk { first, end, live: 0, places: Places::All(messages) }) => {
                messages.clear();
                (*first, *end) = (tag, tag);
                false
            }
            _ => true,
        };
        if is_new {
            self.chunks.push_back(Chunk { first: tag, end: tag, live: 0, places: Places::All(Vec::new()) });
        }
        self.chunks.back_mut().expect("one was pushed above if there was none")
    }

    /// Takes out what is held from `first` to `last`, in order. Returns the first of these tags that was not held.
    pub(super) fn take(
        &mut self,
        first: u64,
        last: u64,
        mut taken: impl FnMut(u64, MessageRef),
    ) -> Option<u64> {
        let mut missing = None;
        let mut expected = first;
        let from = self.chunks.partition_point(|chunk| chunk.end <= first);
        let mut index = from;
        while let Some(chunk) = self.chunks.get_mut(index).filter(|chunk| chunk.first <= last) {
            let before = chunk.live;
            chunk.take(first, last, |tag, message| {
                if tag != expected {
                    missing = missing.or(Some(expected));
                }
                expected = tag + 1;
                taken(tag, message);
            });
            self.count -= (before - chunk.live) as u64;
            index += 1;
        }
        // Those before and behind are as they were.
        let mut touched = from;
        for _ in from..index {
            if self.chunks[touched].live == 0 && touched + 1 < self.chunks.len() {
                self.chunks.remove(touched);
            } else {
                touched += 1;
            }
        }
        if expected <= last { missing.or(Some(expected)) } else { missing }
    }

    /// Looks at the tags from `first` to `last` and changes nothing.
    pub(super) fn look(&self, first: u64, last: u64) -> Look {
        let mut look = Look { holds_any: false, missing: None };
        let mut expected = first;
        let from = self.chunks.partition_point(|chunk| chunk.end <= first);
        let near = self.chunks.range(from..).take_while(|chunk| chunk.first <= last);
        for tag in near.flat_map(|chunk| chunk.tags_from(first)).take_while(|tag| *tag <= last) {
            look.holds_any = true;
            if tag != expected {
                look.missing = Some(expected);
                return look;
            }
            expected = tag + 1;
        }
        look.missing = (expected <= last).then_some(expected);
        look
    }

    /// The first tag that is held.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.chunks.iter().find_map(|chunk| chunk.tags_from(0).next())
    }

    /// What is held, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = MessageRef> {
        self.chunks.iter().flat_map(Chunk::iter)
    }
}

impl Chunk {
    fn take(&mut self, first: u64, last: u64, mut taken: impl FnMut(u64, MessageRef)) {
        let mut take = |tag: u64, place: &mut MessageRef| {
            if !place.is_dead() {
                taken(tag, *place);
                *place = place.dead();
                self.live -= 1;
            }
        };
        match &mut self.places {
            Places::All(messages) => {
                let start = first.saturating_sub(self.first) as usize;
                let end = messages.len().min(last.saturating_sub(self.first).saturating_add(1) as usize);
                for (tag, place) in (self.first + start as u64..).zip(&mut messages[start.min(end)..end]) {
                    take(tag, place);
                }
                if messages.len() == CHUNK_TAGS && self.live < CHUNK_TAGS / SPARSE_BELOW {
                    self.places = Places::Some(self.held());
                }
            }
            Places::Some(messages) => {
                let start = messages.partition_point(|(tag, _)| *tag < first);
                let end = messages.partition_point(|(tag, _)| *tag <= last);
                messages[start..end.max(start)].iter_mut().for_each(|(tag, place)| take(*tag, place));
            }
        }
    }

    fn held(&self) -> Vec<(u64, MessageRef)> {
        match &self.places {
            Places::All(messages) => {
                (self.first..).zip(messages).filter(|(_, message)| !message.is_dead()).map(copied).collect()
            }
            Places::Some(messages) => {
                messages.iter().filter(|(_, message)| !message.is_dead()).copied().collect()
            }
        }
    }

    /// Tags that are held, from this one on, in order.
    fn tags_from(&self, first: u64) -> impl Iterator<Item = u64> {
        let (all, some): (&[MessageRef], &[(u64, MessageRef)]) = match &self.places {
            Places::All(messages) => (messages, &[]),
            Places::Some(messages) => (&[], messages),
        };
        let skipped = all.len().min(first.saturating_sub(self.first) as usize);
        let all = (self.first + skipped as u64..).zip(&all[skipped..]);
        let some = some[some.partition_point(|(tag, _)| *tag < first)..].iter();
        let both = all.map(copied).chain(some.copied());
        both.filter(|(_, message)| !message.is_dead()).map(|(tag, _)| tag)
    }

    fn iter(&self) -> impl Iterator<Item = MessageRef> {
        let (all, some): (&[MessageRef], &[(u64, MessageRef)]) = match &self.places {
            Places::All(messages) => (messages, &[]),
            Places::Some(messages) => (&[], messages),
        };
        let some = some.iter().map(|(_, message)| message);
        all.iter().chain(some).copied().filter(|message| !message.is_dead())
    }
}

fn copied((tag, message): (u64, &MessageRef)) -> (u64, MessageRef) {
    (tag, *message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::BodySequence;

    fn message(sequence: u64) -> MessageRef {
        MessageRef::new(BodySequence(sequence), 10)
    }

    fn taken(unsettled: &mut Unsettled, first: u64, last: u64) -> (Vec<u64>, Option<u64>) {
        let mut sequences = Vec::new();
        let missing = unsettled.take(first, last, |_, message| sequences.push(message.sequence()));
        (sequences, missing)
    }

    #[test]
    fn one_that_stays_open_keeps_nothing_else() {
        let mut unsettled = Unsettled::default();
        for tag in 1..=1_000_000 {
            assert_eq!(unsettled.extend(&[message(tag)]), tag);
            if tag > 1 {
                assert_eq!(taken(&mut unsettled, tag, tag), (vec![tag], None));
            }
        }
        assert_eq!(unsettled.chunks.len(), 2);
        let places: usize = unsettled.chunks.iter().map(|chunk| chunk.held().capacity()).sum();
        assert!(places < 16, "{places}");
        assert_eq!(taken(&mut unsettled, 1, 1_000_000), (vec![1], Some(2)));
        assert_eq!(unsettled.len(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u16),
        Skip(u64),
        Take(u64, u64),
        Look(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..2500u16).prop_map(Step::Push),
            (1..3u64).prop_map(Step::Skip),
            (0..5000u64, 0..1500u64).prop_map(|(first, more)| Step::Take(first, first + more)),
            (0..5000u64).prop_map(|first| Step::Take(first, first)),
            (0..5000u64, 0..1500u64).prop_map(|(first, more)| Step::Look(first, first + more)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec(step(), 1..60)) {
            let (mut unsettled, mut model, mut next) = (Unsettled::default(), BTreeMap::new(), 1);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let tags = next..next + u64::from(count);
                        let messages: Vec<MessageRef> = tags.clone().map(|tag| message(tag * 2)).collect();
                        prop_assert_eq!(unsettled.extend(&messages), next);
                        next = tags.end;
                        model.extend(tags.map(|tag| (tag, tag * 2)));
                    }
                    Step::Skip(count) => {
                        prop_assert_eq!(unsettled.skip(count), next);
                        next += count;
                    }
                    Step::Look(first, last) => {
                        let look = Look {
                            holds_any: model.range(first..=last).next().is_some(),
                            missing: (first..=last).find(|tag| !model.contains_key(tag)),
                        };
                        prop_assert_eq!(unsettled.look(first, last), look);
                    }
                    Step::Take(first, last) => {
                        let missing = (first..=last).find(|tag| !model.contains_key(tag));
                        let expected: Vec<u64> = model.range(first..=last).map(|(_, sequence)| *sequence).collect();
                        model.retain(|tag, _| !(first..=last).contains(tag));
                        prop_assert_eq!(taken(&mut unsettled, first, last), (expected, missing));
                    }
                }
                prop_assert_eq!(unsettled.len(), model.len() as u64);
                prop_assert_eq!(unsettled.next_tag(), next);
                prop_assert_eq!(unsettled.oldest(), model.keys().next().copied());
                let held: Vec<u64> = unsettled.iter().map(MessageRef::sequence).collect();
                prop_assert_eq!(held, model.values().copied().collect::<Vec<_>>());
            }
        }
    }
}
