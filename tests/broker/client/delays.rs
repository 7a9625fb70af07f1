//! Messages that are held back: for later, given back for later, and by a queue's policy.

use std::time::{Duration, SystemTime};

use leveret::client::{
    Browse, Channel, ConfirmError, Consumer, Delivery, FieldValue, Get, Message, Queue, ReplyCode,
    RequestError, Retry, RetryOn,
};

use super::{connect, soon};
use crate::support::Broker;

/// Long enough that no test sees its end.
const LONG: Duration = Duration::from_secs(86_400);

async fn publish(channel: &Channel, queue: &str, message: Message) {
    let publisher = soon(channel.publisher("", queue).open()).await.unwrap();
    soon(soon(publisher.publish(message)).await.unwrap()).await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

/// Ready, held back, with consumers.
async fn counts(channel: &Channel, queue: &str) -> (u64, u64, u64) {
    let entry = soon(channel.find_queue(queue)).await.unwrap().unwrap();
    (entry.messages_ready, entry.messages_delayed, entry.messages_unacknowledged)
}

#[tokio::test]
async fn a_message_for_later_comes_later_and_one_for_now_before_it() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    let delay = Duration::from_millis(300);
    let began = SystemTime::now();
    publish(&channel, "q", Message::new("later").delay(delay)).await;
    publish(&channel, "q", Message::new("much later").delay(LONG)).await;
    publish(&channel, "q", Message::new("then").deliver_at(began + 2 * delay)).await;
    publish(&channel, "q", Message::new("long ago").deliver_at(began - LONG)).await;
    publish(&channel, "q", Message::new("now")).await;
    let mut consumer = soon(channel.consume("q").start()).await.unwrap();
    for (expected, earliest) in
        [("long ago", None), ("now", None), ("later", Some(delay)), ("then", Some(2 * delay))]
    {
        let delivery = next(&mut consumer).await;
        assert_eq!((&delivery.body()[..], delivery.redelivered()), (expected.as_bytes(), false));
        let took = began.elapsed().unwrap();
        assert!(earliest.is_none_or(|earliest| took >= earliest), "{expected} came after {took:?}");
        delivery.accept().unwrap();
    }
    assert!(soon(channel.get("q", Get::default())).await.unwrap().is_none());
    assert_eq!(counts(&channel, "q").await.1, 1);
}

#[tokio::test]
async fn times_that_cannot_be_meant_are_refused_in_their_confirms() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    let publisher = soon(channel.publisher("", "q").open()).await.unwrap();
    let microseconds = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_000_000);
    for (message, field) in [
        (Message::new("far").delay(400 * 10 * LONG), "delay_ms"),
        (Message::new("microseconds").deliver_at(microseconds), "deliver_at_ms"),
        (Message::new("both").delay(LONG).deliver_at(SystemTime::now()), "deliver_at_ms"),
    ] {
        match soon(soon(publisher.publish(message)).await.unwrap()).await {
            Err(ConfirmError::Refused(refusal)) => {
                assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, field));
            }
            other => panic!("it is refused: {other:?}"),
        }
    }
    assert_eq!(counts(&channel, "q").await, (0, 0, 0));
}

#[tokio::test]
async fn what_is_held_back_survives_a_kill_and_comes_in_its_time() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    publish(&channel, "q", Message::new("tomorrow").delay(LONG)).await;
    publish(&channel, "q", Message::new("soon").delay(Duration::from_millis(100))).await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let mut consumer = soon(channel.consume("q").start()).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(&delivery.body()[..], b"soon");
    delivery.accept().unwrap();
    assert_eq!(counts(&channel, "q").await.1, 1);
}

#[tokio::test]
async fn a_delivery_given_back_for_later_goes_to_nobody_until_then() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    publish(&channel, "q", Message::new("one")).await;
    publish(&channel, "q", Message::new("two")).await;
    let mut consumer = soon(channel.consume("q").start()).await.unwrap();
    let began = SystemTime::now();
    next(&mut consumer).await.requeue_after(Duration::from_millis(200)).unwrap();
    next(&mut consumer).await.requeue_after(LONG).unwrap();
    let again = next(&mut consumer).await;
    assert!(began.elapsed().unwrap() >= Duration::from_millis(200));
    assert_eq!((&again.body()[..], again.delivery_count(), again.redelivered()), (&b"one"[..], 1, true));
    assert_eq!(counts(&channel, "q").await, (0, 1, 1));
}

#[tokio::test]
async fn what_fails_is_tried_again_later_each_time_and_then_parked() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("parked"))).await.unwrap();
    let retry = Retry::after(Duration::from_millis(40)).times(2).at_most(Duration::from_millis(80));
    let jobs = Queue::new("jobs")
        .retry(retry.on(RetryOn::Failed))
        .delivery_limit(3)
        .dead_letter_exchange("")
        .dead_letter_routing_key("parked");
    soon(channel.declare_queue(jobs)).await.unwrap();
    publish(&channel, "jobs", Message::new("poison")).await;
    let mut consumer = soon(channel.consume("jobs").start()).await.unwrap();
    let mut given_back = None;
    for delay in [None, Some(40), Some(80), Some(80)] {
        let delivery = next(&mut consumer).await;
        let waited = given_back.map(|at: SystemTime| at.elapsed().unwrap());
        assert!(waited >= delay.map(Duration::from_millis), "{waited:?} {delay:?}");
        given_back = Some(SystemTime::now());
        delivery.requeue().unwrap();
    }
    let mut parked = soon(channel.consume("parked").start()).await.unwrap();
    let letter = next(&mut parked).await;
    let headers = letter.properties().unwrap().headers;
    assert_eq!(headers.text("x-first-death-reason"), Some("delivery_limit"));
    assert_eq!(counts(&channel, "jobs").await, (0, 0, 0));
}

#[tokio::test]
async fn a_policy_that_says_nothing_that_can_be_done_is_refused() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for (name, value) in [
        ("x-delayed-retry-type", FieldValue::from("sometimes")),
        ("x-delayed-retry-min", 0.into()),
        ("x-delayed-retry-max", (-1).into()),
        ("x-delayed-retry-multiplier", 0.into()),
        ("x-delayed-retry-jitter", 101.into()),
    ] {
        match soon(channel.declare_queue(Queue::new("jobs").argument(name, value))).await {
            Err(RequestError::Refused(refusal)) => {
                assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, name));
            }
            other => panic!("{name} is refused: {other:?}"),
        }
    }
    let disabled = Queue::new("jobs").argument("x-delayed-retry-type", "disabled");
    soon(channel.declare_queue(disabled.argument("x-delayed-retry-min", 1_000))).await.unwrap();
    publish(&channel, "jobs", Message::new("one")).await;
    let mut consumer = soon(channel.consume("jobs").start()).await.unwrap();
    next(&mut consumer).await.requeue().unwrap();
    assert_eq!(next(&mut consumer).await.delivery_count(), 1, "at once");
}

#[tokio::test]
async fn what_is_for_later_can_be_looked_at_and_cancelled() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    let began = SystemTime::now();
    for id in ["first", "second"] {
        publish(&channel, "q", Message::new(id).message_id(id).delay(LONG)).await;
    }
    publish(&channel, "q", Message::new("now")).await;
    let mut browser = channel.browse(Browse { delayed: true, ..Browse::new("q") });
    let page = soon(browser.next_page()).await.unwrap().unwrap();
    assert_eq!((page.messages.len(), page.messages_delayed, page.messages_ready), (2, 2, 1));
    let due = (began + LONG).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let until = page.messages[0].delayed_until.unwrap().0;
    assert!((due..due + 60_000).contains(&until), "{until} of {due}");
    let sequences: Vec<u64> = page.messages.iter().map(|message| message.sequence).collect();
    let others = soon(channel.cancel_delayed("q", page.queue_id, &[sequences[0], 1_000])).await.unwrap();
    assert_eq!(others, [1_000]);
    assert_eq!(counts(&channel, "q").await, (1, 1, 0));
    match soon(channel.cancel_delayed("q", page.queue_id + 1, &sequences)).await {
        Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code, ReplyCode::NotFound),
        other => panic!("another queue: {other:?}"),
    }
}
