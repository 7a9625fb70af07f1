//! Publishers whose consumers do not keep up, on a shard that only memory holds.

use super::driver::*;
use crate::model::QueueId;
use crate::shard::flow::{AHEAD_BYTES_MAX, PACE_MILLIS, SLOW_MILLIS};
use crate::shard::*;

const Q: QueueId = QueueId(7);
const BODY_BYTES: usize = 1024 * 1024;
const COUNT: usize = AHEAD_BYTES_MAX as usize / BODY_BYTES;
/// A consumer that is sent two messages before it says what it has.
const QUICK: ConsumerLimits =
    ConsumerLimits { no_ack: true, window_bytes: 2 * BODY_BYTES as u64, ..UNLIMITED };

/// Bytes that publishers were told of.
fn taken(events: &[Event]) -> usize {
    let told = events.iter().map(|event| match event {
        Event::Taken { bytes } => *bytes,
        Event::Published { taken_bytes, .. } => *taken_bytes,
        _ => 0,
    });
    told.sum()
}

fn publish(driver: &mut Driver, count: usize) -> usize {
    (0..count).map(|_| taken(&driver.publish(&[1], BODY_BYTES, &[Q]).1)).sum()
}

/// A consumer writes so many messages to its socket.
fn write(driver: &mut Driver, count: usize) -> Vec<Event> {
    let written = |_| Command::Written { queue: Q, key: key(1), bytes: BODY_BYTES as u64 };
    (0..count).map(written).flat_map(|command| driver.command(command)).collect()
}

fn driver() -> Driver {
    let mut driver = Driver::in_memory(&[Q]);
    driver.be_quick();
    driver
}

#[test]
fn publishers_wait_for_consumers_that_take_messages_at_a_good_pace() {
    let mut driver = driver();
    driver.attach(Q, 1, QUICK);
    publish(&mut driver, COUNT + 3);
    assert_eq!(publish(&mut driver, 2), 0, "the queue is ahead of its consumer");
    assert_eq!(taken(&write(&mut driver, COUNT / 2 - 4)), 0);
    let told = taken(&write(&mut driver, 10));
    assert!(told > 2 * BODY_BYTES, "the queue has half of it left: {told}");
    assert!(publish(&mut driver, 1) > BODY_BYTES, "it takes more");
}

#[test]
fn nobody_waits_for_consumers_that_are_slow() {
    let mut driver = driver();
    driver.attach(Q, 1, QUICK);
    publish(&mut driver, COUNT + 3);
    assert_eq!(publish(&mut driver, 2), 0);
    let mut events = write(&mut driver, 1);
    events.extend(driver.wake_after(PACE_MILLIS));
    assert!(taken(&events) > 2 * BODY_BYTES, "one message in that time is no pace");
    assert_eq!(publish(&mut driver, 10) / BODY_BYTES, 10, "nor for a while after");
    driver.wake_after(SLOW_MILLIS);
    assert_eq!(publish(&mut driver, 1), 0, "it may have become quicker");
}

#[test]
fn a_queue_without_consumers_grows() {
    let mut driver = driver();
    assert_eq!(publish(&mut driver, 2 * COUNT) / BODY_BYTES, 2 * COUNT);
}

#[test]
fn publishers_go_on_when_the_consumer_or_the_queue_goes() {
    for command in [
        Command::Detach { queue: Q, key: key(1) },
        Command::DeleteQueue { queue: Q, reply: tokio::sync::oneshot::channel().0 },
    ] {
        let mut driver = driver();
        driver.attach(Q, 1, QUICK);
        publish(&mut driver, COUNT + 3);
        assert_eq!(publish(&mut driver, 1), 0);
        assert!(taken(&driver.command(command)) > BODY_BYTES);
    }
}
