//! What messages have to fit, as an application gives it to an exchange.

use crate::model::{FieldTable, FieldValue, schema_fields};

/// A schema for [`Exchange::schema`](super::Exchange::schema). The server compiles it, and refuses what is none.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageSchema(FieldTable);

impl MessageSchema {
    /// A JSON Schema: bodies are JSON.
    pub fn json(schema: impl Into<String>) -> Self {
        Self(FieldTable::from([
            (schema_fields::KIND, FieldValue::from("json")),
            (schema_fields::SCHEMA, FieldValue::Text(schema.into())),
        ]))
    }

    /// A message of protobuf by its full name, in a `FileDescriptorSet` that has it and all its imports: what
    /// `protoc --include_imports --descriptor_set_out=FILE` writes.
    pub fn protobuf(descriptors: impl Into<Vec<u8>>, message: impl Into<String>) -> Self {
        Self(FieldTable::from([
            (schema_fields::KIND, FieldValue::from("protobuf")),
            (schema_fields::SCHEMA, FieldValue::Bytes(descriptors.into())),
            (schema_fields::MESSAGE, FieldValue::Text(message.into())),
        ]))
    }

    pub(super) fn entry(self, pattern: &str) -> FieldTable {
        let mut entry = self.0;
        entry.0.insert(schema_fields::PATTERN.to_owned(), pattern.into());
        entry
    }
}
