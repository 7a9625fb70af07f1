//! Remembers logins that succeeded, so that ten thousand connections of one user do not each pay for a slow hash.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use sha2::{Digest, Sha256};

use super::password::{Password, PasswordHash};
use crate::model::UserName;

/// Length of the cache's key, in bytes. It must be random and new for every process.
pub const KEY_BYTES: usize = 32;

/// A bounded memory of successful logins.
///
/// Holds no password: an entry is the keyed SHA-256 of user, password and stored hash. A changed password changes the
/// stored hash and a deleted user has none, so no entry ever needs to be taken back. When full, the oldest goes.
pub struct LoginCache {
    key: [u8; KEY_BYTES],
    entries_max: usize,
    known: HashSet<[u8; 32]>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl LoginCache {
    /// An empty cache that holds `entries_max` logins at most (64 bytes and some overhead each); 0 remembers nothing.
    pub fn new(key: [u8; KEY_BYTES], entries_max: usize) -> Self {
        Self { key, entries_max, known: HashSet::new(), oldest_first: VecDeque::new() }
    }

    /// Whether this very login succeeded before, against this very hash.
    pub fn knows(&self, user: &UserName, password: &Password, stored: &PasswordHash) -> bool {
        self.known.contains(&self.fingerprint(user, password, stored))
    }

    /// Remembers a login that succeeded.
    pub fn remember(&mut self, user: &UserName, password: &Password, stored: &PasswordHash) {
        if self.entries_max == 0 {
            return;
        }
        let fingerprint = self.fingerprint(user, password, stored);
        if !self.known.insert(fingerprint) {
            return;
        }
        self.oldest_first.push_back(fingerprint);
        if self.oldest_first.len() > self.entries_max
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Number of logins remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Each part is preceded by its length, so that no two logins share their bytes.
    fn fingerprint(&self, user: &UserName, password: &Password, stored: &PasswordHash) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        for part in [user.as_str(), password.reveal(), &stored.to_string()] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().into()
    }
}

impl fmt::Debug for LoginCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginCache")
            .field("len", &self.len())
            .field("entries_max", &self.entries_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::password::{SALT_BYTES, hash_password};
    use super::*;

    fn user(name: &str) -> UserName {
        UserName::new(name).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    fn hash(text: &str, salt: u8) -> PasswordHash {
        hash_password(&password(text), &[salt; SALT_BYTES]).unwrap()
    }

    #[test]
    fn only_the_very_same_login_is_known() {
        let mut cache = LoginCache::new([5; KEY_BYTES], 10);
        let stored = hash("pw", 1);
        cache.remember(&user("ada"), &password("pw"), &stored);
        assert!(cache.knows(&user("ada"), &password("pw"), &stored));
        assert!(!cache.knows(&user("ada"), &password("pW"), &stored));
        assert!(!cache.knows(&user("adap"), &password("w"), &stored), "parts must not run together");
        assert!(!cache.knows(&user("ada"), &password("pw"), &hash("pw", 2)), "the password was set anew");
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut cache = LoginCache::new([5; KEY_BYTES], 2);
        let stored = hash("pw", 1);
        for name in ["a", "b", "b", "c"] {
            cache.remember(&user(name), &password("pw"), &stored);
        }
        let knows = |name: &str| cache.knows(&user(name), &password("pw"), &stored);
        assert_eq!((cache.len(), knows("a"), knows("b"), knows("c")), (2, false, true, true));
    }

    #[test]
    fn a_cache_of_nothing_remembers_nothing() {
        let mut cache = LoginCache::new([5; KEY_BYTES], 0);
        cache.remember(&user("a"), &password("pw"), &hash("pw", 1));
        assert!(cache.is_empty());
    }

    #[test]
    fn another_key_makes_other_fingerprints() {
        let stored = hash("pw", 1);
        let one = LoginCache::new([1; KEY_BYTES], 1).fingerprint(&user("a"), &password("pw"), &stored);
        let other = LoginCache::new([2; KEY_BYTES], 1).fingerprint(&user("a"), &password("pw"), &stored);
        assert_ne!(one, other);
    }
}
