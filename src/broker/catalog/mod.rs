//! The catalog: what exists, and the one task that changes it.
//!
//! Owns vhosts, users, exchanges, bindings, queues and where they live, and subscriptions. A request is decided upon by looking alone
//! (`decide_*.rs`), its entries are recorded, and when the disk has them they are applied and shown. Must never show, route
//! by or answer as done what a restart could forget, and never wait for a shard. Start reading at [`CatalogTask`].

mod catalog;
mod checkpoint;
mod decide_access;
mod decide_alter_queue;
mod decide_journeys;
mod decide_policies;
mod decide_queues;
mod decide_routes;
mod decide_subscriptions;
mod deletion;
mod entry;
mod fault;
mod open;
mod queue_checks;
mod record;
mod request;
mod salvage;
mod stored_policy;
mod stored_rule;
mod stored_subscription;
mod stored_user;
mod task;

pub(super) use catalog::{Catalog, FIRST_VOLATILE_SHARD, VOLATILE_SHARDS, no_such_vhost};
pub(super) use checkpoint::CatalogKeeper;
pub(super) use decide_alter_queue::{AlteredQueue, altered_queue};
pub(super) use decide_queues::Surroundings;
pub(super) use deletion::Sealings;
pub(super) use open::{CATALOG_DIRECTORY, Incomplete, NewBroker, open_log};
pub(super) use queue_checks::check_owner;
pub use request::{
    Alteration, DeclaredQueue, PermissionChange, QueueAlteration, QueueDeclaration, SubscriptionDeclaration,
    UserChange,
};
pub(super) use request::{Answer, Request};
pub use salvage::LoggedChange;
pub(super) use salvage::logged_changes;
pub(super) use task::{CatalogCommand, CatalogTask, Stopped};
