//! docs/PROTOCOL.md against a broker: the frames that a client sends there, as they stand there, and what the page says
//! about answers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{Side, WireError, decode_frame_from, pb};
use prost::Message as _;

use super::support::{Client, MESSAGE_BYTES_MAX, Served, Settings, item, publish_frame, settle, target};

/// The client's frames in an order that makes sense: what is used is declared before.
const SENT: [&str; 42] = [
    "connect",
    "heartbeat",
    "open_channel",
    "declare_exchange",
    "declare_queue",
    "bind",
    "bind_headers",
    "open_publisher",
    "publish",
    "publish_many",
    "consume",
    "settle",
    "extend",
    "extend_all",
    "settle_asked",
    "settle_all",
    "get",
    "consume_credit",
    "credit",
    "limit_prefetch",
    "list",
    "explain",
    "subscribe",
    "list_subscriptions",
    "list_subscriptions_some",
    "unsubscribe",
    "keep_journeys",
    "tell_journeys",
    "keep_no_journeys",
    "browse",
    "remove_moved",
    "cancel_delayed",
    "alter_exchange",
    "alter_exchange_checked",
    "alter_queue",
    "put_policy",
    "delete_policy",
    "put_permissions",
    "put_topic_permissions",
    "put_user_limits",
    "put_vhost_limits",
    "close",
];

struct Page {
    /// The frames shown, with their length prefixes, by name.
    frames: BTreeMap<String, Vec<u8>>,
    /// Numbers of kinds of frames, and of those that answer them.
    answers: BTreeMap<u64, u64>,
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
        let text = std::fs::read_to_string(path).unwrap();
        let blocks = text.split("<!-- golden: ").skip(1);
        let frames = blocks.map(|block| {
            let (name, rest) = block.split_once(" -->\n```text\n").unwrap();
            let (dump, _) = rest.split_once("```").unwrap();
            let hex = dump.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
            (name.to_owned(), hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect())
        });
        let (_, table) =
            text.split_once("| Number | Frame | From | Answered by |\n|---|---|---|---|\n").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
        let number = |frame: &str| rows.iter().find(|row| row[1] == frame).map(|row| row[0].parse().unwrap());
        let answers =
            rows.iter().filter_map(|row| Some((row[0].parse().unwrap(), number(row[3])?))).collect();
        Self { frames: frames.collect(), answers }
    }

    /// Names of the frames that a client sends.
    fn of_clients(&self) -> BTreeSet<&str> {
        let sent = |bytes: &&Vec<u8>| {
            let read = decode_frame_from(Side::Client, bytes[4..].to_vec().into());
            !matches!(read, Err(WireError::WrongSide { .. }))
        };
        let sent = self.frames.iter().filter(|(_, bytes)| sent(bytes)).map(|(name, _)| name.as_str());
        // Both sides may close with a reason; this one is a server's.
        sent.filter(|name| *name != "close_error").collect()
    }
}

/// Which kind of frame it is: the number of the field that holds its body.
fn kind(frame: &pb::Frame) -> u64 {
    let only_body = pb::Frame { channel: 0, request: 0, ..frame.clone() }.encode_to_vec();
    prost::encoding::decode_varint(&mut &only_body[..]).unwrap() >> 3
}

/// A broker that keeps what it gets.
fn durable() -> (tempfile::TempDir, Served) {
    let data = tempfile::TempDir::new().unwrap();
    let served = Served::start_with(Settings { data: Some(data.path().join("data")), ..Settings::default() });
    (data, served)
}

/// Reads frames up to one that is looked for; none may be an error.
fn read_until(client: &mut Client, mut found: impl FnMut(&pb::Frame) -> bool) -> pb::Frame {
    loop {
        let frame = pb::Frame::decode(client.try_next_bytes().expect("the server hung up")).unwrap();
        assert!(!matches!(frame.body, Some(Cold::Error(_))), "{frame:?}");
        if found(&frame) {
            return frame;
        }
    }
}

#[test]
fn the_frames_of_the_page_do_what_it_says() {
    let page = Page::read();
    assert_eq!(page.of_clients(), BTreeSet::from(SENT), "each of them is sent below");
    let (_data, served) = durable();
    let mut client = served.connect();
    for name in SENT {
        let bytes = &page.frames[name];
        let sent = pb::Frame::decode(&bytes[4..]).unwrap();
        client.send_bytes(bytes);
        if sent.request != 0 {
            let answer = read_until(&mut client, |frame| frame.request == sent.request);
            let expected = page.answers.get(&kind(&sent)).copied();
            assert_eq!((answer.channel, Some(kind(&answer))), (sent.channel, expected), "{name}: {answer:?}");
        }
        match name {
            "publish_many" => {
                let mut confirmed = BTreeSet::new();
                read_until(&mut client, |frame| {
                    let Some(Cold::Confirm(confirm)) = &frame.body else { return false };
                    for range in &confirm.ranges {
                        assert_eq!((range.level(), range.queues), (pb::DurabilityLevel::Synced, 1));
                        confirmed.extend(range.first..=range.last.max(range.first));
                    }
                    confirmed.iter().copied().eq(1..=4)
                });
            }
            "consume" => {
                let mut bodies = Vec::new();
                read_until(&mut client, |frame| {
                    let Some(Cold::Deliver(deliver)) = &frame.body else { return false };
                    bodies.extend(deliver.items.iter().map(|item| item.message.clone().unwrap().body));
                    bodies == [&b"hello"[..], b"a", b"b", b""]
                });
            }
            "close" => assert_eq!(client.closed(), None),
            _ => {}
        }
    }
}

#[test]
fn with_request_0_only_failure_is_told_and_the_message_of_a_get() {
    let served = Served::start();
    let mut client = served.client();
    client.tell(2, Cold::OpenChannel(pb::OpenChannel {}));
    client.tell(1, Cold::DeclareQueue(pb::DeclareQueue { name: "q".to_owned(), ..Default::default() }));
    client.tell(1, Cold::Get(pb::Get { queue: "q".to_owned(), no_ack: true }));
    assert!(matches!(client.answer(1, 0), Cold::Got(pb::Got { item: None, .. })));
    client.tell(1, Cold::PurgeQueue(pb::PurgeQueue { name: "nothing".to_owned() }));
    assert_eq!(client.news(1).code, 404);
    // What is published without sequence numbers is not answered, whatever its request.
    let publish =
        pb::Publish { target: Some(target("", "q")), items: vec![item(b"x")], ..pb::Publish::default() };
    client.send(1, 77, Cold::Publish(publish));
    client.is_served();
}

#[test]
fn a_message_that_is_too_large_is_refused_with_its_confirm() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    let items = [item(&vec![0; MESSAGE_BYTES_MAX + 1])];
    client.send_bytes(&publish_frame(0, 5, Some(&target("", "q")), &items));
    let [range] = &client.confirm().ranges[..] else { panic!("one message, one range") };
    let refusal = range.refusal.as_ref().unwrap();
    assert_eq!((range.first, range.queues, refusal.code, refusal.field.as_str()), (5, 0, 406, "body"));
    assert_ne!(refusal.hint, "");
}

#[test]
fn settling_all_of_nothing_is_done() {
    let served = Served::start();
    let mut client = served.client();
    client.declare_queue("q");
    let all = |consumer| settle(consumer, 0, 0, pb::Outcome::Accepted);
    client.done(1, all(0));
    client.consume("q", 1, 0);
    client.done(1, all(1));
    served.client().fill("q", &[b"x"]);
    client.delivery();
    client.done(1, Cold::CancelConsumer(pb::CancelConsumer { consumer: 1 }));
    client.done(1, all(1));
    client.done(1, all(1));
}
