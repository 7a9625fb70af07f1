//! Looks into queues: what they show, that nothing changes by them, and what is read back for them.

use super::driver::*;
use crate::model::{QueueId, Timestamp};
use crate::shard::*;
use crate::storage::testing::MemoryDisk;

const QUEUE: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn all_of(queue: QueueId) -> Look {
    Look {
        queue,
        from: 0,
        end: 0,
        came: Came::default(),
        which: Which::Ready,
        newest: None,
        count_max: 1000,
        bytes_max: usize::MAX,
    }
}

fn ids(looked: &Looked) -> Vec<u64> {
    looked.messages.iter().map(|message| ids_in(&message.bytes)[0]).collect()
}

/// Looks on to the end; the messages, and in how many pages they came.
fn look_through(driver: &mut Driver, first: Look) -> (Vec<u64>, usize) {
    let (mut seen, mut pages, mut look) = (Vec::new(), 0, first);
    loop {
        let (mut answer, events) = driver.look(look);
        assert!(seen_nothing(&events), "{events:?}");
        let looked = answer.try_recv().unwrap().unwrap();
        assert!(looked.messages.len() <= look.count_max);
        pages += 1;
        seen.extend(ids(&looked));
        let Some(next) = looked.next else { return (seen, pages) };
        assert!(next > look.from, "a page brings one on");
        look = Look { from: next, end: looked.end, ..look };
    }
}

fn seen_nothing(events: &[Event]) -> bool {
    seen(events).is_empty()
}

/// A shard on a log, nothing of which is in memory.
fn cold(messages: u64, pad: usize) -> Driver {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, 0, &[QUEUE, OTHER]);
    for id in 1..=messages {
        driver.publish(&[id], pad, &[QUEUE, OTHER]);
        driver.settle_down();
    }
    driver.stop();
    drop(driver);
    disk.kill_process();
    Driver::open(&disk, 0, &[QUEUE, OTHER])
}

#[test]
fn what_is_ready_is_seen_in_its_order_and_stays_as_it_is() {
    let mut driver = Driver::in_memory(&[QUEUE]);
    driver.publish(&[1, 2, 3, 4, 5, 6], 10, &[QUEUE]);
    let limits = ConsumerLimits { prefetch: 4, ..UNLIMITED };
    driver.attach(QUEUE, 1, limits);
    driver.settle(QUEUE, 1, TagRange { first: 2, last: 3 }, Outcome::Requeued, None);
    // Credit for nothing more: 2 and 3 have gone out again at once.
    driver.command(Command::Cancel { queue: QUEUE, key: key(1) });
    driver.settle(QUEUE, 1, TagRange { first: 4, last: 5 }, Outcome::Requeued, None);
    let before = (driver.inspect(QUEUE).counts, driver.digest());

    let (mut answer, events) = driver.look(all_of(QUEUE));
    assert!(seen_nothing(&events));
    let looked = answer.try_recv().unwrap().unwrap();
    let flags: Vec<_> =
        looked.messages.iter().map(|message| (message.redelivered, message.delivery_count)).collect();
    let ready = driver.inspect(QUEUE).counts.ready;
    assert_eq!(ids(&looked).len() as u64, ready, "those with the consumer are not seen");
    assert!(ids(&looked).is_sorted(), "{:?}", ids(&looked));
    assert_eq!(ids(&looked).last(), Some(&6));
    assert_eq!(flags.last(), Some(&(false, 0)));
    assert!(flags[0].0 && flags[0].1 > 0, "{flags:?}");
    assert_eq!(before, (driver.inspect(QUEUE).counts, driver.digest()));

    driver.command(Command::Detach { queue: QUEUE, key: key(1) });
    let got = driver.attach(QUEUE, 2, UNLIMITED);
    let got: Vec<u64> = seen(&got).iter().map(|seen| seen.id).collect();
    assert_eq!(got, [1, 2, 3, 4, 5, 6], "the order is that of publishing");
}

#[test]
fn pages_join_and_end_where_the_first_one_said() {
    let mut driver = Driver::in_memory(&[QUEUE]);
    let published: Vec<u64> = (1..=100).collect();
    driver.publish(&published, 10, &[QUEUE]);
    for (count_max, bytes_max) in [(7, usize::MAX), (100, usize::MAX), (1000, 1), (1000, 100), (1, 1)] {
        let look = Look { count_max, bytes_max, ..all_of(QUEUE) };
        assert_eq!(look_through(&mut driver, look).0, published, "{count_max}, {bytes_max}");
    }
    let (mut answer, _) = driver.look(Look { count_max: 10, ..all_of(QUEUE) });
    let first = answer.try_recv().unwrap().unwrap();
    driver.publish(&[101], 10, &[QUEUE]);
    let rest = Look { from: first.next.unwrap(), end: first.end, ..all_of(QUEUE) };
    assert_eq!(look_through(&mut driver, rest).0, published[10..], "what came later is not in the snapshot");
}

#[test]
fn cursors_that_nobody_gave_out_show_what_there_is_or_nothing() {
    let mut driver = Driver::in_memory(&[QUEUE]);
    driver.publish(&[1, 2, 3], 10, &[QUEUE]);
    for (from, end, expected) in [
        (u64::MAX, u64::MAX, vec![]),
        (u64::MAX, 0, vec![]),
        (3, 2, vec![]),
        (1, 1, vec![]),
        (0, u64::MAX, vec![1, 2, 3]),
        (2, u64::MAX, vec![2, 3]),
    ] {
        let look = Look { from, end, ..all_of(QUEUE) };
        assert_eq!(look_through(&mut driver, look).0, expected, "{from}, {end}");
    }
    let (mut answer, _) = driver.look(all_of(QueueId(9)));
    assert!(answer.try_recv().unwrap().is_err(), "no such queue");
}

#[test]
fn what_left_memory_is_read_back_to_be_seen() {
    let mut driver = cold(64, 40 * 1024);
    let before = (driver.inspect(QUEUE).counts, driver.digest());
    let (seen, pages) = look_through(&mut driver, all_of(QUEUE));
    assert_eq!(seen, (1..=64).collect::<Vec<u64>>());
    assert!(pages > 1, "a look waits for one read and shows what it has");
    assert_eq!(before, (driver.inspect(QUEUE).counts, driver.digest()));
}

/// Nobody waits for a look: while it waits for the disk others are served, and what it waits for may go.
#[test]
fn a_look_that_waits_for_the_disk_holds_nobody_up() {
    let mut driver = cold(8, 10);
    driver.hold_reads();
    let (mut answer, _) = driver.look(all_of(QUEUE));
    assert!(answer.try_recv().is_err(), "it waits");
    let (mut gone, _) = driver.look(all_of(OTHER));
    driver.publish(&[99], 10, &[QUEUE]);
    driver.purge(OTHER);
    driver.delete(OTHER);
    let events = driver.consume(QUEUE, 1, ConsumerLimits { prefetch: 1, ..UNLIMITED });
    assert!(seen_nothing(&events), "it waits as well");
    let events = driver.release_reads();
    let first: Vec<u64> = seen(&events).iter().map(|seen| seen.id).collect();
    assert_eq!(first, [1], "the consumer has its message");
    let looked = answer.try_recv().unwrap().unwrap();
    let shown = ids(&looked);
    assert!(shown.iter().all(|id| (1..=8).contains(id)), "{shown:?}");
    assert!(gone.try_recv().unwrap().is_err(), "its queue was deleted");
}

/// One that is asked for and given up costs nothing more.
#[test]
fn a_look_that_nobody_waits_for_any_more_is_dropped() {
    let mut driver = cold(8, 10);
    driver.hold_reads();
    let (answer, _) = driver.look(all_of(QUEUE));
    drop(answer);
    driver.release_reads();
    assert!(driver.shard.browsing.is_idle());
    assert_eq!(look_through(&mut driver, all_of(QUEUE)).0, (1..=8).collect::<Vec<u64>>());
}

/// What was read for a look gives way at once to what a consumer needs.
#[test]
fn what_was_read_for_a_look_makes_room() {
    let mut driver = cold(64, 40 * 1024);
    driver.be_quick();
    driver.shard.reading.set_bytes_max(1024 * 1024);
    let (seen_all, _) = look_through(&mut driver, all_of(QUEUE));
    assert_eq!(seen_all.len(), 64);
    assert!(driver.shard.bodies.held_back() <= 1024 * 1024);
}

/// What left as moved is gone after a crash, be it read from the log or from a checkpoint; the rest is as it was.
#[test]
fn what_was_taken_out_stays_out() {
    let disk = MemoryDisk::new();
    let queues = [QUEUE, OTHER];
    let mut driver = Driver::open(&disk, 0, &queues);
    driver.publish(&[1, 2, 3, 4, 5, 6], 10, &queues);
    driver.settle_down();
    let (mut answer, _) = driver.look(all_of(QUEUE));
    let sequences: Vec<u64> =
        answer.try_recv().unwrap().unwrap().messages.iter().map(|message| message.sequence).collect();
    let wanted = [sequences[1], sequences[2], sequences[4], u64::MAX];
    let (mut others, _) = driver.take_out(QUEUE, &wanted);
    assert!(others.try_recv().is_err(), "it is told when it is durable");
    driver.settle_down();
    assert_eq!(others.try_recv().unwrap().unwrap(), [u64::MAX]);
    assert_eq!((driver.peek(QUEUE), driver.peek(OTHER)), (vec![1, 4, 6], vec![1, 2, 3, 4, 5, 6]));
    let digest = driver.digest();
    drop(driver);
    disk.kill_process();

    let mut driver = Driver::open(&disk, 0, &queues);
    assert_eq!((driver.digest(), driver.peek(QUEUE)), (digest, vec![1, 4, 6]), "from the log");
    driver.stop();
    let digest = driver.digest();
    drop(driver);
    let mut driver = Driver::open(&disk, 0, &queues);
    assert_eq!((driver.digest(), driver.peek(QUEUE)), (digest, vec![1, 4, 6]), "from a checkpoint");
}

#[test]
fn nothing_is_taken_out_of_a_queue_that_is_gone() {
    let mut driver = Driver::in_memory(&[QUEUE]);
    let (mut others, _) = driver.take_out(QueueId(9), &[1]);
    assert!(others.try_recv().unwrap().is_err());
}

/// Which messages came in a span of time, and how old the oldest ones are.
#[test]
fn messages_are_told_apart_by_when_they_came() {
    let disk = MemoryDisk::new();
    let mut driver = Driver::open(&disk, usize::MAX, &[QUEUE]);
    for id in 1..=6 {
        driver.wake_after(10_000);
        driver.publish(&[id], 10, &[QUEUE]);
        driver.settle_down();
    }
    let told = |driver: &mut Driver| {
        let (mut answer, _) = driver.look(all_of(QUEUE));
        let looked = answer.try_recv().unwrap().unwrap();
        looked.messages.iter().map(|message| message.came_at.unwrap()).collect::<Vec<Timestamp>>()
    };
    let came = told(&mut driver);
    assert!(came.windows(2).all(|pair| pair[0].0 + 10_000 <= pair[1].0), "{came:?}");

    let within = |since: Option<usize>, before: Option<usize>| Look {
        came: Came { since: since.map(|at| came[at]), before: before.map(|at| came[at]) },
        count_max: 1,
        ..all_of(QUEUE)
    };
    let spans = |driver: &mut Driver| {
        assert_eq!(look_through(driver, within(Some(2), None)).0, [3, 4, 5, 6]);
        assert_eq!(look_through(driver, within(None, Some(2))).0, [1, 2]);
        assert_eq!(look_through(driver, within(Some(1), Some(3))).0, [2, 3]);
        assert_eq!(look_through(driver, within(Some(3), Some(1))).0, [0; 0]);
        let between = Timestamp(came[2].0 + 5_000);
        let between = Came { since: Some(between), before: Some(Timestamp(came[5].0 + 5_000)) };
        assert_eq!(look_through(driver, Look { came: between, ..all_of(QUEUE) }).0, [4, 5, 6]);
        let ancient = Look { came: Came { since: None, before: Some(Timestamp(1)) }, ..all_of(QUEUE) };
        assert_eq!(look_through(driver, ancient).0, [0; 0]);
    };
    spans(&mut driver);

    let oldest = |ready: Option<usize>, unsettled: Option<usize>| Oldest {
        ready: ready.map(|at| came[at]),
        unsettled: unsettled.map(|at| came[at]),
    };
    assert_eq!(driver.inspect(QUEUE).oldest, oldest(Some(0), None));
    driver.consume(QUEUE, 1, ConsumerLimits { prefetch: 3, ..UNLIMITED });
    assert_eq!(driver.inspect(QUEUE).oldest, oldest(Some(3), Some(0)));
    driver.command(Command::Cancel { queue: QUEUE, key: key(1) });
    driver.settle(QUEUE, 1, TagRange { first: 1, last: 1 }, Outcome::Requeued, None);
    assert_eq!(driver.inspect(QUEUE).oldest, oldest(Some(0), Some(1)), "the first one waits again");
    driver.settle(QUEUE, 1, TagRange { first: 2, last: 3 }, Outcome::Requeued, None);
    driver.settle_down();
    assert_eq!(driver.inspect(QUEUE).oldest, oldest(Some(0), None));

    drop(driver);
    disk.kill_process();
    let mut driver = Driver::open(&disk, usize::MAX, &[QUEUE]);
    assert_eq!(told(&mut driver), came, "from the log");
    driver.stop();
    drop(driver);
    let mut driver = Driver::open(&disk, usize::MAX, &[QUEUE]);
    assert_eq!(told(&mut driver), came, "from a checkpoint");
    spans(&mut driver);
    driver.purge(QUEUE);
    assert_eq!(driver.inspect(QUEUE).oldest, Oldest::default());
}
