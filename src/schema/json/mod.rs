//! JSON Schema.

mod costs;
mod json_schema;
mod misfit;
mod references;

pub(super) use json_schema::JsonSchema;
