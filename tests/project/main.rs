//! What holds the project together: its layers, and its pages.
#![allow(clippy::unwrap_used)]

mod architecture;
mod client_feature;
mod client_promises;
mod container;
mod docs;
mod packaging;
