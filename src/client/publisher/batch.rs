//! Encoding messages, one by one or into a batch.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::client::convert::properties_to_wire;
use crate::client::error::PublishError;
use crate::client::message::{Message, Properties};
use crate::message::{FIELD_DEPTH_MAX, encode_item};
use crate::model::{FieldTable, FieldValue, NAME_BYTES_MAX, NameTooLong};
use crate::wire::pb;

/// Space for encoding properties, kept from message to message.
#[derive(Debug, Default)]
pub(super) struct EncodeScratch {
    properties: BytesMut,
}

impl EncodeScratch {
    /// Appends a message as one item. Nothing is appended if it is refused.
    pub(super) fn encode(&mut self, message: &Message, out: &mut BytesMut) -> Result<(), PublishError> {
        let routing_key = message.own_routing_key();
        check_routing_key(routing_key.unwrap_or_default())?;
        self.properties.clear();
        if let Some(properties) = message.properties() {
            check_properties(properties)?;
            properties_to_wire(properties).encode(&mut self.properties).expect("a BytesMut grows as needed");
        }
        encode_item(&self.properties, message.body(), routing_key, false, out);
        Ok(())
    }
}

fn check_routing_key(routing_key: &str) -> Result<(), PublishError> {
    if routing_key.len() > NAME_BYTES_MAX {
        return Err(PublishError::RoutingKey(NameTooLong { bytes: routing_key.len() }));
    }
    Ok(())
}

/// The broker refuses a whole frame for one bad message, so no bad one may get into a frame.
fn check_properties(properties: &Properties) -> Result<(), PublishError> {
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("message_id", &properties.message_id),
        ("kind", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    for (field, text) in texts {
        check_length(field, text)?;
    }
    if properties.delivery_mode > 2 {
        let problem = format!("it is 0, 1 or 2, not {}", properties.delivery_mode);
        return Err(PublishError::Property { field: "delivery_mode", problem });
    }
    check_table(&properties.headers, 1)
}

fn check_table(table: &FieldTable, depth: usize) -> Result<(), PublishError> {
    check_depth(depth)?;
    table.iter().try_for_each(|(name, value)| {
        check_length("headers", name)?;
        check_value(value, depth)
    })
}

fn check_value(value: &FieldValue, depth: usize) -> Result<(), PublishError> {
    match value {
        FieldValue::Table(table) => check_table(table, depth + 1),
        FieldValue::List(values) => {
            check_depth(depth + 1)?;
            values.iter().try_for_each(|value| check_value(value, depth + 1))
        }
        _ => Ok(()),
    }
}

fn check_depth(depth: usize) -> Result<(), PublishError> {
    if depth > FIELD_DEPTH_MAX {
        let problem = format!("tables and lists nest more than {} deep", FIELD_DEPTH_MAX);
        return Err(PublishError::Property { field: "headers", problem });
    }
    Ok(())
}

fn check_length(field: &'static str, text: &str) -> Result<(), PublishError> {
    if text.len() > NAME_BYTES_MAX {
        let problem = NameTooLong { bytes: text.len() }.to_string();
        return Err(PublishError::Property { field, problem });
    }
    Ok(())
}

/// Properties that many messages have in common, checked and encoded once: see [`MessageBatch::push_prepared`]. The
/// default is to have none.
///
/// ```
/// use leveret::client::{MessageBatch, PreparedProperties, Properties};
///
/// let json = Properties { content_type: "application/json".into(), ..Default::default() };
/// let json = PreparedProperties::new(&json)?;
/// let mut batch = MessageBatch::new();
/// for id in 0..1000 {
///     batch.push_prepared(None, &json, format!("{{\"id\": {id}}}").as_bytes())?;
/// }
/// # Ok::<(), leveret::client::PublishError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparedProperties {
    encoded: Bytes,
}

impl PreparedProperties {
    /// Checks and encodes properties.
    ///
    /// # Errors
    /// If one of them is longer or deeper than the protocol allows.
    pub fn new(properties: &Properties) -> Result<Self, PublishError> {
        check_properties(properties)?;
        Ok(Self { encoded: properties_to_wire(properties).encode_to_vec().into() })
    }
}

/// Messages encoded back to back, to be sent with one call. The fastest way to publish; about 10 ns a small message.
///
/// ```
/// use leveret::client::{Message, MessageBatch};
///
/// let mut batch = MessageBatch::new();
/// batch.push_body(b"one");
/// batch.push(&Message::new("two").content_type("text/plain"))?;
/// assert_eq!(batch.len(), 2);
/// # Ok::<(), leveret::client::PublishError>(())
/// ```
#[derive(Debug, Default)]
pub struct MessageBatch {
    items: BytesMut,
    count: usize,
    body_bytes_max: usize,
    item_bytes_max: usize,
    scratch: EncodeScratch,
}

/// A part of a batch.
pub(super) struct Piece {
    pub(super) items: Bytes,
    pub(super) count: u64,
}

impl MessageBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a message; nothing is added if its routing key is too long.
    pub fn push(&mut self, message: &Message) -> Result<(), PublishError> {
        let start = self.items.len();
        self.scratch.encode(message, &mut self.items)?;
        self.count(message.body().len(), start);
        Ok(())
    }

    /// Adds a message without properties.
    pub fn push_body(&mut self, body: &[u8]) {
        let start = self.items.len();
        encode_item(&[], body, None, false, &mut self.items);
        self.count(body.len(), start);
    }

    /// Adds a message with a routing key of its own and, perhaps, headers; nothing is added if the key is longer than
    /// 255 bytes.
    pub fn push_routed(
        &mut self,
        routing_key: &str,
        headers: Option<&FieldTable>,
        body: &[u8],
    ) -> Result<(), PublishError> {
        check_routing_key(routing_key)?;
        let start = self.items.len();
        self.scratch.properties.clear();
        if let Some(headers) = headers {
            check_table(headers, 1)?;
            let properties = pb::Properties { headers: Some(headers.into()), ..Default::default() };
            properties.encode(&mut self.scratch.properties).expect("a BytesMut grows as needed");
        }
        encode_item(&self.scratch.properties, body, Some(routing_key), false, &mut self.items);
        self.count(body.len(), start);
        Ok(())
    }

    /// Adds a message that has properties in common with many others, which are encoded already. The routing key, if
    /// there is one, takes the place of the publisher's; nothing is added if it is longer than 255 bytes.
    pub fn push_prepared(
        &mut self,
        routing_key: Option<&str>,
        properties: &PreparedProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        check_routing_key(routing_key.unwrap_or_default())?;
        let start = self.items.len();
        encode_item(&properties.encoded, body, routing_key, false, &mut self.items);
        self.count(body.len(), start);
        Ok(())
    }

    /// Number of messages in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Encoded size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.items.len()
    }

    /// Takes all messages out.
    pub fn clear(&mut self) {
        self.items.clear();
        (self.count, self.body_bytes_max, self.item_bytes_max) = (0, 0, 0);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.items
    }

    /// Takes all messages out, in one piece.
    pub(super) fn take_all(&mut self) -> Piece {
        let piece = Piece { count: self.count as u64, items: self.items.split().freeze() };
        self.clear();
        piece
    }

    pub(super) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    pub(super) fn item_bytes_max(&self) -> usize {
        self.item_bytes_max
    }

    /// Takes all messages out, in pieces of `piece_bytes` at most or of a single message.
    pub(super) fn take_pieces(&mut self, piece_bytes: usize) -> Vec<Piece> {
        let items = self.items.split().freeze();
        self.clear();
        let mut pieces = Vec::with_capacity(items.len() / piece_bytes.max(1) + 1);
        let (mut start, mut end, mut count) = (0, 0, 0);
        for item in Items(&items) {
            if count > 0 && end - start + item.len() > piece_bytes {
                pieces.push(Piece { items: items.slice(start..end), count });
                (start, count) = (end, 0);
            }
            end += item.len();
            count += 1;
        }
        if count > 0 {
            pieces.push(Piece { items: items.slice(start..end), count });
        }
        pieces
    }

    fn count(&mut self, body_bytes: usize, start: usize) {
        self.count += 1;
        self.body_bytes_max = self.body_bytes_max.max(body_bytes);
        self.item_bytes_max = self.item_bytes_max.max(self.items.len() - start);
    }
}

/// Walks over items that this client encoded.
pub(super) struct Items<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (mut length, mut at) = (0usize, 1);
        loop {
            let byte = *self.0.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        let (item, rest) = self.0.split_at_checked(at + length)?;
        self.0 = rest;
        Some(item)
    }
}
