//! Bytes to frames and back.

/// The protocol's messages, generated from `proto/` by prost.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/leveret.v1.rs"));
}
