//! Messages in, and word of what became of them.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::{MESSAGE_BYTES_MAX, Served, item, target};

fn range(first: u64, last: u64, queues: u32) -> pb::ConfirmRange {
    pb::ConfirmRange {
        first,
        last,
        level: pb::DurabilityLevel::Memory.into(),
        queues,
        refusal: None,
        first_journey: 0,
    }
}

#[test]
fn every_message_of_a_frame_is_confirmed() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher(7, "", "q");
    client.publish(7, 1, &[b"a", b"b", b"c"]);
    let confirm = client.confirm();
    assert_eq!((confirm.publisher, confirm.ranges), (7, vec![range(1, 3, 1)]));
    client.publish(7, 4, &[b"d"]);
    assert_eq!(client.confirm().ranges, [range(4, 4, 1)]);
}

#[test]
fn what_reaches_nothing_is_confirmed_with_no_queue_and_comes_back_if_it_must_not() {
    let served = Served::start();
    let mut client = served.client();
    client.open_publisher(1, "amq.topic", "nowhere");
    client.publish(1, 1, &[b"lost"]);
    assert_eq!(client.confirm().ranges, [range(1, 1, 0)]);
    client.open_publisher_with(2, pb::PublishTarget { mandatory: true, ..target("amq.topic", "nowhere") });
    client.publish_items(
        2,
        5,
        None,
        &[item(b"x"), pb::PublishItem { routing_key: Some("k".to_owned()), ..item(b"y") }],
    );
    for (sequence, key, body) in [(5, "nowhere", b"x"), (6, "k", b"y")] {
        let Cold::Return(returned) = client.answer(1, 0) else { panic!("not returned") };
        assert_eq!((returned.publisher, returned.sequence), (2, sequence));
        assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("amq.topic", key));
        assert_eq!(returned.reason.unwrap().code, 312);
        assert_eq!(&returned.message.unwrap().body[..], body);
    }
    let ranges = client.confirm().ranges;
    assert_eq!(ranges.first().unwrap().first, 5);
    assert_eq!(ranges.last().unwrap().last, 6);
    assert!(ranges.iter().all(|range| range.queues == 0 && range.refusal.is_none()));
}

#[test]
fn an_exchange_that_does_not_exist_refuses_each_message() {
    let served = Served::start();
    let mut client = served.client();
    client.open_publisher(1, "nothing", "k");
    client.publish(1, 1, &[b"a", b"b"]);
    let ranges = client.confirm().ranges;
    assert_eq!((ranges.len(), ranges[0].first, ranges[0].last), (1, 1, 2));
    let refusal = ranges[0].refusal.clone().unwrap();
    assert_eq!(
        (refusal.code, refusal.entity_kind.as_str(), refusal.entity.as_str()),
        (404, "exchange", "nothing")
    );
    // Without sequences the refusal has nothing to stand on but the channel.
    client.publish(1, 0, &[b"c"]);
    assert_eq!(client.news(1).code, 404);
    client.is_served();
}

#[test]
fn a_publisher_must_be_open() {
    let served = Served::start();
    let mut client = served.client();
    client.publish(9, 1, &[b"a"]);
    let refusal = client.confirm().ranges[0].refusal.clone().unwrap();
    assert_eq!((refusal.code, refusal.entity_kind.as_str()), (404, "publisher"));
}

#[test]
fn a_target_may_come_with_the_messages() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.declare_queue("r");
    for queue in ["q", "q", "r", "q"] {
        client.fill(queue, &[queue.as_bytes()]);
    }
    client.consume("q", 1, 0);
    assert_eq!(client.bodies(3), [b"q", b"q", b"q"]);
    client.publish_items(0, 1, None, &[item(b"a")]);
    let refusal = client.confirm().ranges[0].refusal.clone().unwrap();
    assert_eq!((refusal.code, refusal.field.as_str()), (502, "target"));
}

#[test]
fn one_message_too_large_is_refused_and_its_neighbours_are_taken() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher(1, "", "q");
    let exact = vec![b'x'; MESSAGE_BYTES_MAX];
    let large = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    client.publish(1, 1, &[&exact]);
    client.confirmed_through(1);
    client.publish(1, 2, &[&b"small"[..], &large]);
    client.publish(1, 4, &[b"small too"]);
    let mut ranges = Vec::new();
    while ranges.iter().map(|range: &pb::ConfirmRange| range.last - range.first + 1).sum::<u64>() < 3 {
        ranges.extend(client.confirm().ranges);
    }
    for range in ranges {
        let refused = range.refusal.as_ref().map(|refusal| refusal.code);
        assert_eq!(refused, (range.first == 3).then_some(406), "{range:?}");
    }
    client.consume("q", 1, 0);
    assert_eq!(client.bodies(3).iter().map(Vec::len).collect::<Vec<_>>(), [MESSAGE_BYTES_MAX, 5, 9]);
}

#[test]
fn a_message_that_cannot_be_read_refuses_its_frame_and_nothing_else() {
    let served = Served::start();
    let mut client = served.client();
    client.open_publisher(1, "", "q");
    client.publish_items(1, 1, None, &[item(b"a"), pb::PublishItem::default()]);
    let range = client.confirm().ranges.remove(0);
    assert_eq!((range.first, range.last, range.refusal.unwrap().code), (1, 2, 502));
    client.is_served();
}

#[test]
fn a_frame_without_messages_is_a_mistake() {
    let served = Served::start();
    let mut client = served.client();
    client.open_publisher(1, "", "q");
    client.publish(1, 1, &[]);
    assert_eq!(client.news(1).code, 502);
    client.publish(1, u64::MAX, &[b"a", b"b"]);
    assert_eq!(client.confirm().ranges[0].refusal.as_ref().unwrap().code, 502);
}

#[test]
fn keys_of_messages_go_before_that_of_the_target() {
    let served = Served::start();
    let mut client = served.client();
    for name in ["target", "own", ""] {
        if !name.is_empty() {
            client.declare_queue(name);
        }
    }
    let own = pb::PublishItem { routing_key: Some("own".to_owned()), ..item(b"to own") };
    let empty = pb::PublishItem { routing_key: Some(String::new()), ..item(b"to none") };
    client.publish_items(0, 1, Some(&target("", "target")), &[item(b"to target"), own, empty]);
    let mut reached = Vec::new();
    while reached.len() < 3 {
        for range in client.confirm().ranges {
            reached.extend((range.first..=range.last).map(|sequence| (sequence, range.queues)));
        }
    }
    reached.sort_unstable();
    assert_eq!(reached, [(1, 1), (2, 1), (3, 0)]);
    client.consume("own", 1, 0);
    assert_eq!(client.bodies(1), [b"to own"]);
}
