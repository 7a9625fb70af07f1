//! What one connection has under way: publishes that wait for shards, consumers, messages it got one by one, one request.
//!
//! A front end hands a [`Session`] what its client wants and takes one stream of [`Word`]s from it. `session.rs` is that
//! stream; `publishing.rs`, `consuming.rs`, `prefetch.rs`, `settling.rs`, `leases.rs`, `gets.rs` and `replies.rs` each pair what was wanted with what
//! shards tell of it.

mod confirmation;
mod consuming;
mod excess;
mod gets;
mod leases;
mod prefetch;
mod publishing;
mod quarantine;
mod replies;
mod returning;
mod route;
mod session;
mod settling;
mod sizes;
mod target;
mod tickets;
mod times;
mod tracking;
mod word;
mod writing;

pub use confirmation::{Confirmation, ConfirmedRun};
pub use consuming::ConsumeRequest;
pub use leases::ExtendRequest;
pub use publishing::Publish;
pub(super) use route::Route;
pub use session::{Introduction, Session};
pub use settling::SettleRequest;
pub(super) use sizes::SizesMax;
pub use target::{Address, Publication};
pub(super) use target::{Fate, Router, Target, hashed_properties_of};
pub(super) use times::{check_delay, check_expiration};
pub use word::{Fetched, FrontEnd, Returned, Word};
