//! Who somebody is and what they may open.
//!
//! Owns users, passwords and their argon2id hashes, and the decisions about logins, virtual hosts and what may be done in
//! them: values in, verdict out. Must never read a clock or randomness, keep users (the broker's catalog does) or see a socket; salts and keys
//! are arguments. Start reading at [`User`]; [`verify_login`] costs about 20 ms of processor by intent, so a caller runs
//! it away from its event loop and asks a [`LoginCache`] first.
//!
//! A login, in the order of calls: [`parse_plain`] · [`may_log_in_from`] · [`LoginCache::knows`] · [`verify_login`] ·
//! [`LoginCache::remember`] · [`may_open`]. Afterwards [`Access`] decides about each thing.

mod access;
mod limits;
mod login;
mod login_cache;
mod password;
mod pattern;
mod permissions;
mod plain;
mod user;

pub use access::Access;
pub use limits::{UserLimits, UserLimitsChange, VhostLimits, VhostLimitsChange};
pub use login::{DEFAULT_PASSWORD, DEFAULT_USER, login_refused, may_log_in_from, verify_login};
pub use login_cache::{KEY_BYTES, LoginCache};
pub use password::{
    HashError, PASSWORD_BYTES_MAX, Password, PasswordHash, PasswordRefused, SALT_BYTES, hash_password, verify,
};
pub use pattern::{PATTERN_BYTES_MAX, Pattern, PatternRefused};
pub use permissions::{Permission, Permissions, TopicPermissions, topic_pattern};
pub use plain::parse_plain;
pub use user::{TOPIC_PERMISSIONS_MAX, User, may_open};
