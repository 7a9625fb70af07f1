//! Field tables and properties, from a scenario's words and back.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use toml::{Table, Value};

use crate::play::Received;

pub(super) fn received(delivery: &Delivery) -> Received {
    let properties = &delivery.properties;
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    Received {
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        redelivered: delivery.redelivered,
        exchange: delivery.exchange.as_str().to_owned(),
        key: delivery.routing_key.as_str().to_owned(),
        headers: headers.map(|(name, value)| (name.as_str().to_owned(), value_told(value))).collect(),
        properties: properties_told(properties),
        left: None,
    }
}

pub(super) fn properties(table: &Table, headers: &Table) -> BasicProperties {
    let mut properties = BasicProperties::default();
    if !headers.is_empty() {
        properties = properties.with_headers(fields(headers));
    }
    for (name, value) in table {
        let text = || value.as_str().unwrap_or_default().into();
        let number = || value.as_integer().unwrap_or_default();
        properties = match name.as_str() {
            "content_type" => properties.with_content_type(text()),
            "content_encoding" => properties.with_content_encoding(text()),
            "correlation_id" => properties.with_correlation_id(text()),
            "reply_to" => properties.with_reply_to(text()),
            "message_id" => properties.with_message_id(text()),
            "type" => properties.with_type(text()),
            "user_id" => properties.with_user_id(text()),
            "app_id" => properties.with_app_id(text()),
            "expiration" => properties.with_expiration(text()),
            "priority" => properties.with_priority(number() as u8),
            "delivery_mode" => properties.with_delivery_mode(number() as u8),
            "timestamp" => properties.with_timestamp(number() as u64),
            other => panic!("there is no property '{other}'"),
        };
    }
    properties
}

fn properties_told(properties: &BasicProperties) -> BTreeMap<String, String> {
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ];
    let numbers = [
        ("priority", properties.priority().map(u64::from)),
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("timestamp", *properties.timestamp()),
    ];
    let texts =
        texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.as_ref()?.to_string())));
    let numbers =
        numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.to_string())));
    texts.chain(numbers).collect()
}

pub(super) fn fields(table: &Table) -> FieldTable {
    let fields = table.iter().map(|(name, value)| (name.as_str().into(), field(value)));
    fields.collect::<BTreeMap<_, _>>().into()
}

fn field(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Integer(integer) => AMQPValue::LongLongInt(*integer),
        Value::Float(double) => AMQPValue::Double(*double),
        Value::Boolean(boolean) => AMQPValue::Boolean(*boolean),
        Value::Array(values) => AMQPValue::FieldArray(values.iter().map(field).collect::<Vec<_>>().into()),
        // TOML has no word for it.
        Value::Table(table) if table.contains_key("void") => AMQPValue::Void,
        Value::Table(table) => AMQPValue::FieldTable(fields(table)),
        Value::Datetime(_) => panic!("times are not used in scenarios"),
    }
}

fn value_told(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Void => "void".to_owned(),
        AMQPValue::LongString(text) => format!("'{text}'"),
        AMQPValue::LongLongInt(integer) => integer.to_string(),
        AMQPValue::Double(double) => format!("{double:?}"),
        AMQPValue::Boolean(boolean) => boolean.to_string(),
        // When it was depends on when that is asked.
        AMQPValue::Timestamp(_) => "a time".to_owned(),
        AMQPValue::FieldArray(values) => {
            format!("[{}]", values.as_slice().iter().map(value_told).collect::<Vec<_>>().join(", "))
        }
        AMQPValue::FieldTable(table) => {
            let fields: Vec<_> =
                table.inner().iter().map(|(name, value)| format!("{name}={}", value_told(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => format!("{other:?}"),
    }
}
