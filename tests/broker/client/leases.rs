//! Queues with a bound on how long a consumer may keep what it has: who keeps it longer ends, unless it asks for more time.

use std::time::{Duration, Instant};

use leveret::client::{
    Channel, ConsumeError, Consumer, Delivery, Event, Get, Message, Queue, ReplyCode, RequestError,
    SettleError,
};

use super::{connect, soon};
use crate::support::Broker;

/// As short as one can be, and so short that a test need not wait long.
const LEASE: Duration = Duration::from_secs(1);

async fn publish(channel: &Channel, queue: &str, bodies: &[&str]) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    for body in bodies {
        soon(publisher.send(Message::new((*body).to_owned()))).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

/// Ends when a consumer of another queue has had a message for longer than a lease: then everybody has who began before.
async fn a_lease_later(channel: &Channel, clock: &str) {
    soon(channel.declare_queue(Queue::new(clock).consumer_timeout(LEASE))).await.unwrap();
    publish(channel, clock, &["tick"]).await;
    let mut consumer = soon(channel.consume(clock).start()).await.unwrap();
    let _kept = next(&mut consumer).await;
    let end = soon(consumer.next()).await.unwrap();
    assert!(matches!(end, Err(ConsumeError::Lapsed(_))), "{end:?}");
}

#[tokio::test]
async fn who_keeps_a_message_for_too_long_ends_and_hears_why() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("jobs").consumer_timeout(LEASE))).await.unwrap();
    publish(&channel, "jobs", &["a", "b"]).await;
    let mut consumer = soon(channel.consume("jobs").prefetch(1).start()).await.unwrap();
    let began = Instant::now();
    let kept = next(&mut consumer).await;
    let Some(Err(ConsumeError::Lapsed(refusal))) = soon(consumer.next()).await else { panic!("it goes on") };
    assert!(began.elapsed() >= LEASE, "not before: {:?}", began.elapsed());
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert_eq!(refusal.entity.unwrap().1, "jobs");
    assert_eq!(refusal.field, "x-consumer-timeout");
    assert!(refusal.text.contains("delivery 1 of queue 'jobs'"), "{}", refusal.text);
    assert!(refusal.text.contains("1000 ms"), "{}", refusal.text);
    assert!(soon(consumer.next()).await.is_none());
    // What comes too late is told, and changes nothing.
    let late = soon(kept.accept_stored()).await;
    assert!(
        matches!(late, Err(SettleError::Refused(refusal)) if refusal.code == ReplyCode::PreconditionFailed)
    );
    let mut other = soon(channel.consume("jobs").start()).await.unwrap();
    let (again, behind) = (next(&mut other).await, next(&mut other).await);
    assert_eq!((&again.body()[..], again.redelivered(), again.delivery_count()), (&b"a"[..], true, 1));
    assert_eq!((&behind.body()[..], behind.redelivered()), (&b"b"[..], false));
    soon(again.accept_stored()).await.unwrap();
    soon(behind.accept_stored()).await.unwrap();
}

#[tokio::test]
async fn who_asks_for_more_time_keeps_it() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("jobs").consumer_timeout(LEASE))).await.unwrap();
    publish(&channel, "jobs", &["a", "b", "c"]).await;
    let mut consumer = soon(channel.consume("jobs").prefetch(3).start()).await.unwrap();
    let kept = next(&mut consumer).await;
    let began = Instant::now();
    let mut pulse = tokio::time::interval(LEASE / 5);
    while began.elapsed() < LEASE * 3 {
        pulse.tick().await;
        consumer.extend_all().unwrap();
    }
    let rest = soon(consumer.next_batch()).await.unwrap().unwrap();
    assert_eq!(rest.len(), 2, "all that it has was extended");
    let began = Instant::now();
    while began.elapsed() < LEASE * 2 {
        pulse.tick().await;
        kept.extend().unwrap();
        rest.extend().unwrap();
    }
    soon(kept.accept_stored()).await.unwrap();
    rest.accept().unwrap();
    assert_eq!(soon(channel.purge_queue("jobs")).await.unwrap(), 0);
    drop(consumer);
    assert!(soon(channel.get("jobs", Get::default())).await.unwrap().is_none(), "all of them were settled");
}

/// The other consumers of a channel go on, and so does everything else on it.
#[tokio::test]
async fn nothing_else_ends() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("slow").consumer_timeout(LEASE))).await.unwrap();
    soon(channel.declare_queue(Queue::new("quick").consumer_timeout(LEASE))).await.unwrap();
    let mut quick = soon(channel.consume("quick").start()).await.unwrap();
    let mut slow = soon(channel.consume("slow").start()).await.unwrap();
    publish(&channel, "slow", &["a"]).await;
    let _kept = next(&mut slow).await;
    assert!(matches!(soon(slow.next()).await, Some(Err(ConsumeError::Lapsed(_)))));
    publish(&channel, "quick", &["b"]).await;
    soon(next(&mut quick).await.accept_stored()).await.unwrap();
    // Its queue is there, and a consumer may come again.
    let mut again = soon(channel.consume("slow").start()).await.unwrap();
    assert!(next(&mut again).await.redelivered());
    drop(connection);
}

#[tokio::test]
async fn single_messages_have_leases_as_well() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    let mut events = connection.events();
    soon(channel.declare_queue(Queue::new("jobs").consumer_timeout(LEASE))).await.unwrap();
    publish(&channel, "jobs", &["a"]).await;
    let kept = soon(channel.get("jobs", Get::default())).await.unwrap().unwrap().delivery;
    kept.extend().unwrap();
    let told = soon(async {
        loop {
            if let Some(Event::ChannelError { refusal, .. }) = events.next().await {
                return refusal;
            }
        }
    });
    let refusal = told.await;
    assert_eq!((refusal.code, &refusal.field[..]), (ReplyCode::PreconditionFailed, "x-consumer-timeout"));
    assert!(refusal.text.contains("delivery 1 of queue 'jobs'"), "{}", refusal.text);
    let late = soon(kept.accept_stored()).await;
    assert!(matches!(late, Err(SettleError::Refused(_))), "{late:?}");
    let again = soon(channel.get("jobs", Get::default())).await.unwrap().unwrap().delivery;
    assert!(again.redelivered());
    soon(again.accept_stored()).await.unwrap();
}

/// A queue that says nothing has the broker's time; one that says something has its own, also after a restart.
#[tokio::test]
async fn the_broker_has_a_time_for_all_and_queues_their_own() {
    let mut broker = Broker::start_with(&["--consumer-timeout-ms", "1000"]);
    {
        let (_connection, channel) = connect(&broker).await;
        soon(channel.declare_queue(Queue::new("plain"))).await.unwrap();
        let patient = Queue::new("patient").consumer_timeout(Duration::from_secs(3600));
        soon(channel.declare_queue(patient)).await.unwrap();
        publish(&channel, "plain", &["a"]).await;
        publish(&channel, "patient", &["b"]).await;
    }
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let mut patient = soon(channel.consume("patient").start()).await.unwrap();
    let kept = next(&mut patient).await;
    let mut plain = soon(channel.consume("plain").start()).await.unwrap();
    let _lost = next(&mut plain).await;
    assert!(matches!(soon(plain.next()).await, Some(Err(ConsumeError::Lapsed(_)))));
    a_lease_later(&channel, "clock").await;
    soon(kept.accept_stored()).await.unwrap();
    // The time is part of what a queue is.
    let refused = soon(channel.declare_queue(Queue::new("patient"))).await;
    assert!(matches!(refused, Err(RequestError::Refused(refusal)) if refusal.field == "x-consumer-timeout"));
    let short = Queue::new("hasty").consumer_timeout(Duration::from_millis(999));
    let refused = soon(channel.declare_queue(short)).await;
    let Err(RequestError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.code, &refusal.got[..]), (ReplyCode::PreconditionFailed, "999"));
    assert_eq!(refusal.expected, "a whole number from 1000 to 315360000000");
}

#[tokio::test]
async fn with_zero_the_broker_has_none() {
    let broker = Broker::start_with(&["--consumer-timeout-ms", "0"]);
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("plain"))).await.unwrap();
    publish(&channel, "plain", &["a"]).await;
    let mut consumer = soon(channel.consume("plain").start()).await.unwrap();
    let kept = next(&mut consumer).await;
    a_lease_later(&channel, "clock").await;
    kept.extend().unwrap();
    soon(kept.accept_stored()).await.unwrap();
}
