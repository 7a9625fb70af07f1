//! Whether what a message carries fits what was agreed about it: JSON Schema, and messages of protobuf.
//!
//! Owns [`Schema`], a compiled schema as an immutable value, and the words about what does not fit. Must never know routing
//! keys or exchanges, or fetch anything: a schema is whole in itself. What a schema may cost, to compile and for each message,
//! is bounded here, since both come from clients. Start reading at [`Schema::compile`] and [`Schema::check`].

mod fault;
mod json;
mod protobuf;
mod schema;

pub use fault::{Misfit, SchemaFault};
pub use schema::{CHECKED_BODY_BYTES_MAX, Schema, SchemaKind};
#[cfg(test)]
mod tests;
