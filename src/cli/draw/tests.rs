//! Whole pictures: what is drawn of made-up brokers, against the files under `tests/draw/` and what
//! the page about it shows.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::super::output;
use super::super::terminal::{Terminal, is_treacherous};
use super::build::build;
use super::look::Look;
use super::picture::{Flow, Layer, Picture, What};
use super::scope::Scope;
use super::{boxes, json, mermaid, svg, words};
use crate::client::{
    Binding, ConnectionEntry, ConsumerEntry, Destination, ExchangeEntry, Published, QueueEntry, Sharing,
    Subscriber, SubscriptionEntry,
};
use crate::model::{FieldTable, Timestamp};

/// Set to anything, it makes the tests write the files instead of comparing them.
const UPDATE: &str = "UPDATE_DRAWINGS";

const NOW_MS: u64 = 1_800_000_000_000;

fn exchange(name: &str, kind: &str, published_total: u64) -> ExchangeEntry {
    ExchangeEntry {
        name: name.to_owned(),
        kind: kind.to_owned(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
        bindings: 0,
        refused_total: 0,
        unfit_total: 0,
        schemas: Vec::new(),
        unkept_total: 0,
        published_total,
        policy: None,
        operator_policy: None,
        alternate_exchange: None,
        history_messages: 0,
        history_bytes: 0,
        history_left_out_total: 0,
    }
}

fn queue(name: &str, ready: u64, published_total: u64, delivered_total: u64) -> QueueEntry {
    QueueEntry {
        name: name.to_owned(),
        kind: "classic".to_owned(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
        messages_ready: ready,
        messages_unacknowledged: 0,
        consumers: 0,
        messages_delayed: 0,
        message_bytes: 0,
        shard: 0,
        published_total,
        delivered_total,
        accepted_total: 0,
        oldest_ready: None,
        oldest_unacknowledged: None,
        messages_retained: 0,
        retained_bytes: 0,
        rejected_total: 0,
        purged_total: 0,
        no_ack_total: 0,
        moved_total: 0,
        expired_total: 0,
        max_length_total: 0,
        refused_full_total: 0,
        delivery_limit_total: 0,
        dead_letters: 0,
        dead_letters_bytes: 0,
        dead_lettered_total: 0,
        cycled_total: 0,
        fault: None,
        policy: None,
        operator_policy: None,
        effective: FieldTable::default(),
    }
}

fn binding(source: &str, key: &str, queue: &str) -> Binding {
    Binding {
        source: source.to_owned(),
        destination: Destination::Queue(queue.to_owned()),
        routing_key: key.to_owned(),
        arguments: FieldTable::default(),
    }
}

fn connection(id: u64, name: &str, published: &[(&str, u64)]) -> ConnectionEntry {
    let published = published
        .iter()
        .map(|(exchange, total)| Published { exchange: (*exchange).to_owned(), messages_total: *total });
    ConnectionEntry {
        id,
        name: name.to_owned(),
        user: "guest".to_owned(),
        vhost: "/".to_owned(),
        peer: format!("127.0.0.1:{}", 50_000 + id),
        client: Default::default(),
        channels: 1,
        connected_at: Timestamp(NOW_MS - 60_000),
        received_bytes: 0,
        sent_bytes: 0,
        blocked: None,
        published: published.collect(),
        published_elsewhere_total: 0,
    }
}

fn consumer(queue: &str, connection_id: u64, tag: &str, delivered_total: u64) -> ConsumerEntry {
    ConsumerEntry {
        queue: queue.to_owned(),
        tag: tag.to_owned(),
        connection_id,
        channel: 1,
        prefetch: 100,
        no_ack: false,
        exclusive: false,
        messages_unacknowledged: 2,
        delivered_total,
        priority: 0,
        active: None,
    }
}

fn subscription(name: &str, ready: u64, dark_since_ms: Option<u64>) -> SubscriptionEntry {
    let subscriber = Subscriber {
        connection_id: 9,
        channel: 1,
        tag: name.to_owned(),
        messages_unacknowledged: 0,
        connection_name: "till 3".to_owned(),
        user: "guest".to_owned(),
        peer: "127.0.0.1:50009".to_owned(),
    };
    SubscriptionEntry {
        name: name.to_owned(),
        sharing: Sharing::Shared,
        bindings: Vec::new(),
        expires_after: Default::default(),
        annotations: Default::default(),
        member: String::new(),
        queue: Some(format!("sub:{name}")),
        subscribers: if dark_since_ms.is_none() { vec![subscriber] } else { Vec::new() },
        consumers: u32::from(dark_since_ms.is_none()),
        dark_since: dark_since_ms.map(Timestamp),
        messages_ready: ready,
        messages_unacknowledged: 0,
        published_total: 0,
        delivered_total: 0,
        accepted_total: 0,
        oldest_ready: None,
        oldest_unacknowledged: None,
        retention: Default::default(),
        messages_retained: 0,
        fault: None,
    }
}

/// A shop: two producers, orders and a log, two queues with workers, a subscription that is there and one that is dark.
fn shop(tick: u64) -> Look {
    Look {
        at_ms: NOW_MS + 1000 * tick,
        exchanges: vec![
            exchange("", "direct", 0),
            exchange("amq.topic", "topic", 0),
            exchange("orders", "topic", 1000 + 30 * tick),
            exchange("log", "fanout", 50 + 2 * tick),
        ],
        queues: vec![
            queue("eu", 12, 400 + 20 * tick, 388 + 20 * tick),
            queue("audit", 1500, 1050 + 32 * tick, 0),
            queue("sub:billing", 340, 340 + 7 * tick, 0),
            queue("sub:till", 0, 90 + 3 * tick, 90 + 3 * tick),
        ],
        bindings: vec![
            binding("orders", "*.eu", "eu"),
            binding("orders", "order.#", "eu"),
            binding("orders", "#", "audit"),
            binding("log", "", "audit"),
            binding("orders", "*.paid", "sub:billing"),
            binding("orders", "*.paid.cash", "sub:till"),
        ],
        connections: vec![
            connection(3, "shop", &[("orders", 900 + 30 * tick), ("log", 50 + 2 * tick)]),
            connection(4, "shop 2", &[("orders", 100)]),
            connection(7, "worker", &[]),
            connection(8, "worker", &[]),
            connection(9, "till 3", &[]),
            connection(11, "somebody", &[]),
        ],
        consumers: vec![
            consumer("eu", 7, "a", 300 + 15 * tick),
            consumer("eu", 8, "b", 88 + 5 * tick),
            consumer("sub:till", 9, "till", 90 + 3 * tick),
        ],
        subscriptions: vec![
            subscription("billing", 340, Some(NOW_MS - 200_000)),
            subscription("till", 0, None),
        ],
    }
}

fn everything() -> Scope {
    Scope { exchanges: Vec::new(), queues: Vec::new(), limit: 50 }
}

fn seen(look: fn(u64) -> Look, scope: &Scope) -> Picture {
    build("/", scope, &look(0), &look(1), 1000)
}

/// Names that want to be more than names.
const HOSTILE: [&str; 6] = [
    "\"]; </text><script>alert(1)</script>&|`#",
    "line\nbreak\ttab\u{1b}[31mred\u{0}",
    "日本語の長い名前のキュー日本語",
    "שלום \u{202e}evil\u{2066}",
    "e\u{301}\u{301}\u{301}\u{200b}",
    "--> n0 %% click",
];

fn hostile(tick: u64) -> Look {
    let long = "ü".repeat(127);
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    let each = names.iter().enumerate();
    let published: Vec<(&str, u64)> = names.iter().map(|name| (*name, 10 * tick)).collect();
    Look {
        at_ms: NOW_MS,
        exchanges: names.iter().map(|name| exchange(name, "topic", 10 * tick)).collect(),
        queues: names.iter().map(|name| queue(name, 1, 10 * tick, 10 * tick)).collect(),
        bindings: names.iter().map(|name| binding(name, name, name)).collect(),
        connections: each.map(|(id, name)| connection(id as u64 + 1, name, &published[id..=id])).collect(),
        consumers: names.iter().map(|name| consumer(name, 1, name, 10 * tick)).collect(),
        subscriptions: Vec::new(),
    }
}

fn check(file: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == drawn, "{}: `{UPDATE}=1` writes it anew; drawn is\n{drawn}", path.display());
}

fn text(picture: &Picture, columns: usize) -> String {
    boxes::draw(picture, columns).canvas.to_text(Terminal::none())
}

#[test]
fn a_shop_is_drawn_in_every_way() {
    let picture = seen(shop, &everything());
    check("tests/draw/shop-80.txt", &text(&picture, 80));
    check("tests/draw/shop-200.txt", &text(&picture, 200));
    check("docs/draw.svg", &svg::render(&picture));
    check("tests/draw/shop.mmd", &mermaid::render(&picture));
    check("tests/draw/shop.json", &(output::json_text(&json::render(&picture)) + "\n"));
}

#[test]
fn the_page_shows_what_is_drawn() {
    let picture = seen(shop, &everything());
    let page = include_str!("../../../docs/DRAW.md");
    for drawn in [text(&picture, 80), mermaid::render(&picture)] {
        assert!(page.contains(&drawn), "docs/DRAW.md does not show\n{drawn}");
    }
}

#[test]
fn no_name_is_more_than_a_name() {
    let picture = seen(hostile, &everything());
    let (narrow, file, chart) = (text(&picture, 80), svg::render(&picture), mermaid::render(&picture));
    check("tests/draw/hostile-80.txt", &narrow);
    check("tests/draw/hostile.svg", &file);
    check("tests/draw/hostile.mmd", &chart);
    for drawn in [&narrow, &file, &chart] {
        let bad: Vec<char> = drawn.chars().filter(|c| *c != '\n' && is_treacherous(*c)).collect();
        assert_eq!(bad, [], "{drawn}");
    }
    assert!(narrow.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) <= 80), "{narrow}");
    assert!(!file.contains("<script") && !chart.contains("<script"));
    let quotes = chart.lines().map(|line| line.matches('"').count());
    assert!(quotes.into_iter().all(|quotes| quotes == 0 || quotes == 2), "{chart}");
}

#[test]
fn the_same_broker_gives_the_same_picture_in_whatever_order_it_lists() {
    let backwards = |tick| {
        let mut look = shop(tick);
        look.exchanges.reverse();
        look.queues.reverse();
        look.bindings.reverse();
        look.connections.reverse();
        look.consumers.reverse();
        look.subscriptions.reverse();
        look
    };
    let picture = build("/", &everything(), &backwards(0), &backwards(1), 1000);
    assert_eq!(picture, seen(shop, &everything()));
}

fn flow(picture: &Picture, from: &str, to: &str) -> Flow {
    let is = |node: usize, name: &str| picture.nodes[node].name == name;
    picture.edges.iter().find(|edge| is(edge.from, from) && is(edge.to, to)).unwrap().flow
}

#[test]
fn what_moves_is_what_was_counted() {
    let picture = seen(shop, &everything());
    assert_eq!(flow(&picture, "shop", "orders"), Flow::exactly(30));
    assert_eq!(flow(&picture, "shop 2", "orders"), Flow::exactly(0));
    assert_eq!(flow(&picture, "orders", "eu"), Flow::exactly(20));
    assert_eq!(flow(&picture, "orders", "audit"), Flow::exactly(30));
    assert_eq!(flow(&picture, "log", "audit"), Flow::exactly(2));
    assert_eq!(flow(&picture, "sub:till", "till"), Flow::exactly(3));
    assert_eq!(flow(&picture, "sub:billing", "billing"), Flow::exactly(0));
    let still = build("/", &everything(), &shop(1), &shop(1), 1000);
    assert!(still.edges.iter().all(|edge| edge.flow.least == 0));
}

#[test]
fn the_default_exchange_is_drawn_when_it_is_used_and_leads_to_what_nothing_else_leads_to() {
    let look = |total| Look {
        exchanges: vec![exchange("", "direct", total), exchange("orders", "topic", 0)],
        queues: vec![queue("hello", 0, total, 0), queue("eu", 0, 0, 0)],
        bindings: vec![binding("orders", "#", "eu")],
        connections: vec![connection(3, "shop", &[("", total)][..usize::from(total > 0)])],
        ..Look::default()
    };
    let names = |picture: &Picture| -> Vec<String> {
        picture.layer(Layer::Exchanges).map(|node| picture.nodes[node].name.clone()).collect()
    };
    let unused = build("/", &everything(), &look(0), &look(0), 1000);
    assert_eq!(
        (names(&unused), unused.edges.len(), unused.idle_connections),
        (vec!["orders".to_owned()], 1, 1)
    );
    let used = build("/", &everything(), &look(0), &look(5), 1000);
    assert_eq!(names(&used), ["", "orders"]);
    assert_eq!(flow(&used, "", "hello"), Flow::exactly(5));
    assert_eq!(flow(&used, "orders", "eu"), Flow::exactly(0));
}

#[test]
fn of_ten_thousand_queues_the_busiest_are_drawn_and_the_others_counted() {
    let look = |tick: u64| Look {
        exchanges: vec![exchange("all", "fanout", 0)],
        queues: (0..10_000)
            .map(|n| queue(&format!("q{n:05}"), n % 7, if n % 250 == 0 { tick } else { 0 }, 0))
            .collect(),
        bindings: (0..10_000).map(|n| binding("all", "", &format!("q{n:05}"))).collect(),
        ..Look::default()
    };
    let picture = build("/", &everything(), &look(0), &look(1), 1000);
    let drawn: Vec<&str> =
        picture.layer(Layer::Queues).map(|node| picture.nodes[node].name.as_str()).collect();
    assert_eq!((drawn.len(), drawn[0], picture.omitted), (50, "q00000", [0, 0, 9950, 0]));
    let busy = picture.nodes.iter().filter(|node| node.came > 0).count();
    assert_eq!(busy, 40, "the 40 in which something moves come first");
    let fullest = |node: &&super::picture::Node| matches!(node.what, What::Queue { ready: 6, .. });
    assert!(picture.nodes.iter().filter(fullest).count() >= 10, "then those in which most waits");
    assert!(text(&picture, 80).contains("and 9,950 more queues"));
    assert!(mermaid::render(&picture).contains("and 9,950 more queues"));
    assert!(svg::render(&picture).contains("and 9,950 more queues"));
    assert_eq!(json::render(&picture)["omitted"]["queues"], 9950);
}

#[test]
fn filters_keep_what_belongs_to_a_name() {
    let names = |scope: &Scope| -> Vec<String> {
        seen(shop, scope).nodes.into_iter().map(|node| node.name).collect()
    };
    let only_log = Scope { exchanges: vec!["lo*".to_owned()], ..everything() };
    assert_eq!(names(&only_log), ["shop", "log", "audit"]);
    let only_subscribed = Scope { queues: vec!["sub:*".to_owned()], ..everything() };
    assert_eq!(
        names(&only_subscribed),
        ["shop", "shop 2", "orders", "sub:billing", "sub:till", "billing", "till"]
    );
    let nothing = Scope { queues: vec!["orders".to_owned()], ..everything() };
    assert_eq!(names(&nothing), Vec::<String>::new());
    let picture = seen(shop, &nothing);
    assert!(text(&picture, 80).contains("0 exchanges"), "{}", text(&picture, 80));
}

#[test]
fn what_cannot_be_drawn_as_a_line_is_told() {
    let look = |_| {
        let mut look = shop(1);
        look.bindings.push(Binding {
            destination: Destination::Exchange("log".to_owned()),
            ..binding("orders", "*.audit", "")
        });
        look
    };
    let picture = seen(look, &everything());
    assert!(text(&picture, 80).contains("also: orders ─ *.audit ─▶ log"), "{}", text(&picture, 80));
    assert_eq!(flow(&picture, "orders", "log"), Flow { least: 0, most: 0 });
    // Ten exchanges that lead to the same ten queues: more lines than lanes, and more ways into a queue than rows.
    let crossed = |_| Look {
        exchanges: (0..10).map(|n| exchange(&format!("e{n}"), "fanout", 0)).collect(),
        queues: (0..10).map(|n| queue(&format!("q{n}"), 0, 0, 0)).collect(),
        bindings: (0..100).map(|n| binding(&format!("e{}", n / 10), "", &format!("q{}", n % 10))).collect(),
        ..Look::default()
    };
    let picture = seen(crossed, &everything());
    let drawing = boxes::draw(&picture, 80);
    let lines = drawing.paths.iter().filter(|path| !path.is_empty()).count();
    let text = drawing.canvas.to_text(Terminal::none());
    assert_eq!(text.matches("also: ").count(), 8, "{text}");
    assert!(text.contains(&format!("and {} more lines", 100 - lines - 8)), "{text}");
}

#[test]
fn a_picture_of_nothing_is_one() {
    let picture = seen(|_| Look::default(), &everything());
    assert_eq!(words::summary(&picture), "vhost /: 0 producers, 0 exchanges, 0 queues, 0 consumers");
    assert!(text(&picture, 1).contains("0 queues"));
    assert!(svg::render(&picture).ends_with("</svg>\n"));
    assert!(mermaid::render(&picture).starts_with("flowchart LR\n"));
}
