//! Where messages are found, how long they stay in memory, and what is counted.

use super::*;
use crate::model::BodySequence;

impl Bodies {
    /// Memory that messages take which came in, by looking at every piece of it. Of the block that is being filled only
    /// what is needed.
    pub(in crate::shard) fn walk(&self) -> usize {
        let (mut bytes, mut blocks, mut origins) = (0, BTreeSet::new(), BTreeSet::new());
        let recent = self.extents.iter().filter_map(|extent| match &extent.held {
            Held::Recent(recent) => Some(recent),
            _ => None,
        });
        for recent in recent {
            bytes += std::mem::size_of_val(recent.groups());
            for (group, at) in recent.blocks() {
                let block = self.blocks.get(at).expect("what a message lies in is known");
                let start = group.bytes.as_ptr() as usize;
                assert!(at <= start && start + group.bytes.len() <= at + block.bytes, "it lies elsewhere");
                bytes += group.ends.capacity() * size_of::<u32>();
                if blocks.insert(at) && !self.blocks.is_filling(at) {
                    bytes += block.bytes;
                }
                if origins.insert(Arc::as_ptr(&group.origin)) {
                    bytes += size_of::<Origin>();
                }
            }
        }
        assert_eq!(blocks.len(), self.blocks.len(), "a block that nobody needs is counted");
        bytes + self.extents.capacity() * size_of::<Extent>()
    }
}

fn run(first: u64, count: u64) -> SequenceRun {
    SequenceRun { first: BodySequence(first), count }
}

/// Messages of 4 bytes each: field 5, length 2, two bytes.
fn bytes(count: usize) -> Bytes {
    (0..count).flat_map(|n| [0x2a, 2, n as u8, 0]).collect()
}

fn origin(name: u64) -> Arc<Origin> {
    Arc::new(Origin {
        exchange: crate::model::ExchangeName::new(&name.to_string()).unwrap(),
        routing_key: crate::model::RoutingKey::default(),
    })
}

fn ends(count: usize) -> Vec<u32> {
    (1..=count as u32).map(|n| n * 4).collect()
}

/// Groups of different origins, all in batch `batch`.
fn add(bodies: &mut Bodies, batch: u64, groups: &[(u64, usize)]) {
    let mut offset = 0;
    for (first, count) in groups {
        bodies.note(*first, &origin(*first), LogIndex(batch), offset, ends(*count), *count as u64);
        offset += (count * 4) as u32;
    }
    freeze(bodies, &bytes(offset as usize / 4), 0);
}

/// Each chunk is a block.
fn freeze(bodies: &mut Bodies, chunk: &Bytes, offset: u32) {
    let block = Block { at: chunk.as_ptr() as usize, bytes: chunk.len() };
    bodies.freeze(chunk, block, offset);
}

fn store(groups: &[(u64, usize)]) -> Bodies {
    let mut bodies = Bodies::default();
    add(&mut bodies, 1, groups);
    bodies
}

/// As they are read back.
fn groups(groups: &[(u64, usize)]) -> Vec<Group> {
    let group = |(first, count): &(u64, usize)| Group {
        first: *first,
        origin: origin(*first),
        bytes: bytes(*count),
        ends: ends(*count),
    };
    groups.iter().map(group).collect()
}

#[test]
fn a_run_over_two_groups_is_found_piece_by_piece() {
    let mut bodies = store(&[(1, 3), (4, 2)]);
    let found = bodies.look_up(run(2, 4)).unwrap();
    assert_eq!((found.count, found.bytes.len()), (2, 8));
    let found = bodies.look_up(run(4, 2)).unwrap();
    assert_eq!((found.count, found.bytes[2]), (2, 3));
    assert_eq!(bodies.look_up(run(6, 1)).unwrap_err(), Missing::Unknown);
}

#[test]
fn neighbours_of_one_origin_are_one_group() {
    let mut bodies = Bodies::default();
    let origin = origin(1);
    bodies.note(1, &origin, LogIndex(1), 0, ends(2), 2);
    bodies.note(3, &origin, LogIndex(1), 8, ends(3), 3);
    bodies.note(6, &origin, LogIndex(2), 0, ends(1), 1);
    freeze(&mut bodies, &bytes(6), 0);
    assert_eq!(bodies.look_up(run(2, 9)).unwrap().count, 4);
    assert_eq!(bodies.look_up(run(6, 9)).unwrap().count, 1, "another batch");
}

#[test]
fn memory_is_given_back_with_the_last_message_of_an_extent() {
    let mut bodies = store(&[(1, 3), (4, 2)]);
    bodies.release(run(2, 3));
    bodies.release(run(5, 1));
    assert!(bodies.recent_bytes() >= 20);
    bodies.release(run(1, 1));
    assert_eq!((bodies.recent_bytes(), bodies.memory_bytes(), bodies.extents.len()), (0, 0, 0));
}

#[test]
fn an_extent_takes_batches_until_it_is_full() {
    let mut bodies = Bodies::default();
    let many = EXTENT_BYTES_MIN as usize / 4;
    for (batch, count) in [(1, 10), (2, many), (3, 10), (4, 10), (6, 10)] {
        let first = bodies.extents.back().map_or(1, |extent| extent.end);
        add(&mut bodies, batch, &[(first, count)]);
    }
    let batches: Vec<_> =
        bodies.extents.iter().map(|extent| (extent.batches.first.0, extent.batches.last.0)).collect();
    assert_eq!(batches, [(1, 2), (3, 6)], "batch 5 had no messages");
    // A large batch is not cut into pieces: it can only be read back as a whole.
    let first = bodies.extents.back().unwrap().end;
    add(&mut bodies, 7, &[(first, 2 * many)]);
    add(&mut bodies, 7, &[(first + 2 * many as u64, 3)]);
    assert_eq!(bodies.extents.len(), 3 - 1);
}

#[test]
fn an_extent_does_not_reach_over_batches_whose_segments_may_go() {
    let mut bodies = store(&[(1, 3)]);
    add(&mut bodies, 3, &[(4, 1)]);
    assert_eq!(bodies.extents.len(), 1, "batch 2 had no messages");
    bodies.close();
    add(&mut bodies, 5, &[(5, 1)]);
    assert_eq!(bodies.extents.len(), 2, "a checkpoint may have found that nobody needs batch 4");
    add(&mut bodies, 7, &[(6, 1)]);
    add(&mut bodies, 7 + EMPTY_BATCHES_MAX + 2, &[(7, 1)]);
    add(&mut bodies, 7 + EMPTY_BATCHES_MAX + 3, &[(9, 1)]);
    let ends: Vec<_> = bodies.extents.iter().map(|extent| extent.end).collect();
    assert_eq!(ends, [5, 7, 10], "too many between; the next batch always fits");
}

#[test]
fn what_left_memory_comes_back_from_the_log() {
    let mut bodies = store(&[(1, 3), (4, 2)]);
    let first = bodies.extents[0].end;
    add(&mut bodies, 9, &[(first, 2)]);
    bodies.evict(8, LogIndex(1));
    assert_eq!(bodies.look_up(run(1, 1)).unwrap_err(), Missing::Cold);
    assert!(bodies.look_up(run(6, 1)).is_ok());
    let batches = Batches { first: LogIndex(1), last: LogIndex(1) };
    let cold = ColdExtent { first: 1, end: 6, batches, bytes: 20 };
    assert_eq!(bodies.cold_from(2, 0), [cold]);
    assert!(bodies.install(&cold, groups(&[(4, 2), (1, 3)])).is_err(), "not in order");
    bodies.install(&cold, groups(&[(1, 3), (4, 2), (6, 9)])).unwrap();
    assert_eq!(bodies.look_up(run(2, 2)).unwrap().bytes, bytes(3).slice(4..));
    bodies.release(run(1, 5));
    assert_eq!(bodies.extents.len(), 1);
}

#[test]
fn messages_without_a_queue_are_not_kept() {
    let mut bodies = store(&[(1, 3)]);
    bodies.note(4, &origin(4), LogIndex(1), 12, vec![4], 0);
    bodies.recover(5, 1, LogIndex(1), 4, 0);
    freeze(&mut bodies, &bytes(1), 12);
    bodies.release(run(1, 3));
    assert_eq!((bodies.memory_bytes(), bodies.extents.len(), bodies.dead), (0, 0, 0));
}

#[test]
fn what_comes_back_too_late_is_dropped() {
    let mut bodies = store(&[(1, 3)]);
    add(&mut bodies, 9, &[(4, 2)]);
    bodies.evict(0, LogIndex(9));
    let cold = bodies.cold_from(4, 0)[0];
    bodies.release(run(4, 2));
    assert!(!bodies.is_cold(&cold));
    bodies.install(&cold, groups(&[(4, 2)])).unwrap();
    assert!(bodies.read_back.is_empty());
}

#[test]
fn what_follows_a_message_that_nobody_needs_is_not_read_in_its_place() {
    let mut bodies = store(&[(1, 3)]);
    add(&mut bodies, 9, &[(4, 2)]);
    add(&mut bodies, 18, &[(6, 2)]);
    bodies.evict(0, LogIndex(18));
    assert_eq!(bodies.cold_from(4, 0)[0].first, 4);
    bodies.release(run(4, 2));
    assert_eq!(bodies.extents.len(), 3, "it is cleared away with others");
    assert_eq!(bodies.cold_from(4, 0), []);
    assert_eq!(bodies.cold_from(6, 0)[0].first, 6);
}

#[test]
fn what_is_not_durable_stays() {
    let mut bodies = store(&[(1, 3)]);
    bodies.evict(0, LogIndex(0));
    assert!(bodies.look_up(run(1, 3)).is_ok());
}
