//! The protocol's messages, generated from `proto/` by prost and held to it by a test.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

include!("../proto/generated/leveret.v1.rs");
