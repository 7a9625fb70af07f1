//! Who somebody is and what they may open.
//!
//! Owns users, passwords and their argon2id hashes, and the decisions about logins and virtual hosts: values in, verdict
//! out. Must never read a clock or randomness, keep users (the broker's catalog does) or see a socket; salts and keys
//! are arguments. Start reading at [`User`]; [`verify_login`] costs about 20 ms of processor by intent, so a caller runs
//! it away from its event loop and asks a [`LoginCache`] first.
//!
//! A login, in the order of calls: [`parse_plain`] · [`may_log_in_from`] · [`LoginCache::knows`] · [`verify_login`] ·
//! [`LoginCache::remember`] · [`may_open`].

mod login;
mod login_cache;
mod password;
mod plain;
mod user;

pub use login::{DEFAULT_PASSWORD, DEFAULT_USER, login_refused, may_log_in_from, verify_login};
pub use login_cache::{KEY_BYTES, LoginCache};
pub use password::{
    HashError, PASSWORD_BYTES_MAX, Password, PasswordHash, PasswordRefused, SALT_BYTES, hash_password, verify,
};
pub use plain::parse_plain;
pub use user::{User, may_open};
