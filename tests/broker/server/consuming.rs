//! Messages out: order, prefetch, credit, settling, single requests.

use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{Body, pb};

use super::support::{Client, Served, settle};

fn with_messages(served: &Served, bodies: &[&[u8]]) -> Client {
    let mut client = served.client();
    client.declare_queue("q");
    if !bodies.is_empty() {
        client.fill("q", bodies);
    }
    client
}

fn queue_counts(client: &mut Client) -> (u64, u64, u32) {
    let list = pb::List { kind: pb::ListKind::Queues.into(), name: "q".to_owned(), ..Default::default() };
    let Cold::Listing(listing) = client.ask(1, Cold::List(list)) else { panic!("no listing") };
    let queue = &listing.queues[0];
    (queue.messages_ready, queue.messages_unacknowledged, queue.consumers)
}

#[test]
fn messages_come_in_order_and_are_gone_when_accepted() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    client.consume("q", 1, 0);
    assert_eq!(client.bodies(3), [b"a", b"b", b"c"]);
    assert_eq!(queue_counts(&mut client), (0, 3, 1));
    client.done(1, settle(1, 0, 0, pb::Outcome::Accepted));
    assert_eq!(queue_counts(&mut client), (0, 0, 1));
}

#[test]
fn prefetch_bounds_what_is_unsettled() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    client.consume("q", 1, 2);
    assert_eq!(client.bodies(2), [b"a", b"b"]);
    assert_eq!(queue_counts(&mut client), (1, 2, 1));
    client.settle(1, 1, 0, pb::Outcome::Accepted);
    assert_eq!(client.bodies(1), [b"c"]);
}

#[test]
fn credit_is_used_up_and_added_to() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    client.consume_with(pb::Consume {
        queue: "q".to_owned(),
        consumer: 1,
        credit: Some(1),
        ..Default::default()
    });
    assert_eq!(client.bodies(1), [b"a"]);
    client.done(1, settle(1, 0, 0, pb::Outcome::Accepted));
    assert_eq!(queue_counts(&mut client), (2, 0, 1));
    client.tell(1, Cold::Credit(pb::Credit { consumer: 1, add: 2 }));
    assert_eq!(client.bodies(2), [b"b", b"c"]);
}

#[test]
fn what_is_requeued_comes_again_in_its_old_place() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    client.consume("q", 1, 2);
    assert_eq!(client.bodies(2), [b"a", b"b"]);
    client.settle(1, 1, 0, pb::Outcome::Requeued);
    let again = client.delivery();
    assert_eq!((again.first_tag, again.bodies, again.again), (3, vec![b"a".to_vec()], vec![(true, 1)]));
    client.settle(1, 0, 0, pb::Outcome::Accepted);
    assert_eq!(client.bodies(1), [b"c"]);
}

#[test]
fn what_is_rejected_is_gone() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a"]);
    client.consume("q", 1, 0);
    client.bodies(1);
    client.done(1, settle(1, 1, 0, pb::Outcome::Rejected));
    assert_eq!(queue_counts(&mut client), (0, 0, 1));
}

#[test]
fn without_acknowledgements_a_delivery_is_accepted_when_sent() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b"]);
    client.consume_with(pb::Consume {
        queue: "q".to_owned(),
        consumer: 1,
        no_ack: true,
        ..Default::default()
    });
    client.bodies(2);
    assert_eq!(queue_counts(&mut client), (0, 0, 1));
}

#[test]
fn an_unknown_tag_is_refused_and_its_neighbours_are_settled() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b"]);
    client.consume("q", 1, 0);
    client.bodies(2);
    let ranges = [9, 1].map(|first| pb::SettleRange {
        first,
        last: 0,
        outcome: pb::Outcome::Accepted.into(),
        delay_ms: None,
    });
    let error = client.refused(1, Cold::Settle(pb::Settle { consumer: 1, ranges: ranges.to_vec() }));
    assert_eq!((error.code, error.got.as_str()), (406, "9"));
    client.settle(1, 1, 0, pb::Outcome::Accepted);
    assert_eq!(client.news(1).code, 406, "it was settled already");
    assert_eq!(queue_counts(&mut client), (0, 1, 1));
}

#[test]
fn a_settlement_must_say_of_whom_and_how() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a"]);
    assert_eq!(client.refused(1, settle(5, 1, 0, pb::Outcome::Accepted)).code, 404);
    assert_eq!(client.refused(1, settle(5, 1, 0, pb::Outcome::Unspecified)).code, 502);
    assert_eq!(client.refused(1, settle(70_000, 1, 0, pb::Outcome::Accepted)).code, 502);
    assert_eq!(client.refused(1, Cold::Settle(pb::Settle { consumer: 1, ranges: Vec::new() })).code, 502);
}

#[test]
fn two_consumers_take_turns() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.consume("q", 1, 0);
    client.consume("q", 2, 0);
    let mut counts = [0; 3];
    for number in 0..10u8 {
        client.publish_items(
            0,
            0,
            Some(&super::support::target("", "q")),
            &[super::support::item(&[number])],
        );
        let delivered = client.delivery();
        assert_eq!(delivered.bodies, [[number]]);
        counts[delivered.consumer as usize] += 1;
    }
    assert_eq!(counts, [0, 5, 5]);
}

#[test]
fn a_cancelled_consumer_may_settle_what_it_has() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b"]);
    client.consume("q", 1, 1);
    client.bodies(1);
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    assert_eq!(queue_counts(&mut client), (1, 1, 0));
    client.done(1, settle(1, 1, 0, pb::Outcome::Accepted));
    assert_eq!(queue_counts(&mut client), (1, 0, 0));
}

#[test]
fn a_number_is_free_again_after_its_consumer_was_cancelled() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a"]);
    client.consume("q", 1, 1);
    client.bodies(1);
    let again = || Cold::Consume(pb::Consume { queue: "q".to_owned(), consumer: 1, ..Default::default() });
    let error = client.refused(1, again());
    assert_eq!((error.code, error.field.as_str()), (530, "consumer"));
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    // What the first one held goes back, and the second gets it.
    assert!(matches!(client.ask(1, again()), Cold::Consuming(_)));
    let delivered = client.delivery();
    assert_eq!((delivered.first_tag, delivered.again), (1, vec![(true, 1)]));
}

#[test]
fn a_consumer_learns_that_its_queue_is_gone() {
    let served = Served::start();
    let mut client = with_messages(&served, &[]);
    client.consume("q", 3, 0);
    let mut other = served.client();
    other.ask(1, Cold::DeleteQueue(pb::DeleteQueue { name: "q".to_owned(), ..Default::default() }));
    let Cold::ConsumerCancelled(cancelled) = client.answer(1, 0) else { panic!("not told") };
    assert_eq!(cancelled.consumer, 3);
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 3 }));
    client.done(1, settle(3, 0, 0, pb::Outcome::Accepted));
}

#[test]
fn exclusive_use_keeps_others_away() {
    let served = Served::start();
    let mut client = with_messages(&served, &[]);
    let exclusive =
        |consumer| pb::Consume { queue: "q".to_owned(), consumer, exclusive: true, ..Default::default() };
    client.consume_with(exclusive(1));
    let error = client.refused(1, Cold::Consume(pb::Consume { exclusive: false, ..exclusive(2) }));
    assert_eq!(error.code, 403);
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    client.consume("q", 2, 0);
    assert_eq!(client.refused(1, Cold::Consume(exclusive(3))).code, 403);
}

#[test]
fn messages_can_be_fetched_one_by_one() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    let get = |no_ack| Cold::Get(pb::Get { queue: "q".to_owned(), no_ack });
    let got = |client: &mut Client, no_ack| match client.ask(1, get(no_ack)) {
        Cold::Got(got) => (got.tag, got.item.map(|item| item.message.unwrap().body), got.messages_ready),
        other => panic!("{other:?}"),
    };
    assert_eq!(got(&mut client, false), (1, Some("a".into()), 2));
    assert_eq!(got(&mut client, true), (0, Some("b".into()), 1));
    assert_eq!(got(&mut client, false), (2, Some("c".into()), 0));
    assert_eq!(got(&mut client, false), (0, None, 0));
    client.done(1, settle(0, 1, 0, pb::Outcome::Accepted));
    assert_eq!(client.refused(1, settle(0, 1, 0, pb::Outcome::Accepted)).code, 406);
    client.done(1, settle(0, 2, 0, pb::Outcome::Requeued));
    assert_eq!(got(&mut client, false), (3, Some("c".into()), 0));
    assert_eq!(client.refused(1, Cold::Get(pb::Get { queue: "nothing".to_owned(), no_ack: true })).code, 404);
}

#[test]
fn requests_are_answered_in_their_order() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a"]);
    client.send(1, 1, Cold::Get(pb::Get { queue: "q".to_owned(), no_ack: true }));
    client.send(
        1,
        2,
        Cold::DeclareQueue(pb::DeclareQueue { name: "r".to_owned(), durable: true, ..Default::default() }),
    );
    client.send(1, 3, Cold::OpenPublisher(pb::OpenPublisher { publisher: 1, target: None }));
    client.send(
        1,
        4,
        Cold::Consume(pb::Consume { queue: "r".to_owned(), consumer: 1, ..Default::default() }),
    );
    client.send(1, 5, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    let requests: Vec<u64> = (0..5).map(|_| client.next().request).collect();
    assert_eq!(requests, [1, 2, 3, 4, 5]);
}

#[test]
fn who_goes_away_leaves_its_messages_to_others() {
    let served = Served::start();
    let mut first = with_messages(&served, &[b"a", b"b"]);
    first.consume("q", 1, 0);
    first.bodies(2);
    let mut second = served.client();
    second.consume("q", 1, 0);
    drop(first);
    let delivered = second.delivery();
    assert_eq!(delivered.bodies[0], b"a");
    assert!(delivered.again.iter().all(|again| *again == (true, 1)), "{delivered:?}");
}

#[test]
fn a_large_backlog_comes_in_frames_that_fit() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    let body = vec![7u8; 100_000];
    for _ in 0..4 {
        client.fill("q", &[&body[..]; 8]);
    }
    client.consume("q", 1, 0);
    let mut received = 0;
    while received < 32 {
        let frame = client.next();
        let Body::Deliver(deliver) = frame.body else { panic!("{frame:?}") };
        assert!(deliver.items.bytes().len() < 512 * 1024);
        assert_eq!(deliver.first_tag, received + 1);
        received += deliver.items.len() as u64;
        client.settle(1, 0, received, pb::Outcome::Accepted);
    }
}

#[test]
fn extending_answers_as_settling_does() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a", b"b", b"c"]);
    client.consume("q", 1, 0);
    client.bodies(3);
    let extend = |consumer, ranges: &[(u64, u64)]| {
        let ranges = ranges.iter().map(|(first, last)| pb::TagRange { first: *first, last: *last }).collect();
        Cold::Extend(pb::Extend { consumer, ranges })
    };
    client.done(1, extend(1, &[(1, 2), (3, 0), (2, 3)]));
    client.done(1, extend(1, &[(0, 0)]));
    client.done(1, settle(1, 2, 0, pb::Outcome::Accepted));
    for (ranges, tag) in [(&[(1, 3)][..], "2"), (&[(2, 0)], "2"), (&[(4, 0)], "4"), (&[(0, 9)], "4")] {
        let error = client.refused(1, extend(1, ranges));
        assert_eq!((error.code, &error.got[..]), (406, tag), "{ranges:?}");
    }
    // The same without a request, as news.
    client.tell(1, extend(1, &[(2, 0)]));
    assert_eq!(client.news(1).code, 406);
    assert_eq!(client.refused(1, extend(7, &[(0, 0)])).code, 404, "no such consumer");
    assert_eq!(client.refused(1, extend(70_000, &[(0, 0)])).code, 502);
    assert_eq!(client.refused(1, extend(1, &[])).code, 502, "no ranges");
    assert_eq!(client.refused(9, extend(1, &[(0, 0)])).code, 504, "no such channel");
    client.done(1, settle(1, 0, 0, pb::Outcome::Accepted));
    client.done(1, extend(1, &[(0, 0)]));
    client.done(1, extend(0, &[(0, 0)]));
    assert_eq!(client.refused(1, extend(0, &[(1, 0)])).code, 406, "nothing was got by itself");
}

#[test]
fn what_was_got_from_several_queues_is_extended_together() {
    let served = Served::start();
    let mut client = with_messages(&served, &[b"a"]);
    client.declare_queue("other");
    client.fill("other", &[b"b", b"c"]);
    for queue in ["q", "other", "other"] {
        let get = Cold::Get(pb::Get { queue: queue.to_owned(), no_ack: false });
        assert!(matches!(client.ask(1, get), Cold::Got(pb::Got { item: Some(_), .. })));
    }
    let extend = |first, last| {
        let ranges = vec![pb::TagRange { first, last }];
        Cold::Extend(pb::Extend { consumer: 0, ranges })
    };
    client.done(1, extend(0, 0));
    client.done(1, extend(1, 3));
    assert_eq!(client.refused(1, extend(3, 4)).code, 406);
    client.done(1, settle(0, 1, 3, pb::Outcome::Accepted));
    assert_eq!(client.refused(1, extend(1, 0)).code, 406);
}
