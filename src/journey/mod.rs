//! Journeys: what became of single messages, told by those whom they pass, kept as long as there is room.
//!
//! Owns the record of a message's way, the bounded store of such records, and the rules that say of which messages a record
//! is made. Must never decide about a message: it looks on, and nothing waits for it. Start reading at [`Event`] for what is
//! recorded, at [`Watches`] for how a shard knows whose story it tells, at [`Journeys`] for where it is kept, and at
//! [`Unfinished`] for how stories go on after a start.

mod disk;
mod event;
mod receipt;
mod resume;
mod rules;
mod store;
mod story;
#[cfg(test)]
mod testing;
mod watches;

pub use disk::{Folder, Found};
pub use event::{Event, NotTaken, Party, Publication, QueueLabel, Taker, Tracked, Way, What};
pub use receipt::{Receipt, State};
pub use resume::{Resumed, Stray, Unfinished};
pub use rules::{Filter, Rule, Rules, SAMPLE_ALL, Scope, Wanted};
pub use store::{Journeys, Kept};
pub use story::Story;
pub use watches::Watches;
