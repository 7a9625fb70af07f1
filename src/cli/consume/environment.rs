//! What the command of `--exec` finds in its environment.

use crate::cli::failure::Failure;
use crate::cli::{field, message_output};
use crate::client::Delivery;
use crate::model::FieldValue;
use serde_json::Value;

/// Begins the names of all variables.
const PREFIX: &str = "LEVERET_";

/// Begins the names of variables with a header.
const HEADER_PREFIX: &str = "LEVERET_HEADER_";

/// Variables for one message, with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment(pub(super) Vec<(String, String)>);

impl Environment {
    /// The variables for a delivery of a queue. What a message does not have is not there.
    pub(super) fn of(queue: &str, delivery: &Delivery) -> Result<Self, Failure> {
        let properties = delivery.properties()?;
        let mut environment = Self::default();
        environment.set("QUEUE", queue);
        environment.set("EXCHANGE", delivery.exchange());
        environment.set("ROUTING_KEY", delivery.routing_key());
        environment.set("REDELIVERED", if delivery.redelivered() { "true" } else { "false" });
        environment.set("DELIVERY_COUNT", &delivery.delivery_count().to_string());
        environment.set("RESENT", if delivery.resent() { "true" } else { "false" });
        environment.set("HEADERS", &field::table_to_json(&properties.headers).to_string());
        if let Value::Object(properties) = message_output::properties_to_json(&properties) {
            for (name, value) in &properties {
                environment.set(&name.to_uppercase(), &text_of(value));
            }
        }
        for (name, value) in properties.headers.iter() {
            let text = match value {
                FieldValue::Text(text) => text.clone(),
                other => text_of(&field::to_json(other)),
            };
            environment.0.push((format!("{HEADER_PREFIX}{}", variable_name(name)), text));
        }
        Ok(environment)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.push((format!("{PREFIX}{name}"), value.to_owned()));
    }

    /// Whether a variable is one of these, so that one of an outer message must not shine through.
    pub(super) fn owns(name: &str) -> bool {
        const NAMES: [&str; 21] = [
            "QUEUE",
            "EXCHANGE",
            "ROUTING_KEY",
            "REDELIVERED",
            "DELIVERY_COUNT",
            "RESENT",
            "HEADERS",
            "CONTENT_TYPE",
            "CONTENT_ENCODING",
            "PRIORITY",
            "CORRELATION_ID",
            "REPLY_TO",
            "EXPIRATION_MS",
            "MESSAGE_ID",
            "TIMESTAMP_MS",
            "TYPE",
            "USER_ID",
            "APP_ID",
            "DELIVERY_MODE",
            "DELAY_MS",
            "DELIVER_AT_MS",
        ];
        name.starts_with(HEADER_PREFIX) || name.strip_prefix(PREFIX).is_some_and(|name| NAMES.contains(&name))
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A name that shells can read: capitals, digits and underscores.
fn variable_name(header: &str) -> String {
    header.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_names_that_shells_can_read() {
        assert_eq!(variable_name("x-Retry.count"), "X_RETRY_COUNT");
        assert_eq!(variable_name("größe"), "GR__E");
    }

    #[test]
    fn only_what_belongs_to_a_message_is_taken_away() {
        assert!(Environment::owns("LEVERET_MESSAGE_ID") && Environment::owns("LEVERET_HEADER_A"));
        assert!(!Environment::owns("LEVERET_URL") && !Environment::owns("PATH"));
    }
}
