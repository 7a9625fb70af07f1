//! A schema of either kind.

use std::fmt;

use super::fault::{Misfit, SchemaFault};
use super::json::JsonSchema;
use super::protobuf::ProtobufSchema;

/// Largest body that is checked, in bytes: checking goes on while others wait.
pub const CHECKED_BODY_BYTES_MAX: usize = 1024 * 1024;

/// In which language a schema is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    /// JSON Schema: drafts 6, 7, 2019-09 and 2020-12. Bodies are JSON.
    Json,
    /// A `FileDescriptorSet`, as `protoc` writes it. Bodies are messages of protobuf.
    Protobuf,
}

impl SchemaKind {
    /// Reads the word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "json" => Some(Self::Json),
            "protobuf" => Some(Self::Protobuf),
            _ => None,
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Protobuf => "protobuf",
        }
    }
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the bodies of some messages have to be, compiled.
#[derive(Debug)]
pub struct Schema(Compiled);

#[derive(Debug)]
enum Compiled {
    Json(JsonSchema),
    Protobuf(ProtobufSchema),
}

impl Schema {
    /// Compiles a schema. `message` is the full name of a message in a descriptor, and empty for JSON.
    ///
    /// # Errors
    /// It is no schema, or its bounds are exceeded, or it is not whole in itself.
    pub fn compile(kind: SchemaKind, source: &[u8], message: &str) -> Result<Self, SchemaFault> {
        match kind {
            SchemaKind::Json => JsonSchema::compile(source).map(Compiled::Json).map(Self),
            SchemaKind::Protobuf => {
                ProtobufSchema::compile(source, message).map(Compiled::Protobuf).map(Self)
            }
        }
    }

    /// Its language.
    pub fn kind(&self) -> SchemaKind {
        match &self.0 {
            Compiled::Json(_) => SchemaKind::Json,
            Compiled::Protobuf(_) => SchemaKind::Protobuf,
        }
    }

    /// Whether a body fits. Takes time in proportion to the body and to what the schema asks of each value in it; both are
    /// bounded.
    ///
    /// # Errors
    /// The first thing found that does not fit.
    pub fn check(&self, body: &[u8]) -> Result<(), Misfit> {
        if body.len() > CHECKED_BODY_BYTES_MAX {
            let expected = format!("{CHECKED_BODY_BYTES_MAX} bytes at most, which is what is checked");
            return Err(Misfit::of_body(expected, format!("{} bytes", body.len())));
        }
        match &self.0 {
            Compiled::Json(schema) => schema.check(body),
            Compiled::Protobuf(schema) => schema.check(body),
        }
    }
}
