//! One queue as a state machine: which messages it holds, who has which, what goes out next.
//!
//! Owns order, outstanding deliveries, prefetch, credit and redelivery. Must never see a body, a socket, a clock or a
//! log: logged input comes through [`Queue::enqueue`] and [`Queue::apply`], everything that lives only as long as a connection
//! through the other methods, and what is to be done comes out as [`Effect`]s. Start reading at [`Queue`].

mod activity;
mod backlog;
mod checkpoint;
mod chunk;
mod consumer;
mod dead_letters;
mod departure;
mod fault;
mod handing_out;
mod held;
mod holding;
mod kept;
mod leasing;
mod levels;
mod limits;
mod line;
mod lines;
mod looking;
mod message_ref;
mod outlook;
mod packed;
mod queue;
mod retaining;
mod retry;
mod returns;
mod room;
mod sequence_runs;
mod settling;
mod sharing;
mod unsettled;

pub use consumer::{ConsumerKey, ConsumerLimits, ConsumerState, Taking};
pub use departure::{Departure, Departures, Return};
pub use fault::QueueFault;
pub use leasing::{Holder, Tags};
pub use limits::Limits;
pub use looking::VisibleMessage;
pub use message_ref::SEQUENCE_MAX;
pub use outlook::{Candidate, Fate, Outlook};
pub use queue::{AttachRefusal, CountRun, Effect, Effects, Queue, QueueCommand, QueueCounts, QueueOptions};
pub use retaining::Retention;
pub use retry::Retry;
pub use room::{Full, Room};
pub use sequence_runs::{SequenceRun, SequenceRuns};
pub use settling::{Outcome, TagRange, UnknownTag};
pub use sharing::{ChannelKey, Share};
