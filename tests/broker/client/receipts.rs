//! Receipts and journeys: the broker tells of each message who has it, and it is what those who had it know themselves.

use std::collections::BTreeMap;

use leveret::client::{
    Channel, Connection, Consumer, Delivery, Entity, Exchange, ExchangeKind, FieldTable, Journey,
    JourneyRule, JourneyScope, JourneyStep, Journeys, Message, NewUser, Properties, Queue, ReceiptState,
    ReplyCode, RequestError, Subscription,
};

use super::{connect, soon};
use crate::support::Broker;

const EVENTS: &str = "events";

async fn beginning(broker: &Broker) -> (Connection, Channel) {
    let (connection, channel) = connect(broker).await;
    soon(channel.declare_exchange(Exchange::new(EVENTS, ExchangeKind::Topic))).await.unwrap();
    (connection, channel)
}

fn of_events() -> JourneyRule {
    JourneyRule::new(JourneyScope::Exchange(EVENTS.to_owned()))
}

/// Publishes a message and returns the id that the broker has made for it.
async fn publish(channel: &Channel, key: &str, message_id: &str) -> Option<String> {
    let publisher = soon(channel.publisher(EVENTS, key).not_mandatory().open()).await.unwrap();
    let properties = Properties { message_id: message_id.to_owned(), ..Properties::default() };
    let message = Message::new(message_id.to_owned()).with_properties(properties);
    let confirm = soon(publisher.publish(message)).await.unwrap();
    soon(confirm).await.unwrap().journey.map(|number| number.to_string())
}

/// What those who publish and consume know of each message and subscription: its state, deliveries, returns.
#[derive(Default)]
struct Books(BTreeMap<(String, &'static str), (ReceiptState, u32, u32)>);

impl Books {
    fn note(&mut self, id: &str, subscription: &'static str, state: ReceiptState) {
        let new = (state, 0, 0);
        let entry = self.0.entry((id.to_owned(), subscription)).or_insert(new);
        match state {
            ReceiptState::Delivered => entry.1 += 1,
            ReceiptState::Pending if entry.0 == ReceiptState::Delivered => entry.2 += 1,
            _ => {}
        }
        entry.0 = state;
    }

    /// Holds them against what the broker says.
    async fn check(&self, channel: &Channel, moment: &str) {
        let mut told = BTreeMap::new();
        let mut ids: Vec<&String> = self.0.keys().map(|(id, _)| id).collect();
        ids.dedup();
        for id in ids {
            for receipt in only(channel, id).await.receipts {
                let subscription =
                    receipt.subscription.clone().expect("all queues are those of subscriptions");
                assert_eq!(receipt.queue, format!("sub:{subscription}"));
                let numbers = (receipt.state, receipt.deliveries, receipt.returns);
                told.insert((id.clone(), subscription), numbers);
            }
        }
        let books: BTreeMap<_, _> =
            self.0.iter().map(|((id, name), numbers)| ((id.clone(), (*name).to_owned()), *numbers)).collect();
        assert_eq!(told, books, "{moment}");
    }
}

async fn told(channel: &Channel, id: &str) -> Journeys {
    soon(channel.journey(id)).await.unwrap()
}

async fn only(channel: &Channel, id: &str) -> Journey {
    let mut journeys = told(channel, id).await.journeys;
    assert_eq!(journeys.len(), 1, "of {id}: {journeys:?}");
    journeys.remove(0)
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon(consumer.next()).await.unwrap().unwrap()
}

/// One settles them, goes away, and comes back; one takes without settling; one is dark for most of the time. At every
/// moment the broker says what they know.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_tell_who_had_what_at_every_moment() {
    use ReceiptState::{Accepted, Delivered, NoAck, Pending, Purged, QueueDeleted, Rejected};
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    soon(channel.keep_journeys(&of_events())).await.unwrap();
    for name in ["billing", "audit", "app"] {
        let subscription = Subscription::new(name).listen(EVENTS, "order.*");
        soon(channel.declare_subscription(subscription)).await.unwrap();
    }
    let visits = Subscription::new("visits").listen(EVENTS, "visit.*");
    soon(channel.declare_subscription(visits)).await.unwrap();

    let mut books = Books::default();
    publish(&channel, "order.new", "order-1").await;
    publish(&channel, "order.new", "order-2").await;
    let made = publish(&channel, "order.new", "").await.expect("the confirm names the message");
    let all = ["order-1", "order-2", &made];
    for (id, name) in all.iter().flat_map(|id| ["billing", "audit", "app"].map(|name| (*id, name))) {
        books.note(id, name, Pending);
    }
    books.check(&channel, "nobody is there").await;

    let (billing_connection, billing_channel) = connect(&broker).await;
    let subscribe = billing_channel.subscribe(Subscription::new("billing")).prefetch(1).tag("till");
    let mut billing = soon(subscribe.start()).await.unwrap();
    let first = next(&mut billing).await;
    books.note("order-1", "billing", Delivered);
    books.check(&channel, "one has the first").await;
    let receipt = only(&channel, "order-1").await.receipts.into_iter().find(|one| one.queue == "sub:billing");
    let (_, taker) = receipt.and_then(|receipt| receipt.last_delivery).expect("it was delivered");
    assert_eq!((taker.tag.as_str(), taker.party.user.as_str()), ("till", "guest"));
    assert_eq!(taker.party.connection_id, billing_connection.server().connection_id);

    soon(first.accept_stored()).await.unwrap();
    books.note("order-1", "billing", Accepted);
    let second = next(&mut billing).await;
    books.note("order-2", "billing", Delivered);
    books.check(&billing_channel, "one has settled the first and has the second").await;

    second.requeue().unwrap();
    let again = next(&mut billing).await;
    books.note("order-2", "billing", Pending);
    books.note("order-2", "billing", Delivered);
    books.check(&billing_channel, "the second came back and was delivered again").await;
    assert!(again.redelivered() && again.delivery_count() == 1);
    again.reject().unwrap();
    books.note("order-2", "billing", Rejected);
    let third = next(&mut billing).await;
    books.note(&made, "billing", Delivered);
    books.check(&billing_channel, "the second was rejected").await;
    drop((third, billing));
    soon(billing_channel.close()).await.unwrap();
    books.note(&made, "billing", Pending);
    let on_same = soon(billing_connection.channel()).await.unwrap();
    books.check(&on_same, "who had the third is gone").await;

    let mut audit = soon(channel.subscribe(Subscription::new("audit")).no_ack().start()).await.unwrap();
    for id in all {
        next(&mut audit).await;
        books.note(id, "audit", Delivered);
        books.note(id, "audit", NoAck);
    }
    books.check(&channel, "another takes without settling").await;

    let dark = only(&channel, "order-1").await.receipts.into_iter().find(|one| one.queue == "sub:app");
    assert!(dark.is_some_and(|receipt| receipt.dark_since.is_some()), "it is seen who is dark");
    soon(channel.purge_queue("sub:app")).await.unwrap();
    all.iter().for_each(|id| books.note(id, "app", Purged));
    books.check(&channel, "what waited for the dark one was dropped").await;

    publish(&channel, "order.new", "order-4").await;
    next(&mut audit).await;
    books.note("order-4", "billing", Pending);
    books.note("order-4", "app", Pending);
    books.note("order-4", "audit", Delivered);
    books.note("order-4", "audit", NoAck);
    books.check(&channel, "one more, while it is dark").await;
    let (_app_connection, app_channel) = connect(&broker).await;
    let mut app = soon(app_channel.subscribe(Subscription::new("app")).start()).await.unwrap();
    let fourth = next(&mut app).await;
    books.note("order-4", "app", Delivered);
    books.check(&channel, "it is back").await;
    soon(fourth.accept_stored()).await.unwrap();
    books.note("order-4", "app", Accepted);
    books.check(&channel, "and has it").await;
    soon(channel.unsubscribe("billing")).await.unwrap();
    [made.as_str(), "order-4"].iter().for_each(|id| books.note(id, "billing", QueueDeleted));
    books.check(&channel, "a subscription is gone with what waited").await;
    journey_of_the_second(&channel).await;
}

async fn journey_of_the_second(channel: &Channel) {
    let journey = only(channel, "order-2").await;
    assert_eq!((journey.exchange.as_str(), journey.routing_key.as_str()), (EVENTS, "order.new"));
    assert_eq!(journey.message_id.as_deref(), Some("order-2"));
    assert_eq!(journey.publisher.user, "guest");
    assert_eq!(only(channel, &journey.id).await, journey, "by either id");
    let explanation = journey.explanation.as_ref().expect("its way is kept");
    let bindings = &explanation.exchanges[0].bindings;
    let matched = bindings.iter().filter(|binding| binding.matched).count();
    assert_eq!((matched, bindings.len()), (3, 4));
    let other = bindings.iter().find(|binding| !binding.matched).unwrap();
    assert!(other.reason.contains("visit"), "why not: {}", other.reason);

    let at_billing: Vec<String> = journey
        .events
        .iter()
        .filter_map(|event| match &event.what {
            JourneyStep::Delivered { queue, redelivered, delivery_count, .. } if queue == "sub:billing" => {
                Some(format!("delivered {redelivered} {delivery_count}"))
            }
            JourneyStep::Requeued(queue) if queue == "sub:billing" => Some("requeued".to_owned()),
            JourneyStep::Left(queue, state) if queue == "sub:billing" => Some(state.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(at_billing, ["delivered false 0", "requeued", "delivered true 1", "rejected"]);
    assert!(matches!(journey.events[0].what, JourneyStep::Taken { .. }), "{:?}", journey.events[0]);
    assert!(journey.events.is_sorted_by_key(|event| event.at), "in order");
}

/// A message for each number, all with the same id, and a header and a key that tell them apart.
async fn publish_many(channel: &Channel, count: u32) {
    let publisher = soon(channel.publisher(EVENTS, "").not_mandatory().open()).await.unwrap();
    for number in 0..count {
        let colour = if number % 4 == 0 { "red" } else { "blue" };
        let properties = Properties {
            message_id: "same".to_owned(),
            headers: FieldTable::from([("colour", colour.into())]),
            ..Properties::default()
        };
        let key = if number % 2 == 0 { "even.number" } else { "odd.number" };
        let message = Message::new(number.to_string()).with_properties(properties).routing_key(key);
        soon(publisher.send(message)).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn journeys_are_kept_of_those_that_were_asked_for_and_of_no_others() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    for (queue, key) in [("evens", "even.*"), ("odds", "odd.*")] {
        soon(channel.declare_queue(Queue::new(queue))).await.unwrap();
        let binding = leveret::client::Binding::to_queue(EVENTS, queue, key);
        soon(channel.bind(binding)).await.unwrap();
    }
    publish_many(&channel, 20).await;
    let off = told(&channel, "same").await;
    assert!(off.is_off && off.journeys.is_empty() && off.since.is_none(), "nothing is kept: {off:?}");
    assert_eq!(publish(&channel, "even.number", "x").await, None, "and no confirm speaks of it");

    let mut kept = 0;
    let queue = |name: &str| JourneyScope::Queue(name.to_owned());
    let red = Some(("colour".to_owned(), "red".to_owned()));
    for (rule, expect, what) in [
        (JourneyRule { per_million: 100_000, ..of_events() }, 40, "one of ten"),
        (JourneyRule { routing_key: Some("odd.#".to_owned()), ..of_events() }, 200, "by key"),
        (JourneyRule { header: red, ..of_events() }, 100, "by header"),
        (JourneyRule::new(queue("evens")), 200, "by queue"),
        (JourneyRule::new(JourneyScope::Vhost), 400, "all of the vhost"),
    ] {
        soon(channel.keep_journeys(&rule)).await.unwrap();
        publish_many(&channel, 400).await;
        let now = told(&channel, "same").await;
        kept += expect;
        assert_eq!(now.journeys.len(), kept.min(1_000), "{what}");
        assert!(!now.more, "{what}");
        assert_eq!(soon(channel.list_journey_rules()).await.unwrap(), std::slice::from_ref(&rule));
        soon(channel.keep_no_journeys(&rule.scope)).await.unwrap();
    }
    publish_many(&channel, 20).await;
    let now = told(&channel, "same").await;
    assert!(now.is_off && now.journeys.len() == kept, "off is off, and what was kept is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_nobody_or_is_refused_has_a_story_too() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    let allowed = Exchange::new(EVENTS, ExchangeKind::Topic).allow("order.*");
    soon(channel.declare_exchange(allowed)).await.unwrap();
    soon(channel.keep_journeys(&of_events())).await.unwrap();
    publish(&channel, "order.new", "lost").await;
    let lost = only(&channel, "lost").await;
    assert!(lost.receipts.is_empty() && lost.events.is_empty() && lost.refusal.is_none(), "{lost:?}");

    let publisher = soon(channel.publisher(EVENTS, "odrer.new").not_mandatory().open()).await.unwrap();
    let properties = Properties { message_id: "misspelt".to_owned(), ..Properties::default() };
    let confirm = soon(publisher.publish(Message::new("x").with_properties(properties))).await.unwrap();
    soon(confirm).await.unwrap_err();
    let misspelt = only(&channel, "misspelt").await;
    let refusal = misspelt.refusal.expect("it was refused");
    assert!(refusal.hint.contains("order.new"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_outlive_a_crash_and_an_id_from_before_is_said_to_be_gone() {
    let mut broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    let rule = JourneyRule {
        per_million: 10_000,
        routing_key: Some("a.#".to_owned()),
        header: Some(("h".to_owned(), "1".to_owned())),
        ..of_events()
    };
    let all = JourneyRule::new(JourneyScope::Vhost);
    soon(channel.keep_journeys(&rule)).await.unwrap();
    soon(channel.keep_journeys(&all)).await.unwrap();
    let id = publish(&channel, "a.b", "").await.unwrap();
    assert_eq!(only(&channel, &id).await.id, id);
    let missing = JourneyRule::new(JourneyScope::Queue("nowhere".to_owned()));
    match soon(channel.keep_journeys(&missing)).await {
        Err(RequestError::Refused(refusal)) => {
            assert_eq!(refusal.code, ReplyCode::NotFound);
            assert_eq!(refusal.entity, Some((Entity::Queue, "nowhere".to_owned())));
        }
        other => panic!("there is no such queue: {other:?}"),
    }
    let broker = tokio::task::spawn_blocking(move || {
        broker.kill_and_restart();
        broker
    });
    let broker = soon(broker).await.unwrap();
    let (_connection, channel) = connect(&broker).await;
    assert_eq!(soon(channel.list_journey_rules()).await.unwrap(), [all, rule]);
    let gone = told(&channel, &id).await;
    assert!(gone.has_gone && gone.journeys.is_empty(), "{gone:?}");
    let never = told(&channel, "never").await;
    assert!(!never.has_gone && !never.is_off, "{never:?}");
    let later = publish(&channel, "a.b", "").await.unwrap();
    assert!(later > id, "numbers are never given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_the_messages_of_their_vhost_and_not_whose_they_are() {
    let broker = Broker::start();
    let (_connection, channel) = beginning(&broker).await;
    soon(channel.keep_journeys(&of_events())).await.unwrap();
    soon(channel.put_vhost("other")).await.unwrap();
    let ann = NewUser {
        name: "ann".to_owned(),
        password: "secret".to_owned(),
        administrator: false,
        vhosts: vec!["/".to_owned(), "other".to_owned()],
    };
    soon(channel.put_user(ann)).await.unwrap();
    publish(&channel, "order.new", "order-1").await;
    let options: leveret::client::ConnectOptions = broker.url_as("ann:secret", "").parse().unwrap();
    let here = soon(Connection::connect(options)).await.unwrap();
    let journeys = soon(here.journey("order-1")).await.unwrap().journeys;
    let publisher = &journeys[0].publisher;
    assert!(publisher.connection_id > 0 && publisher.user.is_empty() && publisher.peer.is_empty());
    let options: leveret::client::ConnectOptions = broker.url_as("ann:secret", "other").parse().unwrap();
    let there = soon(Connection::connect(options)).await.unwrap();
    assert!(soon(there.receipts("order-1")).await.unwrap().journeys.is_empty(), "of another vhost");
}
