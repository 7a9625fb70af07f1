//! What a broker tells about itself, and users.

use std::collections::BTreeMap;

use super::topology::Binding;
use crate::model::{FieldTable, Timestamp};

/// An exchange, as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeEntry {
    /// Its name; "" is the default exchange.
    pub name: String,
    /// "direct", "fanout", "topic", "headers", "x-consistent-hash", "x-modulus-hash", "x-random", "x-recent-history", or what a newer server knows besides.
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last binding as a source goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// Bindings with this exchange as their source.
    pub bindings: u64,
    /// Messages refused for a key that it does not allow, since the broker was started.
    pub refused_total: u64,
    /// Messages since then that did not fit the schema that it has for their key.
    pub unfit_total: u64,
    /// Its schemas, in their order, each with the messages of these that did not fit it.
    pub schemas: Vec<SchemaEntry>,
    /// Messages refused since then of which its quarantine queue has no copy, since there was no such queue.
    pub unkept_total: u64,
    /// Messages that were published to it and taken, since the broker was started; those that other exchanges lead here
    /// are not counted.
    pub published_total: u64,
    /// Name of the policy that holds for it.
    pub policy: Option<String>,
    /// Name of the operators' policy that does.
    pub operator_policy: Option<String>,
    /// Where messages go that no binding matches, by its declaration or by the policy.
    pub alternate_exchange: Option<String>,
    /// Messages that it keeps for what is bound later.
    pub history_messages: u64,
    /// Their bytes, with what stands around them.
    pub history_bytes: u64,
    /// Messages that it did not keep since there was no room for them, since the broker was started.
    pub history_left_out_total: u64,
}

/// A schema of an exchange, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaEntry {
    /// The keys that it is for.
    pub pattern: String,
    /// "json", "protobuf", or what a newer server knows besides.
    pub kind: String,
    /// Messages under its keys that did not fit it, since the broker was started.
    pub unfit_total: u64,
}

/// A queue, as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueEntry {
    /// Its name.
    pub name: String,
    /// "classic", or what a newer server knows besides.
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// For one connection alone.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Its arguments.
    pub arguments: FieldTable,
    /// Messages that wait for a consumer.
    pub messages_ready: u64,
    /// Messages that consumers have not settled.
    pub messages_unacknowledged: u64,
    /// Consumers it has.
    pub consumers: u32,
    /// Messages that are held back until a later time: they count as neither ready nor unacknowledged.
    pub messages_delayed: u64,
    /// Bytes of ready and unacknowledged messages, properties and body as they are encoded.
    pub message_bytes: u64,
    /// Number of the shard that owns it.
    pub shard: u32,
    /// Messages that came in since the broker started.
    pub published_total: u64,
    /// Messages that went out since the broker started.
    pub delivered_total: u64,
    /// Messages that consumers accepted since the broker started.
    pub accepted_total: u64,
    /// Messages that consumers rejected since the broker started.
    pub rejected_total: u64,
    /// Messages that went because somebody emptied the queue, since the broker started.
    pub purged_total: u64,
    /// Messages that left with their delivery, to consumers that send no acknowledgements, since the broker started.
    pub no_ack_total: u64,
    /// Messages that were published elsewhere and then taken out, since the broker started.
    pub moved_total: u64,
    /// Messages that waited for longer than the queue lets them, since the broker started.
    pub expired_total: u64,
    /// Messages that newer ones left no room, since the broker started.
    pub max_length_total: u64,
    /// Messages that it had no room for and refused, since the broker started.
    pub refused_full_total: u64,
    /// Messages that came back more often than the queue lets them, since the broker started.
    pub delivery_limit_total: u64,
    /// Messages that were rejected, expired or had no room, and are kept until they are stored where dead letters go.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_letters_bytes: u64,
    /// Dead letters that are stored elsewhere, since the broker started.
    pub dead_lettered_total: u64,
    /// Dead letters that would have gone round in a circle, since the broker started.
    pub cycled_total: u64,
    /// When the oldest message that waits came, to the second; `None`: none waits, or it came while a version ran that did not
    /// note it.
    pub oldest_ready: Option<Timestamp>,
    /// When the oldest message that a consumer has came; `None` likewise.
    pub oldest_unacknowledged: Option<Timestamp>,
    /// Messages that consumers are done with and that the queue retains.
    pub messages_retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
    /// Why its shard does not work, if it does not: then its messages cannot be had, and the numbers may be wrong.
    pub fault: Option<String>,
    /// Name of the policy that holds for it.
    pub policy: Option<String>,
    /// Name of the operators' policy that does.
    pub operator_policy: Option<String>,
    /// Its arguments as they hold, those of the policies with them.
    pub effective: FieldTable,
}

/// A client connection, as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionEntry {
    /// Its number.
    pub id: u64,
    /// The name it gave itself.
    pub name: String,
    /// Who logged in.
    pub user: String,
    /// Where it works.
    pub vhost: String,
    /// Address and port of the client.
    pub peer: String,
    /// Product, version, platform, as the client stated them.
    pub client: BTreeMap<String, String>,
    /// Open channels.
    pub channels: u32,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Bytes that went to it.
    pub sent_bytes: u64,
    /// Why nothing that it publishes is taken now; `None` if it is.
    pub blocked: Option<String>,
    /// The exchanges to which it has published, by name, 64 at most.
    pub published: Vec<Published>,
    /// Messages that it has published to further exchanges.
    pub published_elsewhere_total: u64,
}

/// What a connection has published to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The exchange; "" is the default exchange.
    pub exchange: String,
    /// Messages that were taken since the connection was opened.
    pub messages_total: u64,
}

/// A consumer, as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerEntry {
    /// The queue it takes from.
    pub queue: String,
    /// Its name.
    pub tag: String,
    /// Number of its connection.
    pub connection_id: u64,
    /// Its channel.
    pub channel: u32,
    /// Unsettled messages at most; 0: no limit.
    pub prefetch: u32,
    /// Takes without acknowledging.
    pub no_ack: bool,
    /// The only one allowed.
    pub exclusive: bool,
    /// Messages it has not settled.
    pub messages_unacknowledged: u64,
    /// Messages that went to it since it began.
    pub delivered_total: u64,
    /// Those of a higher one come first.
    pub priority: i32,
    /// Of a queue with a single active consumer: whether it is this one. The others wait.
    pub active: Option<bool>,
}

/// A user, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// Name.
    pub name: String,
    /// May do everything.
    pub administrator: bool,
    /// Vhosts the user may open; administrators may open all.
    pub vhosts: Vec<String>,
    /// How much it may have.
    pub limits: UserLimits,
}

/// A vhost, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostEntry {
    /// Name.
    pub name: String,
    /// Queues in it.
    pub queues: u64,
    /// Exchanges in it.
    pub exchanges: u64,
    /// How much it may have.
    pub limits: VhostLimits,
    /// The queue that keeps what its exchanges refuse and that name none of their own.
    pub quarantine_queue: Option<String>,
    /// Messages refused, since that was said or the broker was started, of which there is no copy, since there is no such queue.
    pub unkept_total: u64,
    /// Replies that wait in no queue and were dropped, since their requesters did not read or gave no credit; since the broker was started.
    pub replies_dropped_total: u64,
}

/// How much a user may have at most, of all its connections together; `None`: there is no limit of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Connections, to all vhosts.
    pub max_connections: Option<u64>,
    /// Channels.
    pub max_channels: Option<u64>,
}

/// How much a vhost may have at most; `None`: there is no limit of this vhost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Connections.
    pub max_connections: Option<u64>,
    /// Queues of all kinds, those of subscriptions and exclusive ones, too.
    pub max_queues: Option<u64>,
    /// Bytes of messages that its queues hold, properties and body as they are encoded.
    pub max_bytes: Option<u64>,
}

/// New limits of a user; `None`: as it is. Connections and channels are counted to 4,294,967,295.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimitsChange {
    /// Of [`UserLimits::max_connections`].
    pub max_connections: Option<Option<u64>>,
    /// Of [`UserLimits::max_channels`].
    pub max_channels: Option<Option<u64>>,
}

/// New limits of a vhost; `None`: as it is. Connections and queues are counted to 4,294,967,295.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimitsChange {
    /// Of [`VhostLimits::max_connections`].
    pub max_connections: Option<Option<u64>>,
    /// Of [`VhostLimits::max_queues`].
    pub max_queues: Option<Option<u64>>,
    /// Of [`VhostLimits::max_bytes`].
    pub max_bytes: Option<Option<u64>>,
}

/// A user to make or replace.
#[derive(Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Name.
    pub name: String,
    /// 1 to 1,024 bytes; "" keeps the password of a user that exists.
    pub password: String,
    /// May do everything.
    pub administrator: bool,
    /// Vhosts the user may open.
    pub vhosts: Vec<String>,
}

/// What a user may do in a vhost, to exchanges and queues by their names.
///
/// Each pattern is a regular expression that is looked for anywhere in a name, of 1,024 bytes at most: `^` and `$` tie it to the
/// ends, `.*` matches every name, and "" none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// Who.
    pub user: String,
    /// Where; in [`Channel::put_permissions`](super::Channel::put_permissions) "" stands for the connection's vhost.
    pub vhost: String,
    /// What the user may make and delete.
    pub configure: String,
    /// Where the user may put messages in, or lead them to.
    pub write: String,
    /// Where the user may take messages out, or lead them on from.
    pub read: String,
}

/// Which routing keys a user may use with a topic exchange.
///
/// Patterns as in [`Permissions`], in which `{username}` and `{vhost}` stand for the names, letter by letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Who.
    pub user: String,
    /// Where; in [`Channel::put_topic_permissions`](super::Channel::put_topic_permissions) "" stands for the connection's vhost.
    pub vhost: String,
    /// The exchange, which need not be there.
    pub exchange: String,
    /// Keys to publish under.
    pub write: String,
    /// Keys to bind with.
    pub read: String,
}

/// What is to hold for queues and exchanges whose names match, beside what they were declared with.
///
/// One policy at most holds for each, that of the highest priority (of several the first by name), and one of operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// 1 to 255 bytes; unique among those of its kind in its vhost.
    pub name: String,
    /// Of operators: it bounds what declarations and other policies say.
    pub operator: bool,
    /// A regular expression of 1,024 bytes at most that is looked for anywhere in a name.
    pub pattern: String,
    /// "queues", "exchanges" or "all".
    pub applies_to: String,
    /// Of those that match the one of the highest priority holds.
    pub priority: i32,
    /// Arguments without the "x-" of their names, such as "max-length".
    pub definition: FieldTable,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser")
            .field("name", &self.name)
            .field("password", &"(hidden)")
            .field("administrator", &self.administrator)
            .field("vhosts", &self.vhosts)
            .finish()
    }
}

/// The whole way of a message through the exchanges, without publishing anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// In the order in which routing visits them; the first is the one asked for.
    pub exchanges: Vec<ExplainedExchange>,
    /// The queues the message would reach, each once.
    pub queues: Vec<String>,
    /// Bindings that were considered and are left out here.
    pub bindings_omitted: u64,
    /// Queues that the message would reach and that are left out here.
    pub queues_omitted: u64,
    /// Exchanges on its way that are left out here.
    pub exchanges_omitted: u64,
    /// What the first of the queues would do with it now: 1,000 at most.
    pub outlooks: Vec<QueueOutlook>,
}

/// What a queue would do with a message that came now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOutlook {
    /// The queue's name.
    pub queue: String,
    /// What becomes of the message; `None`: something that this version does not know.
    pub kind: Option<OutlookKind>,
    /// The same in a sentence about the queue, without its name.
    pub reason: String,
    /// Until when it would be held back.
    pub held_until: Option<Timestamp>,
    /// How many of those that wait would leave to make room for it.
    pub drops: u64,
    /// The exchange to which that goes that would leave or be refused, the message itself or others; `None`: it goes nowhere, or
    /// nothing does.
    pub dead_letter_exchange: Option<String>,
    /// With this key; `None`: each with its own.
    pub dead_letter_routing_key: Option<String>,
}

/// What becomes of a message in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutlookKind {
    /// A consumer, or who asked for a single message, has it at once.
    Taken,
    /// It waits.
    Waits,
    /// It is held back until a later time.
    HeldBack,
    /// It is not let in: the queue is full, its virtual host is, or it is out of service.
    Refused,
    /// It is let in, and leaves at once since there is no room.
    Dropped,
    /// It is let in, and leaves at once since its time is over.
    Expires,
}

impl OutlookKind {
    /// Its name, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Waits => "waits",
            Self::HeldBack => "held_back",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Expires => "expires",
        }
    }
}

/// What happens at one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedExchange {
    /// Name.
    pub name: String,
    /// How it routes.
    pub kind: String,
    /// Which exchange led here; `None` for the first.
    pub reached_from: Option<String>,
    /// It was reached as an alternate exchange.
    pub as_alternate: bool,
    /// Every binding considered.
    pub bindings: Vec<ExplainedBinding>,
    /// Where this exchange sends what nothing matches.
    pub alternate_exchange: Option<String>,
    /// Whether the alternate exchange was used, or why not, in a sentence.
    pub alternate_note: String,
    /// Why it does not take the message at all, in a sentence; `None` if it does.
    pub refused: Option<String>,
    /// Which of its schemas the message has to fit, and whether it does, in a sentence; `None` if it has none.
    pub schema: Option<String>,
}

/// One binding, and why it matched or not.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedBinding {
    /// The binding.
    pub binding: Binding,
    /// Whether it matched.
    pub matched: bool,
    /// Why, in a sentence.
    pub reason: String,
}
