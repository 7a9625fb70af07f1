//! What is drawn, whoever draws it: nodes in four layers, and edges between them.

/// The architecture of a virtual host between two looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    /// The virtual host.
    pub(super) vhost: String,
    /// Time between the two looks that the flows were counted in, in milliseconds; at least 1.
    pub(super) interval_ms: u64,
    /// When the second look was, in milliseconds since 1970.
    pub(super) now_ms: u64,
    /// In order of layers; within a layer neighbours of the same node stand together.
    pub(super) nodes: Vec<Node>,
    /// By the nodes that they come from, then by those that they go to.
    pub(super) edges: Vec<Edge>,
    /// Nodes that are there and not drawn, by layer: the least busy ones.
    pub(super) omitted: [usize; LAYERS],
    /// Connections that neither published nor consume.
    pub(super) idle_connections: usize,
}

/// How many layers there are.
pub(super) const LAYERS: usize = 4;

/// Where a node stands: messages travel from the first layer to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// Connections that publish.
    Producers,
    /// Exchanges.
    Exchanges,
    /// Queues.
    Queues,
    /// Durable subscriptions, and consumers that belong to none.
    Readers,
}

impl Layer {
    /// All of them, in order.
    pub(super) const ALL: [Layer; LAYERS] =
        [Layer::Producers, Layer::Exchanges, Layer::Queues, Layer::Readers];

    /// Its place among [`Layer::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// What its nodes are called.
    pub(super) fn words(self) -> &'static str {
        match self {
            Layer::Producers => "producers",
            Layer::Exchanges => "exchanges",
            Layer::Queues => "queues",
            Layer::Readers => "consumers",
        }
    }
}

/// Something that messages come from, go through or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name, as it is: whoever draws it escapes it.
    pub(super) name: String,
    /// What it is.
    pub(super) what: What,
    /// Messages that came in, as its own counter tells, between the looks.
    pub(super) came: u64,
    /// Messages that went out in that time. Of an exchange nobody counts them.
    pub(super) went: u64,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A connection that has published.
    Producer {
        /// Its number.
        connection: u64,
        /// Who is logged in, and from where.
        peer: String,
        /// Why it has to wait, if it has to.
        blocked: Option<String>,
    },
    /// An exchange.
    Exchange {
        /// How it routes.
        kind: String,
        /// Messages that it refused since the broker was started.
        refused: u64,
    },
    /// A queue.
    Queue {
        /// Messages that wait.
        ready: u64,
        /// Messages that consumers have and did not settle.
        unacknowledged: u64,
        /// Why it hands out nothing, if so.
        fault: Option<String>,
    },
    /// A durable subscription's place at its queue.
    Subscription {
        /// Whose queue it is; "" if it is shared.
        member: String,
        /// Who is there.
        consumers: Vec<String>,
        /// Messages that wait for it.
        ready: u64,
        /// Since when nobody is there, in milliseconds since 1970.
        dark_since_ms: Option<u64>,
    },
    /// A consumer.
    Consumer {
        /// The number of its connection.
        connection: u64,
        /// Its name.
        tag: String,
        /// Messages that it has not settled.
        unacknowledged: u64,
    },
}

impl Node {
    /// Where it stands.
    pub(super) fn layer(&self) -> Layer {
        match self.what {
            What::Producer { .. } => Layer::Producers,
            What::Exchange { .. } => Layer::Exchanges,
            What::Queue { .. } => Layer::Queues,
            What::Subscription { .. } | What::Consumer { .. } => Layer::Readers,
        }
    }

    /// Whether it is a subscription that nobody is there for.
    pub(super) fn is_dark(&self) -> bool {
        matches!(self.what, What::Subscription { dark_since_ms: Some(_), .. })
    }

    /// Whether something is wrong with it.
    pub(super) fn is_troubled(&self) -> bool {
        matches!(self.what, What::Queue { fault: Some(_), .. } | What::Producer { blocked: Some(_), .. })
    }
}

/// A way that messages take from a node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// Number of the node that they come from.
    pub(super) from: usize,
    /// Number of the node that they go to.
    pub(super) to: usize,
    /// What bindings say that lead along here; in order, each once.
    pub(super) labels: Vec<String>,
    /// What moved along it between the looks.
    pub(super) flow: Flow,
}

/// How many messages took a way, as far as the counters at its ends tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    /// So many at least.
    pub(super) least: u64,
    /// So many at most.
    pub(super) most: u64,
}

impl Flow {
    /// As a counter tells it.
    pub(super) fn exactly(messages: u64) -> Self {
        Self { least: messages, most: messages }
    }
}

impl Picture {
    /// Numbers of the nodes in a layer.
    pub(super) fn layer(&self, layer: Layer) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.layer() == layer).map(|(index, _)| index)
    }
}
