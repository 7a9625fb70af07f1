//! What was told is there after a start, as far as the disk has it; and what a disk does to it is told, and harms nothing else.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::journey::testing::{publication, taken, way_to};
use crate::journey::{Event, Journeys, NotTaken, Party, Story, Taker, Way, What};
use crate::model::{
    BodySequence, ConnectionId, Entity, ExchangeName, FieldTable, JourneyNumber, QueueId, QueueName, Refusal,
    ReplyCode, RoutingKey, ShardId, Timestamp, UserName, VhostName,
};
use crate::queue::{ConsumerKey, Departure, Return};
use crate::routing::{
    Binding, Destination, ExchangeKind, ExplainedBinding, ExplainedExchange, Explanation, ReachedBy,
};
use crate::storage::Disk;
use crate::storage::testing::{Fault, MemoryDisk, PowerLoss};

const Q: QueueId = QueueId(1);
const ROOM: u64 = 1024 * 1024;
const MEMORY: usize = 64 * 1024;

fn folder() -> &'static Path {
    Path::new("/data/journeys")
}

fn file(number: u64) -> std::path::PathBuf {
    segment::path_of(folder(), number)
}

/// A broker's store as it is after a start, and what the start told.
fn start_with(disk: &MemoryDisk, memory: usize, room: u64) -> (Journeys, Found) {
    let (opened, found) = Folder::open(Arc::new(disk.clone()), folder(), room);
    let first = JourneyNumber(found.end_number.max(1));
    (Journeys::on_disk(memory, first, opened, found.next_index), found)
}

fn start(disk: &MemoryDisk) -> (Journeys, Vec<String>) {
    let (journeys, found) = start_with(disk, MEMORY, ROOM);
    (journeys, found.told)
}

fn stories(journeys: &Journeys, id: &str) -> Vec<Story> {
    journeys.kept().stories(&VhostName::default(), id, None, 100)
}

fn numbers(journeys: &Journeys, id: &str) -> Vec<u64> {
    stories(journeys, id).iter().map(|story| story.number.0).collect()
}

/// Publishes a message with this id, which a queue takes, and tells its number.
fn publish(journeys: &Journeys, id: &str) -> u64 {
    let number = journeys.numbers(1);
    journeys.publish([publication(number, 1, Some(&[id]), &way_to(&[Q]))]);
    journeys.tell(&mut vec![taken(number, 1, Q)]);
    number
}

/// A way with all that can be on one.
fn long_way() -> Way {
    let name = |name: &str| ExchangeName::new(name).unwrap();
    let binding = |destination| {
        Arc::new(Binding {
            source: name("orders"),
            destination,
            key: RoutingKey::new("eu.#").unwrap(),
            arguments: FieldTable::from([("x-match", "all".into()), ("n", 7.into())]),
        })
    };
    let to_queue = Destination::Queue(QueueName::new("q").unwrap());
    let bindings = [to_queue, Destination::Exchange(name("other"))].map(|destination| ExplainedBinding {
        binding: binding(destination),
        matched: true,
        reason: "the routing key fits the pattern".to_owned(),
    });
    let reached = [ReachedBy::Publish, ReachedBy::Binding(name("orders")), ReachedBy::Alternate(name("x"))];
    let exchanges = reached.map(|reached_by| ExplainedExchange {
        name: name("orders"),
        kind: ExchangeKind::Topic,
        reached_by,
        bindings: bindings.to_vec(),
        alternate_exchange: Some(name("alternate")),
        alternate_note: "not needed".to_owned(),
        refused: Some("no".to_owned()),
        schema: Some("fits".to_owned()),
    });
    let queues = vec![QueueName::new("q").unwrap()];
    Way {
        explanation: Some(Explanation { exchanges: exchanges.to_vec(), queues, bindings_omitted: 3 }),
        refused: Some(refusal()),
        mandatory: true,
        ..Arc::into_inner(way_to(&[Q, QueueId(2)])).unwrap()
    }
}

fn refusal() -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, "no")
        .about(Entity::Exchange, "orders")
        .field("body.price", "a number", "text")
        .hint("write a number")
        .retryable()
}

/// Each thing that can happen.
fn everything() -> Vec<What> {
    let party = Arc::new(Party {
        connection: ConnectionId(7),
        name: "billing".to_owned(),
        user: UserName::new("guest").unwrap(),
        peer: "[::1]:5".parse().unwrap(),
    });
    let keys = [
        ConsumerKey::consumer(ConnectionId(7), 1, 9),
        ConsumerKey::one_by_one(ConnectionId(7), 1, false),
        ConsumerKey::one_by_one(ConnectionId(7), 1, true),
    ];
    let delivered = keys.map(|key| What::Delivered {
        queue: Q,
        taker: Arc::new(Taker { key, tag: Arc::from("tag"), party: Arc::clone(&party) }),
        redelivered: true,
        delivery_count: 4,
    });
    let not_taken = NotTaken { shard: ShardId(3), queues: Arc::from([Q]), refusal: refusal() };
    let mut all = vec![
        What::Taken { shard: ShardId(3), queues: Arc::from([Q, QueueId(2)]), sequence: BodySequence(77) },
        What::NotTaken(Arc::new(not_taken)),
        What::CameBack { queue: Q, why: Return::Requeued },
        What::CameBack { queue: Q, why: Return::ConsumerGone },
        What::QueueDeleted { queue: Q },
        What::Missed { queue: Q },
        What::Unwatched,
    ];
    all.extend(delivered);
    all.extend(Departure::ALL.map(|departure| What::Left { queue: Q, departure }));
    all
}

#[test]
fn every_word_of_a_story_comes_back() {
    let disk = MemoryDisk::new();
    let (journeys, told) = start(&disk);
    assert_eq!(told, [] as [&str; 0]);
    let way = Arc::new(long_way());
    journeys.numbers(2);
    journeys.publish([publication(1, 2, Some(&["a", "b"]), &way)]);
    let events = everything().into_iter().enumerate();
    let mut events: Vec<Event> =
        events.map(|(place, what)| Event { first: 1, count: 2, at: Timestamp(place as u64), what }).collect();
    // In two records: the second one speaks of what is in the first.
    let mut others = events.split_off(4);
    journeys.tell(&mut events);
    journeys.write_out().unwrap();
    journeys.tell(&mut others);
    let before = format!("{:?}", stories(&journeys, "b"));
    journeys.close().unwrap();
    let (journeys, told) = start(&disk);
    assert_eq!(told, [] as [&str; 0]);
    assert_eq!(format!("{:?}", stories(&journeys, "b")), before);
    assert_eq!(stories(&journeys, "b")[0].events.len(), everything().len());
    assert_eq!(journeys.next_number(), JourneyNumber(3), "no number is given twice");
}

#[test]
fn what_memory_has_no_room_for_is_told_from_the_disk_once() {
    let disk = MemoryDisk::new();
    let (journeys, _) = start(&disk);
    for round in 1..=50 {
        for place in 1..=20 {
            publish(&journeys, &format!("id-{round}-{place}"));
        }
        journeys.write_out().unwrap();
    }
    assert!(journeys.held().1 < 1_000, "memory is full: {:?}", journeys.held());
    let made = |number| JourneyNumber(number).to_string();
    for number in [1, 500, 999, 1_000] {
        assert_eq!(numbers(&journeys, &made(number)), [number]);
        assert_eq!(stories(&journeys, &made(number))[0].events.len(), 1, "{number}: each event once");
    }
    assert_eq!(numbers(&journeys, "id-1-1"), [1]);
    let kept = journeys.kept();
    assert_eq!((kept.lost, kept.since, journeys.oldest_number()), (0, Some(Timestamp(1)), 1));
}

#[test]
fn the_room_on_disk_is_never_exceeded_and_the_oldest_files_go() {
    let disk = MemoryDisk::new();
    let room = 64 * 1024;
    let (journeys, _) = start_with(&disk, 16 * 1024, room);
    let on_disk = || disk.files().iter().map(|(_, bytes)| *bytes as u64).sum::<u64>();
    let mut most = 0;
    for number in 1..=3_000 {
        publish(&journeys, &format!("some id {number}"));
        if number % 7 == 0 {
            journeys.write_out().unwrap();
            most = most.max(on_disk());
            assert_eq!(on_disk(), journeys.bytes_on_disk());
        }
    }
    assert!(most <= room && most > room * 3 / 4, "{most}");
    let oldest = journeys.oldest_number();
    assert!(oldest > 1);
    assert_eq!(journeys.kept().lost, oldest - 1, "what is lost is counted");
    let made = |number| JourneyNumber(number).to_string();
    journeys.close().unwrap();
    let (journeys, _) = start_with(&disk, 16 * 1024, room);
    assert_eq!(journeys.oldest_number(), oldest);
    assert_eq!(numbers(&journeys, &made(oldest)), [oldest]);
    assert_eq!(numbers(&journeys, &made(oldest - 1)), [] as [u64; 0]);
    // And with less room there are fewer of them.
    let (_, _) = start_with(&disk, 16 * 1024, room / 2);
    assert!(on_disk() <= room / 2);
}

#[test]
fn after_a_crash_at_any_moment_there_is_what_the_disk_has_and_it_goes_on() {
    for loss in [PowerLoss::KeepsAll, PowerLoss::LosesAll, PowerLoss::Tears] {
        for change in 0.. {
            let disk = MemoryDisk::new();
            let (journeys, _) = start(&disk);
            disk.cut_power_at(disk.changes() + change);
            let mut written = 0;
            for number in 1..=4 {
                publish(&journeys, "same");
                // More than what is written next: of it something would be left behind that.
                publish(&journeys, &"long".repeat(500));
                if journeys.write_out().is_ok() {
                    written = number;
                }
            }
            let closed = journeys.close();
            let is_over = !disk.is_powered_off();
            disk.restore_power(loss, change);
            let (journeys, told) = start(&disk);
            let found = numbers(&journeys, "same");
            let all = [7, 5, 3, 1];
            assert!(
                all.ends_with(&found),
                "{loss:?} at {change}: what is there follows from the beginning: {found:?}"
            );
            if loss == PowerLoss::KeepsAll || closed.is_ok() {
                assert!(found.len() >= written, "{loss:?} at {change}: {written} were written: {found:?}");
            }
            assert!(stories(&journeys, "same").iter().all(|story| story.events.len() <= 1));
            // A sector may be lost with others behind it kept: then the file is left, and another one begun.
            let is_left = |what: &&String| loss == PowerLoss::Tears && what.contains("cannot be read from");
            let of_others: Vec<_> = told.iter().filter(|what| !is_left(what)).collect();
            assert!(
                of_others.iter().all(|what| what.contains("were being written")),
                "{loss:?} at {change}: {told:?}"
            );
            let next = publish(&journeys, "next");
            journeys.close().unwrap();
            let (journeys, told) = start(&disk);
            let again: Vec<_> = told.iter().filter(|what| !is_left(what)).collect();
            assert_eq!(again, [] as [&str; 0], "{loss:?} at {change}: what was cut is whole now");
            assert_eq!(numbers(&journeys, "next"), [next]);
            assert_eq!(numbers(&journeys, "same"), found);
            if is_over {
                break;
            }
        }
    }
}

#[test]
fn bits_that_rot_are_told_and_nothing_wrong_is_believed() {
    let disk = MemoryDisk::new();
    let (journeys, _) = start(&disk);
    for _ in 0..3 {
        publish(&journeys, "same");
        journeys.write_out().unwrap();
    }
    journeys.close().unwrap();
    let whole: Vec<String> = stories(&journeys, "same").iter().map(|story| format!("{story:?}")).collect();
    let length = disk.content(&file(1)).unwrap().len();
    for offset in 0..length {
        let rotten = disk.copy();
        rotten.rot(&file(1), offset, 1 << (offset % 8)).unwrap();
        let (journeys, told) = start(&rotten);
        assert_eq!(told.len(), 1, "at {offset}");
        assert!(told[0].contains("0000000001.journeys"), "at {offset}: {}", told[0]);
        let found: Vec<String> =
            stories(&journeys, "same").iter().map(|story| format!("{story:?}")).collect();
        assert!(found.len() < whole.len() && whole.ends_with(&found), "at {offset}: {found:?}");
        let next = publish(&journeys, "next");
        journeys.close().unwrap();
        let (journeys, _) = start(&rotten);
        assert_eq!((numbers(&journeys, "next"), numbers(&journeys, "same").len()), (vec![next], found.len()));
    }
}

#[test]
fn a_full_disk_leaves_it_to_memory_until_there_is_room_again() {
    let disk = MemoryDisk::new();
    let (journeys, _) = start(&disk);
    publish(&journeys, "before");
    journeys.write_out().unwrap();
    let full: usize = disk.files().iter().map(|(_, bytes)| bytes).sum();
    disk.set_capacity(Some(full + 10));
    publish(&journeys, "meanwhile");
    for _ in 0..100 {
        let failed = journeys.write_out().unwrap_err();
        assert!(failed.is_full(), "{failed}");
    }
    assert_eq!(numbers(&journeys, "meanwhile"), [2], "memory has it");
    assert!(disk.files().len() <= 2, "trying leaves nothing behind: {:?}", disk.files());
    disk.set_capacity(None);
    journeys.write_out().unwrap();
    journeys.close().unwrap();
    let (journeys, told) = start(&disk);
    assert_eq!((numbers(&journeys, "before"), numbers(&journeys, "meanwhile")), (vec![1], vec![2]));
    assert_eq!(told, [] as [&str; 0]);
}

#[test]
fn a_disk_that_fails_once_costs_nothing() {
    for fault in [Fault::Io, Fault::Full] {
        for change in 0..12 {
            let disk = MemoryDisk::new();
            let (journeys, _) = start(&disk);
            disk.fail_at(disk.changes() + change, fault);
            for _ in 0..4 {
                publish(&journeys, "same");
                // The next one writes what this one could not.
                let _ = journeys.write_out();
            }
            let _ = journeys.write_out();
            let closed = journeys.close();
            let (journeys, told) = start(&disk);
            assert_eq!(
                numbers(&journeys, "same"),
                [4, 3, 2, 1],
                "{fault:?} at {change}: {closed:?}, {told:?}"
            );
            assert_eq!(told, [] as [&str; 0], "{fault:?} at {change}");
        }
    }
}

#[test]
fn what_memory_had_no_room_for_while_the_disk_failed_is_counted_as_lost() {
    let disk = MemoryDisk::new();
    let (journeys, _) = start_with(&disk, 8 * 1024, ROOM);
    disk.set_capacity(Some(0));
    for _ in 0..200 {
        publish(&journeys, "same");
    }
    journeys.write_out().unwrap_err();
    let lost = journeys.kept().lost;
    assert!(lost > 0);
    disk.set_capacity(None);
    journeys.close().unwrap();
    let (journeys, _) = start(&disk);
    assert_eq!(numbers(&journeys, "same").len() as u64, (200 - lost).min(100));
    assert_eq!(journeys.oldest_number(), lost + 1);
}

#[test]
fn files_of_another_format_are_left_and_told() {
    let disk = MemoryDisk::new();
    let (journeys, _) = start(&disk);
    publish(&journeys, "old");
    journeys.close().unwrap();
    let mut content = disk.content(&file(1)).unwrap();
    content[8] = 9;
    let crc = crc32c::crc32c(&content[..12]).to_le_bytes();
    content[12..16].copy_from_slice(&crc);
    disk.put(&file(1), &content).unwrap();
    disk.put(&folder().join("notes.txt"), b"mine").unwrap();
    let (journeys, told) = start(&disk);
    assert!(
        told.len() == 1 && told[0].contains("in format 9, and this version of leveret knows 1"),
        "{told:?}"
    );
    assert_eq!(numbers(&journeys, "old"), [] as [u64; 0]);
    let number = publish(&journeys, "new");
    journeys.close().unwrap();
    assert_eq!(disk.content(&file(1)).unwrap(), content, "nothing is written to it");
    assert_eq!(disk.content(&folder().join("notes.txt")).unwrap(), b"mine");
    let (journeys, _) = start(&disk);
    assert_eq!(numbers(&journeys, "new"), [number]);
}

#[test]
fn a_folder_that_cannot_be_looked_at_leaves_it_to_memory() {
    let disk = MemoryDisk::new();
    disk.create_directory(folder().parent().unwrap()).unwrap();
    let (journeys, _) = start(&disk);
    publish(&journeys, "old");
    journeys.close().unwrap();
    disk.fail_reads(1);
    let (journeys, told) = start(&disk);
    assert!(told.len() == 1 && told[0].contains("cannot be read"), "{told:?}");
    publish(&journeys, "new");
    journeys.write_out().unwrap();
    assert_eq!(numbers(&journeys, "new").len(), 1);
    assert_eq!(disk.files().len(), 2, "another file was begun: {:?}", disk.files());
}
