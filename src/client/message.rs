//! A message as an application writes it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::convert::millis;
use crate::model::{FieldTable, FieldValue};

/// A body with properties. Cloning is cheap for the body, which is shared.
///
/// ```
/// use leveret::client::Message;
///
/// let message = Message::new("{\"id\": 7}").content_type("application/json").header("region", "eu");
/// assert_eq!(&message.body()[..], b"{\"id\": 7}");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    body: Bytes,
    routing_key: Option<String>,
    properties: Option<Box<Properties>>,
}

/// AMQP's basic properties. A text that is "" is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body. At most 255 bytes, as all texts here.
    pub content_type: String,
    /// MIME encoding of the body.
    pub content_encoding: String,
    /// Application headers; a headers exchange routes by them.
    pub headers: FieldTable,
    /// 0 to 255.
    pub priority: u8,
    /// Ties an answer to its question.
    pub correlation_id: String,
    /// Queue to which an answer should go.
    pub reply_to: String,
    /// Milliseconds after which the message leaves a queue in which it still waits: ten years at most.
    pub expiration_ms: Option<u64>,
    /// Identity given by the application.
    pub message_id: String,
    /// Milliseconds since 1970-01-01T00:00:00Z, by the publisher's clock.
    pub timestamp_ms: Option<u64>,
    /// Kind of message, by the application.
    pub kind: String,
    /// Name of the publishing user.
    pub user_id: String,
    /// Name of the publishing application.
    pub app_id: String,
    /// AMQP 0-9-1's delivery mode, carried for gateways: 0 absent, 1 transient, 2 persistent.
    pub delivery_mode: u8,
    /// Milliseconds for which each queue holds the message back, from when it comes: ten years at most.
    pub delay_ms: Option<u64>,
    /// Until when each queue holds the message back: milliseconds since 1970-01-01T00:00:00Z by the broker's clock, before the year
    /// 10000. Not together with a delay.
    pub deliver_at_ms: Option<u64>,
}

impl Message {
    /// A message without properties.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), routing_key: None, properties: None }
    }

    /// The reply to a request with these properties, for a publisher of the default exchange; `None`: no reply is wanted.
    pub fn reply(body: impl Into<Bytes>, to: &Properties) -> Option<Self> {
        let reply =
            Self::new(body).routing_key(to.reply_to.clone()).correlation_id(to.correlation_id.clone());
        (!to.reply_to.is_empty()).then_some(reply)
    }

    /// Its payload.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The routing key, if it has one of its own.
    pub fn own_routing_key(&self) -> Option<&str> {
        self.routing_key.as_deref()
    }

    /// Its properties; `None` if all have their defaults.
    pub fn properties(&self) -> Option<&Properties> {
        self.properties.as_deref()
    }

    /// A routing key of its own, instead of the publisher's. At most 255 bytes.
    pub fn routing_key(mut self, routing_key: impl Into<String>) -> Self {
        self.routing_key = Some(routing_key.into());
        self
    }

    /// Replaces all properties.
    pub fn with_properties(mut self, properties: Properties) -> Self {
        self.properties = Some(Box::new(properties));
        self
    }

    /// Adds a header, or replaces the one of that name.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.properties_mut().headers.0.insert(name.into(), value.into());
        self
    }

    /// Replaces all headers.
    pub fn headers(mut self, headers: FieldTable) -> Self {
        self.properties_mut().headers = headers;
        self
    }

    /// MIME type of the body.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.properties_mut().content_type = content_type.into();
        self
    }

    /// MIME encoding of the body.
    pub fn content_encoding(mut self, content_encoding: impl Into<String>) -> Self {
        self.properties_mut().content_encoding = content_encoding.into();
        self
    }

    /// 0 to 255; higher goes first in queues that have priorities.
    pub fn priority(mut self, priority: u8) -> Self {
        self.properties_mut().priority = priority;
        self
    }

    /// Ties an answer to its question.
    pub fn correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.properties_mut().correlation_id = correlation_id.into();
        self
    }

    /// Queue to which an answer should go.
    pub fn reply_to(mut self, reply_to: impl Into<String>) -> Self {
        self.properties_mut().reply_to = reply_to.into();
        self
    }

    /// Milliseconds after which the message leaves a queue in which it still waits: ten years at most.
    pub fn expiration_ms(mut self, expiration_ms: u64) -> Self {
        self.properties_mut().expiration_ms = Some(expiration_ms);
        self
    }

    /// Each queue holds the message back for so long from when it comes: ten years at most.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.properties_mut().delay_ms = Some(millis(delay));
        self
    }

    /// Each queue holds the message back until then, by the broker's clock; a time that is over is now.
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.properties_mut().deliver_at_ms = Some(millis(since));
        self
    }

    /// Identity given by the application.
    pub fn message_id(mut self, message_id: impl Into<String>) -> Self {
        self.properties_mut().message_id = message_id.into();
        self
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn timestamp_ms(mut self, timestamp_ms: u64) -> Self {
        self.properties_mut().timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Kind of message, by the application (AMQP's `type`).
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.properties_mut().kind = kind.into();
        self
    }

    /// Name of the publishing user.
    pub fn user_id(mut self, user_id: impl Into<String>) -> Self {
        self.properties_mut().user_id = user_id.into();
        self
    }

    /// Name of the publishing application.
    pub fn app_id(mut self, app_id: impl Into<String>) -> Self {
        self.properties_mut().app_id = app_id.into();
        self
    }

    fn properties_mut(&mut self) -> &mut Properties {
        self.properties.get_or_insert_default()
    }
}

impl<T: Into<Bytes>> From<T> for Message {
    fn from(body: T) -> Self {
        Self::new(body)
    }
}
