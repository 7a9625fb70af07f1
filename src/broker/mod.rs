//! The broker: virtual hosts, users and queues, and the publish path. The one interface that every front end calls.
//!
//! Owns the catalog (what exists), placement (which queue lives on which shard) and sessions (what one connection has
//! under way). Must never know a protocol or a socket. Start reading at [`Broker`] for what a front end may ask and at
//! [`Session`] for the way of a message; `catalog/` is the state machine behind all declarations.

mod access;
mod activity;
mod altering;
mod broker;
mod browse;
mod catalog;
mod close_failure;
mod dead_letters;
mod events;
mod hand_over;
mod histories;
mod inspect;
mod journey_keeping;
mod journeys;
mod limits;
mod login;
pub mod offline;
mod open;
mod options;
mod outlook;
mod platform;
mod policies;
mod policy;
mod presence;
mod published;
mod requesters;
mod retention;
mod seats;
mod session;
mod shortage;
mod subscribing;
mod subscription;
mod subscription_filter;
mod users;
mod vhost;
mod vhost_bytes;

pub use crate::auth::{
    Password, Pattern, PatternRefused, Permissions, TopicPermissions, UserLimits, UserLimitsChange,
    VhostLimits, VhostLimitsChange, parse_plain, topic_pattern,
};
pub use crate::journey::{
    Event, Filter, Party, QueueLabel, Receipt, Rule, SAMPLE_ALL, Scope, State as ReceiptState, Story, Taker,
    Way, What,
};
pub use crate::queue::{Departure, Return};
pub use crate::routing::{
    Binding, Destination, ExchangeDefinition, ExchangeKind, ExplainedBinding, ExplainedExchange, Explanation,
    HashedProperties, Payload, ReachedBy, Routed,
};
pub use crate::shard::{
    Came, ConsumerKey, ConsumerLimits, Delivery, Limits, LookedAt, Origin, Outcome, Piece, Retention,
    RuntimeWorkers, SealConditions, Settlement, TagRange, Which, Workers,
};
pub use altering::{AlterMode, Altered, WaitingMisfit};
pub use broker::{Broker, ConnectionDescription, ConnectionMeter};
pub use browse::{BrowseRequest, BrowsedPage, routing_key_of};
pub use catalog::{
    Alteration, DeclaredQueue, LoggedChange, PermissionChange, QueueAlteration, QueueDeclaration,
    SubscriptionDeclaration, UserChange,
};
pub use close_failure::CloseFailure;
pub use hand_over::Place;
pub use inspect::{ConsumerListing, ExchangeListing, Page, QueueListing, VhostListing};
pub use journeys::Told;
pub use login::Identity;
pub use open::{OpenFailure, open, open_on};
pub use options::BrokerOptions;
pub use outlook::{Enquiry, OutlookKind, QueueOutlook};
pub use platform::{NoRandomness, OpenLog, OpenedLog, Platform, Randomness};
pub use policy::{AppliesTo, ExchangePolicy, Governed, Policy, PolicyKind};
pub use published::Published;
pub use retention::retention_arguments;
pub use session::{
    Address, Confirmation, ConfirmedRun, ConsumeRequest, ExtendRequest, Fetched, FrontEnd, Introduction,
    Publication, Publish, Returned, Session, SettleRequest, Word,
};
pub use shortage::Shortage;
pub use subscribing::{SubscriberListing, SubscriptionListing};
pub use subscription::{Sharing, Subscription, SubscriptionBinding};
pub use subscription_filter::SubscriptionFilter;
pub use users::{PermissionsListing, TopicPermissionsListing};
