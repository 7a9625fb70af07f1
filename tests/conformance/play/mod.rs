//! Scenarios of what a broker does, read from `tests/conformance/scenarios`, and how they are played.
//!
//! Owns what both runners share: the form of a scenario, the words for what was seen, and the comparison. Never knows how one
//! talks to a broker: that is a [`Peer`], of which each runner has one. Start reading at `scenario.rs`, then `action.rs`.
// Each runner uses its part.
#![allow(dead_code, unused_imports)]

mod action;
mod run;
mod scenario;
mod seen;
mod stored;

pub(crate) use action::{
    Action, Allow, AllowTopic, Bind, Cancel, Consume, DeclareExchange, DeclareQueue, DeleteExchange,
    DeletePolicy, DeleteQueue, Get, LimitUser, LimitVhost, Outcome, Policy, Publish, Settle,
};
pub(crate) use run::{Peer, Step, play, user_of};
pub(crate) use scenario::{Scenario, Side, all};
pub(crate) use seen::{Closed, Fate, Fault, Received, Seen};
pub(crate) use stored::Observed;
