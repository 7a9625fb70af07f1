//! Clients at work until their connection breaks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret::client::{Channel, ConfirmError, Connection, Delivery};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::oracle::{MessageId, Oracle};
use super::{Random, Route};

/// Confirms that one publisher waits for.
const UNCONFIRMED_MAX: usize = 400;
/// Messages that a consumer keeps without settling them.
const HELD_MAX: usize = 20;

/// Publishes without end.
pub(super) async fn publish(
    oracle: Arc<Oracle>,
    channel: Channel,
    route: &'static Route,
    next: Arc<AtomicU64>,
) {
    let publisher = channel.publisher(route.exchange, route.key).open().await;
    let Ok(publisher) = publisher else { return };
    let (pending, mut confirms) = mpsc::channel(UNCONFIRMED_MAX);
    let confirmed = tokio::spawn({
        let oracle = Arc::clone(&oracle);
        async move {
            while let Some((id, confirm)) = confirms.recv().await {
                let confirm: leveret::client::PendingConfirm = confirm;
                match confirm.await {
                    Ok(confirmed) if confirmed.queues as usize == route.queues.len() => {
                        oracle.confirmed(id, route.queues);
                    }
                    Ok(confirmed) => oracle.violated(format!("{id:?} reached {} queues", confirmed.queues)),
                    Err(ConfirmError::Returned(returned)) => {
                        oracle.violated(format!("{id:?} came back: {}", returned.reason));
                    }
                    // It may have arrived or not.
                    Err(_) => {}
                }
            }
        }
    });
    loop {
        let id = MessageId { publisher: route.publisher, number: next.fetch_add(1, Ordering::Relaxed) };
        oracle.publishes(id, route.queues);
        let Ok(confirm) = publisher.publish(id.body()).await else { break };
        if pending.send((id, confirm)).await.is_err() {
            break;
        }
    }
    drop(pending);
    confirmed.await.unwrap();
}

/// Consumes without end: settles most messages, with and without waiting for the disk, gives some back, keeps some.
pub(super) async fn consume(oracle: Arc<Oracle>, channel: Channel, queue: &'static str, mut random: Random) {
    let Ok(mut consumer) = channel.consume(queue).prefetch(200).start().await else { return };
    let mut last = BTreeMap::new();
    let mut held = VecDeque::new();
    let mut settling = JoinSet::new();
    while let Some(Ok(delivery)) = consumer.next().await {
        let Some(id) = oracle.delivered(queue, delivery.body(), delivery.redelivered(), &mut last) else {
            return;
        };
        match random.below(100) {
            0..70 => accept(&oracle, queue, id, delivery),
            70..90 => {
                let oracle = Arc::clone(&oracle);
                settling.spawn(async move {
                    oracle.accept_sent(queue, id);
                    if delivery.accept_stored().await.is_ok() {
                        oracle.accepted(queue, id);
                    }
                });
            }
            // What came over a connection that is gone comes again anyway.
            90..95 => drop(delivery.requeue()),
            _ => held.push_back((id, delivery)),
        }
        if held.len() > HELD_MAX
            && let Some((id, delivery)) = held.pop_front()
        {
            accept(&oracle, queue, id, delivery);
        }
        while settling.try_join_next().is_some() {}
    }
    while settling.join_next().await.is_some() {}
}

fn accept(oracle: &Oracle, queue: &'static str, id: MessageId, delivery: Delivery) {
    oracle.accept_sent(queue, id);
    // If it never left, the message comes again.
    let _ = delivery.accept();
}

/// Takes everything that a queue has, and settles it durably.
pub(super) async fn drain(oracle: Arc<Oracle>, connection: Connection, queue: &'static str) {
    let channel = connection.channel().await.unwrap();
    let mut consumer = channel.consume(queue).prefetch(1_000).start().await.unwrap();
    let mut last = BTreeMap::new();
    let entry = channel.find_queue(queue).await.unwrap().unwrap();
    assert_eq!(entry.consumers, 1, "another consumer would get some of the messages");
    let mut left = entry.messages_ready + entry.messages_unacknowledged;
    let mut previous = None;
    while left > 0 {
        let delivery = consumer.next().await.unwrap().unwrap();
        let id = oracle.delivered(queue, delivery.body(), delivery.redelivered(), &mut last).unwrap();
        left -= 1;
        if let Some((id, delivery)) = previous.replace((id, delivery)) {
            accept(&oracle, queue, id, delivery);
        }
    }
    // Settlements are stored in order: with the last one all are.
    if let Some((id, delivery)) = previous {
        oracle.accept_sent(queue, id);
        delivery.accept_stored().await.unwrap();
        oracle.accepted(queue, id);
    }
}
