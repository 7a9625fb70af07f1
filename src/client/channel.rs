//! A channel: requests, publishers and consumers in one order.

use super::admin::*;
use super::consumer::{ConsumerBuilder, Got};
use super::error::RequestError;
use super::publisher::PublisherBuilder;
use super::topology::{Binding, Exchange, Queue, QueueDeclared};
use crate::model::FieldTable;

/// A channel of a connection. Clones share it; it closes when all clones, publishers and consumers are gone.
///
/// Requests can be under way together (for instance with `tokio::join!`); the server carries them out in the order in
/// which they were first polled. A refused request leaves the channel as it was.
#[derive(Debug, Clone)]
pub struct Channel {}

/// Conditions for deleting a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteQueue {
    /// Refuse if it has consumers.
    pub if_unused: bool,
    /// Refuse if it has ready messages.
    pub if_empty: bool,
}

impl Channel {
    /// Makes an exchange, or checks that the one there is equal. It is restored after a reconnect.
    pub async fn declare_exchange(&self, _exchange: Exchange) -> Result<(), RequestError> {
        todo!()
    }

    /// Checks that an exchange exists.
    pub async fn check_exchange(&self, _name: &str) -> Result<(), RequestError> {
        todo!()
    }

    /// Deletes an exchange; also fine if there is none. With `if_unused` only if it has no bindings as a source.
    pub async fn delete_exchange(&self, _name: &str, _if_unused: bool) -> Result<(), RequestError> {
        todo!()
    }

    /// Makes a queue, or checks that the one there is equal. It is restored after a reconnect.
    pub async fn declare_queue(&self, _queue: Queue) -> Result<QueueDeclared, RequestError> {
        todo!()
    }

    /// Checks that a queue exists, and counts.
    pub async fn check_queue(&self, _name: &str) -> Result<QueueDeclared, RequestError> {
        todo!()
    }

    /// Deletes a queue; how many ready messages went with it. Also fine if there is none.
    pub async fn delete_queue(&self, _name: &str, _conditions: DeleteQueue) -> Result<u64, RequestError> {
        todo!()
    }

    /// Drops the ready messages of a queue; how many there were.
    pub async fn purge_queue(&self, _name: &str) -> Result<u64, RequestError> {
        todo!()
    }

    /// Adds a binding. It is restored after a reconnect.
    pub async fn bind(&self, _binding: Binding) -> Result<(), RequestError> {
        todo!()
    }

    /// Removes a binding; also fine if there is none.
    pub async fn unbind(&self, _binding: Binding) -> Result<(), RequestError> {
        todo!()
    }

    /// Asks for one message; `None` if the queue has none ready. With `no_ack` it counts as accepted when sent.
    pub async fn get(&self, _queue: &str, _no_ack: bool) -> Result<Option<Got>, RequestError> {
        todo!()
    }

    /// A publisher of messages for an exchange ("" is the default exchange, which leads to the queue named by the
    /// routing key).
    pub fn publisher(&self, _exchange: &str, _routing_key: &str) -> PublisherBuilder {
        todo!()
    }

    /// A consumer of a queue.
    pub fn consume(&self, _queue: &str) -> ConsumerBuilder {
        todo!()
    }

    /// All exchanges of the vhost, by name.
    pub async fn list_exchanges(&self) -> Result<Vec<ExchangeEntry>, RequestError> {
        todo!()
    }

    /// All queues of the vhost, by name.
    pub async fn list_queues(&self) -> Result<Vec<QueueEntry>, RequestError> {
        todo!()
    }

    /// One queue, if it exists.
    pub async fn find_queue(&self, _name: &str) -> Result<Option<QueueEntry>, RequestError> {
        todo!()
    }

    /// All bindings of the vhost.
    pub async fn list_bindings(&self) -> Result<Vec<Binding>, RequestError> {
        todo!()
    }

    /// Client connections.
    pub async fn list_connections(&self) -> Result<Vec<ConnectionEntry>, RequestError> {
        todo!()
    }

    /// Consumers of the vhost.
    pub async fn list_consumers(&self) -> Result<Vec<ConsumerEntry>, RequestError> {
        todo!()
    }

    /// Users. Administrators only.
    pub async fn list_users(&self) -> Result<Vec<UserEntry>, RequestError> {
        todo!()
    }

    /// Vhosts. Administrators only.
    pub async fn list_vhosts(&self) -> Result<Vec<VhostEntry>, RequestError> {
        todo!()
    }

    /// Where would this message go? Nothing is published.
    pub async fn explain(
        &self,
        _exchange: &str,
        _routing_key: &str,
        _headers: &FieldTable,
    ) -> Result<Explanation, RequestError> {
        todo!()
    }

    /// Makes a user or replaces one. Administrators only.
    pub async fn put_user(&self, _user: NewUser) -> Result<(), RequestError> {
        todo!()
    }

    /// Deletes a user; also fine if there is none. Administrators only.
    pub async fn delete_user(&self, _name: &str) -> Result<(), RequestError> {
        todo!()
    }

    /// Makes a vhost; also fine if it exists. Administrators only.
    pub async fn put_vhost(&self, _name: &str) -> Result<(), RequestError> {
        todo!()
    }

    /// Deletes a vhost with all that is in it. Administrators only.
    pub async fn delete_vhost(&self, _name: &str) -> Result<(), RequestError> {
        todo!()
    }

    /// Closes the channel for all its clones: its consumers end, what they had not settled goes back to its queues.
    pub async fn close(self) -> Result<(), RequestError> {
        todo!()
    }
}
