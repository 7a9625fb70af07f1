//! Messages of protobuf, and the descriptors that say what they are.

mod check;
mod reader;
mod shapes;

pub(super) use shapes::ProtobufSchema;
