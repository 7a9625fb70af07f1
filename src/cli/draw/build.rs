//! From two looks at a broker to the picture: which nodes, in which order, and what moved between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::counted::Counted;
use super::flow;
use super::lines::{Lines, Names};
use super::look::Look;
use super::picture::{Edge, Flow, LAYERS, Layer, Node, Picture, What};
use super::scope::Scope;
use crate::client::{
    ConnectionEntry, ConsumerEntry, ExchangeEntry, QueueEntry, Subscriber, SubscriptionEntry,
};

/// The picture of what two looks saw, `interval_ms` apart. The same looks give the same picture, in whatever order their lists
/// are.
pub(super) fn build(vhost: &str, scope: &Scope, before: &Look, now: &Look, interval_ms: u64) -> Picture {
    let counted = Counted::between(before, now);
    let lines = Lines::of(now);
    let names = lines.within(scope, now);
    let world = World { vhost, scope, now, counted: &counted, lines: &lines, names: &names };
    let mut layout = Layout { nodes: Vec::new(), places: HashMap::new(), omitted: [0; LAYERS] };
    // A layer is in the order of the layer that it belongs to, so that their lines cross little.
    let (producers, exchanges, queues) = (world.producers(), world.exchanges(), world.queues());
    let exchanges = layout.chosen(Layer::Exchanges, exchanges, scope.limit);
    let order: HashMap<&str, usize> = exchanges
        .iter()
        .enumerate()
        .filter_map(|(place, found)| Some((found.key.exchange()?, place)))
        .collect();
    let near = |mut names: Vec<&str>| {
        names.retain(|name| order.contains_key(name));
        names.iter().map(|name| order[name]).min().unwrap_or(usize::MAX)
    };
    let mut producers = layout.chosen(Layer::Producers, producers, scope.limit);
    producers.sort_by_cached_key(|found| (near(world.published_to(found.key)), found.rank()));
    let mut queues = layout.chosen(Layer::Queues, queues, scope.limit);
    let sources = world.sources();
    queues.sort_by_cached_key(|found| {
        let sources = found.key.queue().and_then(|queue| sources.get(queue)).cloned().unwrap_or_default();
        (near(sources), found.rank())
    });
    let order: HashMap<&str, usize> =
        queues.iter().enumerate().filter_map(|(place, found)| Some((found.key.queue()?, place))).collect();
    let all_readers = world.readers();
    let count = all_readers.len();
    let near = |key: Key<'_>| key.read_queue().map_or(Some(usize::MAX), |queue| order.get(queue).copied());
    let drawn = all_readers.into_iter().filter(|found| near(found.key).is_some()).collect();
    let mut readers = layout.chosen(Layer::Readers, drawn, scope.limit);
    readers.sort_by_cached_key(|found| (near(found.key), found.rank()));
    layout.omitted[Layer::Readers.index()] = count - readers.len();
    for layer in [producers, exchanges, queues, readers] {
        layout.place(layer);
    }
    let edges = world.edges(&layout);
    Picture {
        vhost: vhost.to_owned(),
        interval_ms: interval_ms.max(1),
        now_ms: now.at_ms,
        nodes: layout.nodes,
        edges,
        omitted: layout.omitted,
        idle_connections: world.idle_connections(),
    }
}

/// What a node is of, while the picture is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key<'a> {
    Producer(u64),
    Exchange(&'a str),
    Queue(&'a str),
    /// By name, member, and the queue, if there is one.
    Subscription(&'a str, &'a str, Option<&'a str>),
    /// By queue, connection, channel and tag.
    Consumer(&'a str, u64, u32, &'a str),
}

impl<'a> Key<'a> {
    fn exchange(self) -> Option<&'a str> {
        if let Key::Exchange(name) = self { Some(name) } else { None }
    }

    fn queue(self) -> Option<&'a str> {
        if let Key::Queue(name) = self { Some(name) } else { None }
    }

    fn read_queue(self) -> Option<&'a str> {
        match self {
            Key::Subscription(_, _, queue) => queue,
            Key::Consumer(queue, ..) => Some(queue),
            _ => None,
        }
    }
}

struct Found<'a> {
    key: Key<'a>,
    node: Node,
}

impl Found<'_> {
    /// Among those that stand at the same place.
    fn rank(&self) -> (String, Vec<u8>) {
        (self.node.name.clone(), format!("{:?}", self.key).into_bytes())
    }

    /// How much there is to see: what moves, then what waits.
    fn business(&self) -> (u64, u64) {
        let waits = match &self.node.what {
            What::Queue { ready, unacknowledged, .. } => ready.saturating_add(*unacknowledged),
            What::Subscription { ready, .. } => *ready,
            What::Consumer { unacknowledged, .. } => *unacknowledged,
            What::Producer { .. } | What::Exchange { .. } => 0,
        };
        (self.node.came.saturating_add(self.node.went), waits)
    }
}

struct Layout<'a> {
    nodes: Vec<Node>,
    places: HashMap<Key<'a>, usize>,
    omitted: [usize; LAYERS],
}

impl<'a> Layout<'a> {
    /// The busiest ones, in order of name.
    fn chosen(&mut self, layer: Layer, mut all: Vec<Found<'a>>, limit: usize) -> Vec<Found<'a>> {
        if all.len() > limit {
            self.omitted[layer.index()] = all.len() - limit;
            all.sort_by_cached_key(|found| (Reverse(found.business()), found.rank()));
            all.truncate(limit);
        }
        all.sort_by_cached_key(Found::rank);
        all
    }

    fn place(&mut self, layer: Vec<Found<'a>>) {
        for Found { key, node } in layer {
            self.places.insert(key, self.nodes.len());
            self.nodes.push(node);
        }
    }

    fn at(&self, key: Key<'a>) -> Option<usize> {
        self.places.get(&key).copied()
    }
}

/// All that is known.
struct World<'w, 'a> {
    vhost: &'w str,
    scope: &'w Scope,
    now: &'a Look,
    counted: &'w Counted<'a>,
    lines: &'w Lines<'a>,
    names: &'w Names<'a>,
}

impl<'a> World<'_, 'a> {
    fn connections(&self) -> impl Iterator<Item = &'a ConnectionEntry> {
        self.now.connections.iter().filter(|connection| connection.vhost == self.vhost)
    }

    fn producers(&self) -> Vec<Found<'a>> {
        let is_narrow = !self.scope.exchanges.is_empty() || !self.scope.queues.is_empty();
        let producers = self.connections().filter(|connection| {
            let mut published = connection.published.iter();
            match is_narrow {
                true => published.any(|published| self.names.exchanges.contains(published.exchange.as_str())),
                false => has_published(connection),
            }
        });
        producers.map(|connection| self.producer(connection)).collect()
    }

    fn producer(&self, connection: &'a ConnectionEntry) -> Found<'a> {
        let went = connection.published.iter();
        let went = went.map(|published| self.counted.published(connection.id, &published.exchange));
        let went = went.fold(self.counted.published_elsewhere(connection.id), u64::saturating_add);
        let what = What::Producer {
            connection: connection.id,
            peer: format!("{}@{}", connection.user, connection.peer),
            blocked: connection.blocked.clone(),
        };
        let name = name_of(&connection.name, &connection.peer);
        Found { key: Key::Producer(connection.id), node: Node { name, what, came: 0, went } }
    }

    fn published_to(&self, key: Key<'a>) -> Vec<&'a str> {
        let Key::Producer(id) = key else { return Vec::new() };
        let connection = self.now.connections.iter().find(|connection| connection.id == id);
        connection
            .iter()
            .flat_map(|connection| &connection.published)
            .map(|to| to.exchange.as_str())
            .collect()
    }

    fn exchanges(&self) -> Vec<Found<'a>> {
        let drawn =
            self.now.exchanges.iter().filter(|entry| self.names.exchanges.contains(entry.name.as_str()));
        let found = drawn.map(|entry: &ExchangeEntry| Found {
            key: Key::Exchange(&entry.name),
            node: Node {
                name: entry.name.clone(),
                what: What::Exchange {
                    kind: entry.kind.clone(),
                    refused: entry.refused_total.saturating_add(entry.unfit_total),
                },
                came: self.counted.exchanges.get(entry.name.as_str()).copied().unwrap_or(0),
                went: 0,
            },
        });
        found.collect()
    }

    fn queues(&self) -> Vec<Found<'a>> {
        let drawn = self.now.queues.iter().filter(|entry| self.names.queues.contains(entry.name.as_str()));
        let found = drawn.map(|entry: &QueueEntry| {
            let (came, went) = self.counted.queue(&entry.name);
            let what = What::Queue {
                ready: entry.messages_ready,
                unacknowledged: entry.messages_unacknowledged,
                fault: entry.fault.clone(),
            };
            Found { key: Key::Queue(&entry.name), node: Node { name: entry.name.clone(), what, came, went } }
        });
        found.collect()
    }

    /// Exchanges that are drawn and lead to each queue.
    fn sources(&self) -> HashMap<&'a str, Vec<&'a str>> {
        let mut sources: HashMap<&str, Vec<&str>> = HashMap::new();
        self.lines.into.keys().for_each(|(from, queue)| sources.entry(queue).or_default().push(from));
        sources
    }

    fn readers(&self) -> Vec<Found<'a>> {
        let has_queue = |queue: &str| self.names.queues.contains(queue);
        let is_whole = self.scope.exchanges.is_empty() && self.scope.queues.is_empty();
        let subscriptions = self.now.subscriptions.iter();
        let subscribed: BTreeSet<&str> =
            subscriptions.clone().filter_map(|entry| entry.queue.as_deref()).collect();
        let subscriptions = subscriptions.filter(|entry| entry.queue.as_deref().map_or(is_whole, has_queue));
        let consumers =
            self.now.consumers.iter().filter(|entry| {
                has_queue(entry.queue.as_str()) && !subscribed.contains(entry.queue.as_str())
            });
        let names: HashMap<u64, &ConnectionEntry> =
            self.now.connections.iter().map(|connection| (connection.id, connection)).collect();
        let mut went: HashMap<&str, u64> = HashMap::new();
        for entry in &self.now.consumers {
            let sum = went.entry(&entry.queue).or_default();
            *sum = sum.saturating_add(self.counted.consumed(entry));
        }
        let subscriptions = subscriptions.map(|entry| subscription(entry, &went));
        let consumers = consumers.map(|entry| self.consumer(entry, &names));
        subscriptions.chain(consumers).collect()
    }

    fn consumer(&self, entry: &'a ConsumerEntry, names: &HashMap<u64, &ConnectionEntry>) -> Found<'a> {
        let name = match names.get(&entry.connection_id) {
            Some(connection) => name_of(&connection.name, &connection.peer),
            None => format!("connection {}", entry.connection_id),
        };
        let what = What::Consumer {
            connection: entry.connection_id,
            tag: entry.tag.clone(),
            unacknowledged: entry.messages_unacknowledged,
        };
        Found {
            key: Key::Consumer(&entry.queue, entry.connection_id, entry.channel, &entry.tag),
            node: Node { name, what, came: self.counted.consumed(entry), went: 0 },
        }
    }

    /// Connections that have no part in the picture.
    fn idle_connections(&self) -> usize {
        let consuming: BTreeSet<u64> =
            self.now.consumers.iter().map(|consumer| consumer.connection_id).collect();
        let idle = self.connections();
        idle.filter(|connection| !has_published(connection) && !consuming.contains(&connection.id)).count()
    }

    fn edges(&self, layout: &Layout<'a>) -> Vec<Edge> {
        let mut edges = BTreeMap::new();
        let mut connect = |from: Key<'a>, to: Key<'a>, labels: &BTreeSet<String>, flow: Flow| {
            if let (Some(from), Some(to)) = (layout.at(from), layout.at(to)) {
                let labels = labels.iter().cloned().collect();
                edges.insert((from, to), Edge { from, to, labels, flow });
            }
        };
        let unlabelled = BTreeSet::new();
        for connection in self.connections() {
            for published in &connection.published {
                let flow = Flow::exactly(self.counted.published(connection.id, &published.exchange));
                connect(Key::Producer(connection.id), Key::Exchange(&published.exchange), &unlabelled, flow);
            }
        }
        let between = self.lines.between.keys().copied().collect();
        let passed_on = flow::passed_on(&self.counted.exchanges, &between);
        let passed = |exchange: &str| passed_on.get(exchange).copied().unwrap_or(0);
        for ((from, to), labels) in &self.lines.between {
            let flow = Flow { least: 0, most: passed(from) };
            connect(Key::Exchange(from), Key::Exchange(to), labels, flow);
        }
        // The default exchange leads to every queue, whether that is drawn or not.
        let mut into: HashMap<&str, u64> = HashMap::new();
        for (from, queue) in self.lines.into.keys().filter(|(from, _)| !from.is_empty()) {
            let sum = into.entry(queue).or_default();
            *sum = sum.saturating_add(passed(from));
        }
        for ((from, queue), labels) in &self.lines.into {
            let from_all = into.get(queue).copied().unwrap_or(0).saturating_add(passed(""));
            let flow = flow::share(self.counted.queue(queue).0, passed(from), from_all);
            connect(Key::Exchange(from), Key::Queue(queue), labels, flow);
        }
        for (key, place) in &layout.places {
            if let Some(queue) = key.read_queue() {
                connect(Key::Queue(queue), *key, &unlabelled, Flow::exactly(layout.nodes[*place].came));
            }
        }
        edges.into_values().collect()
    }
}

fn subscription<'a>(entry: &'a SubscriptionEntry, went: &HashMap<&str, u64>) -> Found<'a> {
    let queue = entry.queue.as_deref();
    let named = |subscriber: &Subscriber| match name_of(&subscriber.connection_name, &subscriber.peer) {
        name if name.is_empty() => format!("connection {}", subscriber.connection_id),
        name => name,
    };
    let what = What::Subscription {
        member: entry.member.clone(),
        consumers: entry.subscribers.iter().map(named).collect(),
        ready: entry.messages_ready,
        dark_since_ms: entry.dark_since.map(|since| since.0),
    };
    let came = queue.and_then(|queue| went.get(queue)).copied().unwrap_or(0);
    Found {
        key: Key::Subscription(&entry.name, &entry.member, queue),
        node: Node { name: entry.name.clone(), what, came, went: 0 },
    }
}

fn has_published(connection: &ConnectionEntry) -> bool {
    !connection.published.is_empty() || connection.published_elsewhere_total > 0
}

fn name_of(name: &str, peer: &str) -> String {
    if name.is_empty() { peer } else { name }.to_owned()
}
