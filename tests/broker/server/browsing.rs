//! Frames about looking into queues as nobody should send them.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::{Client, Served};

fn browsed(client: &mut Client, browse: pb::Browse) -> pb::Browsed {
    match client.ask(1, Cold::Browse(pb::Browse { queue: "q".to_owned(), ..browse })) {
        Cold::Browsed(browsed) => browsed,
        other => panic!("{other:?}"),
    }
}

fn bodies(browsed: &pb::Browsed) -> Vec<Vec<u8>> {
    let items = browsed.messages.iter().filter_map(|message| message.item.clone()?.message);
    items.map(|message| message.body.to_vec()).collect()
}

#[test]
fn cursors_that_nobody_gave_out_are_taken_as_they_are() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.fill("q", &[b"a", b"b", b"c"]);
    let all = browsed(&mut client, pb::Browse::default());
    assert_eq!(
        (bodies(&all), all.next, all.messages_ready),
        (vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], 0, 3)
    );
    let first = all.messages[0].sequence;
    for (from, end, page_size, expected) in [
        (u64::MAX, u64::MAX, 1, 0),
        (u64::MAX, 0, u32::MAX, 0),
        (all.end, 1, 0, 0),
        (first + 1, u64::MAX, 0, 2),
        (0, first + 1, 0, 1),
        (0, 0, 2, 2),
    ] {
        let page = browsed(&mut client, pb::Browse { from, end, page_size, ..pb::Browse::default() });
        assert_eq!(page.messages.len(), expected, "{from}, {end}, {page_size}");
        assert!(page.next == 0 || page.next > from, "a page brings one on");
    }
    let other = pb::Browse { queue: "q".to_owned(), queue_id: all.queue_id + 1, ..pb::Browse::default() };
    assert_eq!(client.refused(1, Cold::Browse(other)).code, 404);
    let long =
        pb::Browse { routing_key: Some("k".repeat(256)), queue: "q".to_owned(), ..pb::Browse::default() };
    assert_eq!(client.refused(1, Cold::Browse(long)).code, 502);
}

#[test]
fn ranges_without_a_bound_take_nothing_out() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    client.fill("q", &[b"a", b"b", b"c"]);
    let queue_id = browsed(&mut client, pb::Browse::default()).queue_id;
    for ranges in [
        vec![],
        vec![(0, u64::MAX)],
        vec![(1, u64::MAX), (1, u64::MAX), (2, 3)],
        vec![(3, 2)],
        vec![(1, 2), (u64::MAX, 1)],
        vec![(1, 4097)],
        vec![(1, 1); 4097],
    ] {
        let ranges =
            ranges.iter().map(|(first, last)| pb::SequenceRange { first: *first, last: *last }).collect();
        let remove = pb::RemoveMoved { queue: "q".to_owned(), queue_id, ranges };
        let refused = client.refused(1, Cold::RemoveMoved(remove));
        assert_eq!((refused.code, refused.field.as_str()), (406, "ranges"), "{refused:?}");
    }
    assert_eq!(browsed(&mut client, pb::Browse::default()).messages_ready, 3);
}
