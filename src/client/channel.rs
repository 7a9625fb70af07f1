//! A channel: requests, publishers and consumers in one order.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::admin::{
    ConnectionEntry, ConsumerEntry, ExchangeEntry, Explanation, NewUser, QueueEntry, UserEntry, VhostEntry,
};
use super::alteration::{Alteration, Altered, QueueAlteration, QueueAltered};
use super::connection::ConnectionHandle;
use super::consumer::{ConsumerBuilder, Got, Settler};
use super::convert::{
    Entry, binding_to_wire, exchange_to_wire, explanation_from_wire, kind_name, queue_declared_from_wire,
    queue_to_wire, table_to_wire,
};
use super::core::Core;
use super::error::{CloseReason, RequestError};
use super::message::Properties;
use super::publisher::PublisherBuilder;
use super::recorded::Change;
use super::request::{Answer, Effect, OnBreak, Reply};
use super::topology::{Binding, Exchange, Queue, QueueDeclared};
use crate::model::{FieldTable, NAME_BYTES_MAX, NameTooLong};
use crate::wire::pb::{self, frame::Body};

/// Pages of a listing, which a broken server must not lengthen without end.
const PAGES_MAX: usize = 100_000;

/// A channel of a connection. Clones share it; it closes when all clones, publishers and consumers are gone.
///
/// Requests can be under way together (for instance with `tokio::join!`); the server carries them out in the order in
/// which they were first polled. A refused request leaves the channel as it was.
#[derive(Clone)]
pub struct Channel(Arc<ChannelHandle>);

/// What applications hold, directly or through publishers and consumers.
pub(super) struct ChannelHandle {
    connection: Arc<ConnectionHandle>,
    number: u32,
}

impl ChannelHandle {
    pub(super) fn new(connection: Arc<ConnectionHandle>, number: u32) -> Arc<Self> {
        Arc::new(Self { connection, number })
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.connection.core
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for ChannelHandle {
    fn drop(&mut self) {
        // Nobody waits for the answer.
        let _ = self.connection.core.close_channel(self.number);
    }
}

/// Conditions for deleting a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteQueue {
    /// Refuse if it has consumers.
    pub if_unused: bool,
    /// Refuse if it has ready messages.
    pub if_empty: bool,
}

/// Conditions for deleting an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteExchange {
    /// Refuse if it has bindings as a source.
    pub if_unused: bool,
}

/// How to take one message out of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Get {
    /// It counts as accepted when the server sends it, and is lost if it does not arrive. Otherwise it is to be settled.
    pub no_ack: bool,
}

impl Channel {
    pub(super) fn new(channel: Arc<ChannelHandle>) -> Self {
        Self(channel)
    }

    /// Makes an exchange, or checks that the one there is equal. It is declared again after a reconnect.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn declare_exchange(&self, exchange: Exchange) -> Result<(), RequestError> {
        check_names([&exchange.name])?;
        let declare = exchange_to_wire(&exchange);
        let change = Change::ExchangeDeclared(declare.clone());
        self.change(Body::DeclareExchange(declare), change).await
    }

    /// Replaces what an exchange takes: of its list of keys, its schemas and its quarantine queue those that `alteration` names. Its
    /// bindings stay, and publishers are asked by the new ones from now on. Messages that wait and were published to it are held against
    /// new schemas first: if one does not fit, it is refused with 406 and nothing changes, unless that is forced.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn alter_exchange(&self, name: &str, alteration: Alteration) -> Result<Altered, RequestError> {
        check_names([&name.to_owned()])?;
        let alter = alteration.to_wire(name);
        let effect = match alteration.is_dry_run() {
            true => Effect::None,
            false => Effect::Record(Change::ExchangeAltered(alter.clone())),
        };
        match self.request(Body::AlterExchange(alter), OnBreak::Repeat, effect).await? {
            Body::ExchangeAltered(altered) => Ok(altered.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Checks that an exchange exists.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn check_exchange(&self, name: &str) -> Result<(), RequestError> {
        let declare = pb::DeclareExchange { name: name.to_owned(), passive: true, ..Default::default() };
        self.ask(Body::DeclareExchange(declare), OnBreak::Repeat).await.and_then(done)
    }

    /// Deletes an exchange; also fine if there is none.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn delete_exchange(&self, name: &str, conditions: DeleteExchange) -> Result<(), RequestError> {
        let DeleteExchange { if_unused } = conditions;
        let delete = pb::DeleteExchange { name: name.to_owned(), if_unused };
        self.change(Body::DeleteExchange(delete), Change::ExchangeDeleted(name.to_owned())).await
    }

    /// Makes a queue, or checks that the one there is equal. It is declared again after a reconnect.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it: not of the name either
    /// that the server gave it.
    pub async fn declare_queue(&self, queue: Queue) -> Result<QueueDeclared, RequestError> {
        check_names([&queue.name])?;
        let declare = queue_to_wire(&queue);
        // Twice the same is once, except that a queue without a name would be made twice.
        let on_break = if queue.name.is_empty() { OnBreak::Fail } else { OnBreak::Repeat };
        let effect = Effect::Record(Change::QueueDeclared(declare.clone()));
        queue_declared(self.request(Body::DeclareQueue(declare), on_break, effect).await?)
    }

    /// Changes arguments of a queue that is there, in one step; its messages, bindings and consumers stay. What waits is looked at anew:
    /// a shorter time or length drops at once what is beyond. What cannot be altered is refused with 406, which names all of it in
    /// [`Refusal::differences`](crate::model::Refusal::differences); nothing changes then.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn alter_queue(
        &self,
        name: &str,
        alteration: QueueAlteration,
    ) -> Result<QueueAltered, RequestError> {
        check_names([&name.to_owned()])?;
        let alter = alteration.to_wire(name);
        let effect = match alteration.is_dry_run() {
            true => Effect::None,
            false => Effect::Record(Change::QueueAltered(alter.clone())),
        };
        match self.request(Body::AlterQueue(alter), OnBreak::Repeat, effect).await? {
            Body::QueueAltered(altered) => Ok(altered.into()),
            other => Err(unexpected(&other)),
        }
    }

    /// Checks that a queue exists, and counts.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn check_queue(&self, name: &str) -> Result<QueueDeclared, RequestError> {
        let declare = pb::DeclareQueue { name: name.to_owned(), passive: true, ..Default::default() };
        queue_declared(self.ask(Body::DeclareQueue(declare), OnBreak::Repeat).await?)
    }

    /// Deletes a queue; how many ready messages went with it. Also fine if there is none.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn delete_queue(&self, name: &str, conditions: DeleteQueue) -> Result<u64, RequestError> {
        let DeleteQueue { if_unused, if_empty } = conditions;
        let delete = pb::DeleteQueue { name: name.to_owned(), if_unused, if_empty };
        let effect = Effect::Record(Change::QueueDeleted(name.to_owned()));
        message_count(self.request(Body::DeleteQueue(delete), OnBreak::Fail, effect).await?)
    }

    /// Drops the ready messages of a queue; how many there were.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn purge_queue(&self, name: &str) -> Result<u64, RequestError> {
        let purge = pb::PurgeQueue { name: name.to_owned() };
        message_count(self.ask(Body::PurgeQueue(purge), OnBreak::Fail).await?)
    }

    /// Adds a binding. It is made again after a reconnect.
    ///
    /// # Errors
    /// Among others 506: the exchange [keeps messages](super::ExchangeKind::RecentHistory) for what is bound, and some of them did not
    /// arrive. The binding is there then.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn bind(&self, binding: Binding) -> Result<(), RequestError> {
        check_names([&binding.routing_key])?;
        let binding = binding_to_wire(&binding);
        self.change(Body::Bind(pb::Bind { binding: Some(binding.clone()) }), Change::Bound(binding)).await
    }

    /// Removes a binding; also fine if there is none.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn unbind(&self, binding: Binding) -> Result<(), RequestError> {
        let binding = binding_to_wire(&binding);
        self.change(Body::Unbind(pb::Unbind { binding: Some(binding.clone()) }), Change::Unbound(binding))
            .await
    }

    /// Asks for one message; `None` if the queue has none ready.
    ///
    /// # Errors
    /// Among others [`RequestError::Disconnected`]: with [`Get::no_ack`] a message may be lost then.
    ///
    /// # Cancel safety
    /// Once it was polled a message may be on its way: it goes back to its queue, or is lost with [`Get::no_ack`].
    pub async fn get(&self, queue: &str, how: Get) -> Result<Option<Got>, RequestError> {
        let Get { no_ack } = how;
        let get = pb::Get { queue: queue.to_owned(), no_ack };
        let getter = self.0.core().getter(self.0.number)?;
        let answer = self.0.core().request(self.0.number, &Body::Get(get), OnBreak::Fail, Effect::None)?;
        let Reply { epoch, body } = Getting { answer, getter: getter.clone() }.reply().await?;
        match body {
            Body::Got(got) => Ok(Got::new(&getter, epoch, no_ack, got)),
            other => Err(unexpected(&other)),
        }
    }

    /// Bounds what all consumers of this channel have and have not settled, together: `prefetch` messages at most; 0: no bound. It holds
    /// for those that are there and those that come, beside [`ConsumerBuilder::prefetch`] of each: both hold. What consumers have
    /// when it is set counts, and may be more. What came by [`Channel::get`] does not count, nor what needs no settling.
    ///
    /// A consumer asks the server for as much as its own prefetch says and holds what has come until the application takes it: that
    /// counts, too. It is set again after a reconnect.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, and remembered for a reconnect, though nobody hears of it.
    pub async fn limit_prefetch(&self, prefetch: u32) -> Result<(), RequestError> {
        let body = Body::LimitPrefetch(pb::LimitPrefetch { prefetch });
        let effect = Effect::Prefetch { channel: self.0.number, prefetch };
        self.request(body, OnBreak::Repeat, effect).await.and_then(done)
    }

    /// A publisher of messages for an exchange ("" is the default exchange, which leads to the queue that the routing
    /// key names). Messages may have routing keys of their own.
    pub fn publisher(&self, exchange: &str, routing_key: &str) -> PublisherBuilder {
        PublisherBuilder::new(self.0.clone(), exchange, routing_key)
    }

    /// A consumer of a queue.
    pub fn consume(&self, queue: &str) -> ConsumerBuilder {
        ConsumerBuilder::new(self.0.clone(), queue)
    }

    /// All exchanges of the vhost, by name.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_exchanges(&self) -> Result<Vec<ExchangeEntry>, RequestError> {
        self.list("").await
    }

    /// All queues of the vhost, by name.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_queues(&self) -> Result<Vec<QueueEntry>, RequestError> {
        self.list("").await
    }

    /// One queue, if it exists.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn find_queue(&self, name: &str) -> Result<Option<QueueEntry>, RequestError> {
        let found: Vec<QueueEntry> = self.list(name).await?;
        Ok(found.into_iter().find(|queue| queue.name == name))
    }

    /// All bindings of the vhost.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_bindings(&self) -> Result<Vec<Binding>, RequestError> {
        self.list("").await
    }

    /// Client connections: of all vhosts for administrators, of the own user otherwise.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_connections(&self) -> Result<Vec<ConnectionEntry>, RequestError> {
        self.list("").await
    }

    /// Consumers of the vhost.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_consumers(&self) -> Result<Vec<ConsumerEntry>, RequestError> {
        self.list("").await
    }

    /// Users. Administrators only.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_users(&self) -> Result<Vec<UserEntry>, RequestError> {
        self.list("").await
    }

    /// Vhosts. Administrators only.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn list_vhosts(&self) -> Result<Vec<VhostEntry>, RequestError> {
        self.list("").await
    }

    /// Where would this message go? Nothing is published.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn explain(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: &FieldTable,
    ) -> Result<Explanation, RequestError> {
        let explain = pb::Explain {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            headers: table_to_wire(headers),
            ..pb::Explain::default()
        };
        self.ask_to_explain(explain).await
    }

    /// Where would this message go, and does its body fit the schema of the exchange? Nothing is published. Bodies of nearly
    /// 1 MiB can be asked about.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn explain_body(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: &FieldTable,
        body: impl Into<Bytes>,
    ) -> Result<Explanation, RequestError> {
        let explain = pb::Explain {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            headers: table_to_wire(headers),
            body: Some(body.into()),
            ..pb::Explain::default()
        };
        self.ask_to_explain(explain).await
    }

    /// Where would a message with these properties go, and what would become of it there? Of the properties those are asked about
    /// that exchanges and queues heed. Without a body it is not held against a schema, and taken to be empty by queues. Nothing is
    /// published.
    ///
    /// # Cancel safety
    /// The answer is thrown away.
    pub async fn explain_with(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: &Properties,
        body: Option<Bytes>,
    ) -> Result<Explanation, RequestError> {
        let explain = pb::Explain {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            headers: table_to_wire(&properties.headers),
            body,
            content_encoding: properties.content_encoding.clone(),
            priority: u32::from(properties.priority),
            expiration_ms: properties.expiration_ms,
            delay_ms: properties.delay_ms,
            deliver_at_ms: properties.deliver_at_ms,
        };
        self.ask_to_explain(explain).await
    }

    async fn ask_to_explain(&self, explain: pb::Explain) -> Result<Explanation, RequestError> {
        match self.ask(Body::Explain(explain), OnBreak::Repeat).await? {
            Body::Explanation(explanation) => explanation_from_wire(explanation)
                .map_err(|fault| RequestError::Invalid(format!("the server's answer: {fault}"))),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a user or replaces one. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_user(&self, user: NewUser) -> Result<(), RequestError> {
        let NewUser { name, password, administrator, vhosts } = user;
        let put = pb::PutUser { name, password, administrator, vhosts };
        self.ask(Body::PutUser(put), OnBreak::Repeat).await.and_then(done)
    }

    /// Deletes a user; also fine if there is none. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn delete_user(&self, name: &str) -> Result<(), RequestError> {
        let delete = pb::DeleteUser { name: name.to_owned() };
        self.ask(Body::DeleteUser(delete), OnBreak::Repeat).await.and_then(done)
    }

    /// Makes a vhost; also fine if it exists. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_vhost(&self, name: &str) -> Result<(), RequestError> {
        let put = pb::PutVhost { name: name.to_owned(), quarantine_queue: None };
        self.ask(Body::PutVhost(put), OnBreak::Repeat).await.and_then(done)
    }

    /// Makes a vhost, if it is not there, and says which queue keeps what exchanges of it refuse by their lists and schemas and that
    /// name none of their own; `None`: none does. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn put_vhost_quarantine(&self, name: &str, queue: Option<&str>) -> Result<(), RequestError> {
        let quarantine_queue = Some(queue.unwrap_or_default().to_owned());
        let put = pb::PutVhost { name: name.to_owned(), quarantine_queue };
        self.ask(Body::PutVhost(put), OnBreak::Repeat).await.and_then(done)
    }

    /// Deletes a vhost with all that is in it. Administrators only.
    ///
    /// # Cancel safety
    /// Once it was polled it is carried out, though nobody hears of it.
    pub async fn delete_vhost(&self, name: &str) -> Result<(), RequestError> {
        let delete = pb::DeleteVhost { name: name.to_owned() };
        self.ask(Body::DeleteVhost(delete), OnBreak::Repeat).await.and_then(done)
    }

    /// Closes the channel for all its clones, publishers and consumers, after what was published has been sent: its
    /// consumers end, what they had not settled goes back to its queues.
    ///
    /// # Cancel safety
    /// The channel closes all the same; before the first poll only if this was the last clone.
    pub async fn close(self) -> Result<(), RequestError> {
        match self.0.core().close_channel(self.0.number) {
            Some(answer) => answer.done().await,
            None => Ok(()),
        }
    }

    /// A change of the topology, to be made again after a reconnect.
    async fn change(&self, body: Body, change: Change) -> Result<(), RequestError> {
        self.request(body, OnBreak::Repeat, Effect::Record(change)).await.and_then(done)
    }

    pub(super) async fn list<E: Entry>(&self, name: &str) -> Result<Vec<E>, RequestError> {
        self.list_those(pb::List { name: name.to_owned(), ..pb::List::default() }).await
    }

    /// What `list` asks for, of all its pages; the kind is that of the entries.
    pub(super) async fn list_those<E: Entry>(&self, mut list: pb::List) -> Result<Vec<E>, RequestError> {
        let mut entries = Vec::new();
        list.kind = E::KIND.into();
        for _ in 0..PAGES_MAX {
            let list_page = list.clone();
            let mut listing = match self.ask(Body::List(list_page), OnBreak::Repeat).await? {
                Body::Listing(listing) => listing,
                other => return Err(unexpected(&other)),
            };
            let page = E::take(&mut listing);
            entries.extend(
                page.map_err(|fault| RequestError::Invalid(format!("the server's answer: {fault}")))?,
            );
            list.page_token = listing.next_page_token;
            if list.page_token.is_empty() {
                return Ok(entries);
            }
        }
        Err(RequestError::Invalid(format!("the listing has more than {PAGES_MAX} pages")))
    }

    pub(super) async fn ask(&self, body: Body, on_break: OnBreak) -> Result<Body, RequestError> {
        self.request(body, on_break, Effect::None).await
    }

    pub(super) async fn request(
        &self,
        body: Body,
        on_break: OnBreak,
        effect: Effect,
    ) -> Result<Body, RequestError> {
        self.0.core().request(self.0.number, &body, on_break, effect)?.body().await
    }
}

/// Waits for what a queue gives. If nobody does any more when it has come, it goes back.
struct Getting {
    answer: Answer,
    getter: Arc<Settler>,
}

impl Getting {
    async fn reply(mut self) -> Result<Reply, RequestError> {
        (&mut self.answer.reply).await.unwrap_or(Err(RequestError::Closed(CloseReason::ByClient)))
    }
}

impl Drop for Getting {
    fn drop(&mut self) {
        // What comes later finds that nobody waits.
        self.answer.reply.close();
        if let Ok(Ok(Reply { epoch, body: Body::Got(got) })) = self.answer.reply.try_recv() {
            self.getter.give_back(epoch, got.tag);
        }
    }
}

pub(super) fn check_names<const N: usize>(names: [impl AsRef<str>; N]) -> Result<(), RequestError> {
    match names.into_iter().map(|name| name.as_ref().len()).find(|bytes| *bytes > NAME_BYTES_MAX) {
        Some(bytes) => Err(NameTooLong { bytes }.into()),
        None => Ok(()),
    }
}

pub(super) fn done(body: Body) -> Result<(), RequestError> {
    match body {
        Body::Done(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn queue_declared(body: Body) -> Result<QueueDeclared, RequestError> {
    match body {
        Body::QueueDeclared(declared) => Ok(queue_declared_from_wire(declared)),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn message_count(body: Body) -> Result<u64, RequestError> {
    match body {
        Body::MessageCount(count) => Ok(count.count),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn unexpected(body: &Body) -> RequestError {
    RequestError::UnexpectedAnswer { got: kind_name(body) }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("number", &self.number).finish_non_exhaustive()
    }
}
