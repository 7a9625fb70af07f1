//! Dead letters: what a queue rejects, lets expire or has no room for goes to another exchange, and leaves its queue only when it is stored
//! where that exchange sends it.
//!
//! A queue keeps its dead letters in its log (`src/queue/dead_letters.rs`), and its shard tells here that it has some. `carrier.rs` looks at
//! them page by page, publishes what they become (`letter.rs`), and has the shard forget those that are stored. So a crash at any moment
//! leaves each of them in its queue, or where it went, or in both places; never in none.

mod address;
mod carrier;
mod letter;

pub(super) use address::{DEAD_LETTER_ARGUMENTS, DeadLetterAddress, address_of};
pub(super) use carrier::carry_dead_letters;
