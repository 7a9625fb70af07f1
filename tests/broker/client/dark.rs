//! The story that this broker is made for: three subscribers are known by name, one goes dark, many events pass, the broker is killed,
//! and whoever was dark gets all it missed in order. At every moment the receipts say who had what.

use std::ops::Range;

use leveret::client::{
    Channel, Connection, Consumer, Delivery, Exchange, ExchangeKind, JourneyRule, JourneyScope, Message,
    ReceiptState, Subscription,
};

use super::{connect, soon};
use crate::support::Broker;

const EVENTS: &str = "visits";
const SUBSCRIBERS: [&str; 3] = ["app", "billing", "reports"];
/// Events that pass while all are there, and all of them.
const TOGETHER: u32 = 5_000;
const ALL: u32 = 100_000;
/// The last of them, which billing has in its hands when the broker is killed.
const IN_HAND: u32 = 20;
/// Of one event in so many the receipts are held against the books.
const LOOKED_AT: usize = 1_999;

/// Room for the stories of all events: on disk, so that they are told after the broker was killed.
const FLAGS: [&str; 4] = ["--journey-store", "disk", "--journey-disk-bytes-max", "1GiB"];

async fn publish(channel: &Channel, numbers: Range<u32>) {
    let publisher = soon(channel.publisher(EVENTS, "page").open()).await.unwrap();
    for number in numbers {
        let message = Message::new(number.to_string()).message_id(format!("event {number}"));
        soon(publisher.send(message)).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

async fn come_back(channel: &Channel, name: &str) -> Consumer {
    soon(channel.subscribe(Subscription::new(name)).prefetch(1_000).start()).await.unwrap()
}

/// The next of these events, which must be exactly these in this order; the last `kept` are not accepted but returned.
async fn take(consumer: &mut Consumer, numbers: Range<u32>, kept: u32) -> Vec<Delivery> {
    let mut in_hand = Vec::new();
    let mut last = None;
    for number in numbers.clone() {
        let delivery = soon(consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), number.to_string().as_bytes());
        if number >= numbers.end - kept {
            in_hand.push(delivery);
        } else if let Some(former) = last.replace(delivery) {
            former.accept().unwrap();
        }
    }
    if let Some(last) = last {
        soon(last.accept_stored()).await.unwrap();
    }
    in_hand
}

/// What each subscriber knows of an event itself, in the order of [`SUBSCRIBERS`].
type Books = fn(u32) -> [ReceiptState; 3];

/// Holds what the broker tells against the books. After it was killed it may not know what became of an event in its last moments;
/// it never says what is not so. Returns of how many it knew all.
async fn check(channel: &Channel, passed: u32, books: Books, moment: &str) -> usize {
    let mut known = 0;
    let looked_at = (1..=passed).rev().step_by(LOOKED_AT).chain([1]);
    for number in looked_at {
        let mut told = soon(channel.receipts(&format!("event {number}"))).await.unwrap().journeys;
        let Some(journey) = told.pop() else { continue };
        assert!(told.is_empty(), "an event is published once");
        let mut is_known = journey.receipts.len() == SUBSCRIBERS.len();
        for receipt in &journey.receipts {
            let who = SUBSCRIBERS.iter().position(|name| receipt.subscription.as_deref() == Some(name));
            let expected = books(number)[who.expect("nobody else listens")];
            let is_certain = receipt.state != ReceiptState::Unknown;
            assert!(!is_certain || receipt.state == expected, "{moment}, event {number}: {receipt:?}");
            is_known &= is_certain;
        }
        known += usize::from(is_known);
    }
    known
}

fn looked_at(passed: u32) -> usize {
    (passed as usize).div_ceil(LOOKED_AT) + 1
}

async fn dark_since(connection: &Connection, name: &str) -> bool {
    let channel = soon(connection.channel()).await.unwrap();
    soon(channel.find_subscription(name)).await.unwrap()[0].dark_since.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_dark_for_a_hundred_thousand_events_and_a_crash_misses_none_and_receipts_tell_it() {
    use ReceiptState::{Accepted, Delivered, Pending};
    let mut broker = Broker::start_with(&FLAGS);
    let (connection, channel) = connect(&broker).await;
    soon(channel.declare_exchange(Exchange::new(EVENTS, ExchangeKind::Topic))).await.unwrap();
    for name in SUBSCRIBERS {
        soon(channel.declare_subscription(Subscription::new(name).listen(EVENTS, "#"))).await.unwrap();
    }
    let scope = JourneyScope::Exchange(EVENTS.to_owned());
    soon(channel.keep_journeys(&JourneyRule::new(scope))).await.unwrap();

    let mut consumers = Vec::new();
    for name in SUBSCRIBERS {
        consumers.push(come_back(&channel, name).await);
    }
    publish(&channel, 1..TOGETHER + 1).await;
    for consumer in &mut consumers {
        take(consumer, 1..TOGETHER + 1, 0).await;
    }
    let known = check(&channel, TOGETHER, |_| [Accepted; 3], "all are there").await;
    assert_eq!(known, looked_at(TOGETHER));

    let reports = consumers.pop().unwrap();
    soon(reports.cancel()).await.unwrap();
    assert!(dark_since(&connection, "reports").await);
    publish(&channel, TOGETHER + 1..ALL + 1).await;
    take(&mut consumers[0], TOGETHER + 1..ALL + 1, 0).await;
    let in_hand = take(&mut consumers[1], TOGETHER + 1..ALL + 1, IN_HAND).await;
    let while_dark: Books = |number| {
        let billing = if number > ALL - IN_HAND { Delivered } else { Accepted };
        [Accepted, billing, if number > TOGETHER { Pending } else { Accepted }]
    };
    let known = check(&channel, ALL, while_dark, "reports is dark").await;
    assert_eq!(known, looked_at(ALL));

    drop((in_hand, consumers, channel, connection));
    broker.kill();
    broker.restart_with(&FLAGS);
    let (connection, channel) = connect(&broker).await;
    let nobody_is_there: Books = |number| {
        let billing = if number > ALL - IN_HAND { Pending } else { Accepted };
        [Accepted, billing, if number > TOGETHER { Pending } else { Accepted }]
    };
    let known = check(&channel, ALL, nobody_is_there, "after the crash").await;
    assert!(known > 0, "what was written long before the crash is known after it");

    publish(&channel, ALL + 1..ALL + 11).await;
    let mut reports = come_back(&channel, "reports").await;
    let mut billing = come_back(&channel, "billing").await;
    let mut app = come_back(&channel, "app").await;
    take(&mut reports, TOGETHER + 1..ALL + 11, 0).await;
    take(&mut billing, ALL - IN_HAND + 1..ALL + 11, 0).await;
    take(&mut app, ALL + 1..ALL + 11, 0).await;
    assert!(!dark_since(&connection, "reports").await);
    let known_in_the_end = check(&channel, ALL + 10, |_| [Accepted; 3], "all are back").await;
    assert!(known_in_the_end >= known, "{known_in_the_end} of {known}");
}
