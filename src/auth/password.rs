//! Passwords and their hashes.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc};
use argon2::{Algorithm, Argon2, Params, Version};

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Length of a salt, in bytes. It must be random and new for every hash.
pub const SALT_BYTES: usize = 16;

/// Largest memory cost that a stored hash may ask for, in KiB. Hashes made here use 19 MiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Most passes that a stored hash may ask for. Hashes made here use 2.
const PASSES_MAX: u32 = 16;

/// Most lanes that a stored hash may ask for. Hashes made here use 1.
const LANES_MAX: u32 = 16;

/// A password in the clear: 1 to 1,024 bytes without control characters, which a keyboard does not give and a file or a
/// variable easily adds. Printing it shows that there is one, and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

/// Why a password was refused. Never repeats any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordRefused {
    /// It has no bytes, or more than [`PASSWORD_BYTES_MAX`].
    Length {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has a control character, such as the end of a line.
    ControlCharacter,
}

impl fmt::Display for PasswordRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { bytes } => {
                write!(f, "a password has 1 to {PASSWORD_BYTES_MAX} bytes, this one has {bytes}")
            }
            Self::ControlCharacter => f.write_str(
                "a password has no control characters, and this one has, perhaps the end of a line",
            ),
        }
    }
}

impl std::error::Error for PasswordRefused {}

impl Password {
    /// Checks the length and what it is made of.
    pub fn new(password: &str) -> Result<Self, PasswordRefused> {
        match password.len() {
            1..=PASSWORD_BYTES_MAX if password.contains(char::is_control) => {
                Err(PasswordRefused::ControlCharacter)
            }
            1..=PASSWORD_BYTES_MAX => Ok(Self(Arc::from(password))),
            bytes => Err(PasswordRefused::Length { bytes }),
        }
    }

    /// The password itself. Never goes into a log or a message.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// An argon2id hash with its salt and costs, written as a PHC string:
/// `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Arc<phc::PasswordHash>);

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashError {
    /// The 19 MiB that a hash needs could not be had. Nothing changed; it may work later.
    OutOfMemory,
    /// The text is no PHC string with a salt and a hash.
    Malformed,
    /// The text is a PHC string of another function than argon2id.
    NotArgon2id,
    /// The costs are invalid, or beyond 256 MiB, 16 passes or 16 lanes.
    Costs,
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "not enough memory to hash a password (it takes 19 MiB)",
            Self::Malformed => "not a password hash: expected $argon2id$v=19$m=..,t=..,p=..$salt$hash",
            Self::NotArgon2id => "not an argon2id hash of version 19",
            Self::Costs => {
                "the hash asks for costs outside what is allowed: 256 MiB of memory, 16 passes, 16 lanes at most"
            }
        })
    }
}

impl std::error::Error for HashError {}

impl PasswordHash {
    /// Reads a PHC string and checks that verifying against it is possible at a bounded cost.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| HashError::Malformed)?;
        let version_is_current = hash.version.is_none_or(|version| version == u32::from(Version::V0x13));
        if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() || !version_is_current {
            return Err(HashError::NotArgon2id);
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(HashError::Malformed);
        }
        let costs = Params::try_from(&hash).map_err(|_| HashError::Costs)?;
        if costs.m_cost() > MEMORY_KIB_MAX || costs.t_cost() > PASSES_MAX || costs.p_cost() > LANES_MAX {
            return Err(HashError::Costs);
        }
        Ok(Self(Arc::new(hash)))
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

/// Hashes a password with argon2id at OWASP's recommended cost (19 MiB, 2 passes, 1 lane): about 20 ms.
pub fn hash_password(password: &Password, salt: &[u8; SALT_BYTES]) -> Result<PasswordHash, HashError> {
    let hash = argon2id()
        .hash_password_with_salt(password.reveal().as_bytes(), salt)
        .map_err(|_| HashError::OutOfMemory)?;
    Ok(PasswordHash(Arc::new(hash)))
}

/// Whether the password is the one that was hashed. Compares in constant time; false also if memory is short.
pub fn verify(password: &Password, hash: &PasswordHash) -> bool {
    argon2id().verify_password(password.reveal().as_bytes(), hash.0.as_ref()).is_ok()
}

fn argon2id() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[test]
    fn the_right_password_verifies_and_others_do_not() {
        let hash = hash_password(&password("correct horse"), &[7; SALT_BYTES]).unwrap();
        assert!(verify(&password("correct horse"), &hash));
        assert!(!verify(&password("correct horsf"), &hash));
        assert!(!verify(&password("correct hors"), &hash));
    }

    #[test]
    fn a_hash_survives_being_written_and_read() {
        let hash = hash_password(&password("s3cret"), &[1; SALT_BYTES]).unwrap();
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let read = PasswordHash::parse(&text).unwrap();
        assert_eq!(read, hash);
        assert!(verify(&password("s3cret"), &read));
    }

    #[test]
    fn the_salt_makes_equal_passwords_differ() {
        let one = hash_password(&password("same"), &[1; SALT_BYTES]).unwrap();
        let other = hash_password(&password("same"), &[2; SALT_BYTES]).unwrap();
        assert_ne!(one, other);
    }

    #[test]
    fn hashes_that_cannot_be_trusted_are_refused() {
        let tail = "$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let check = |head: &str, expect: HashError| {
            assert_eq!(PasswordHash::parse(&format!("{head}{tail}")), Err(expect), "{head}");
        };
        check("", HashError::Malformed);
        check("$argon2i$v=19$m=19456,t=2,p=1", HashError::NotArgon2id);
        check("$argon2id$v=16$m=19456,t=2,p=1", HashError::NotArgon2id);
        check("$argon2id$v=19$m=262145,t=2,p=1", HashError::Costs);
        check("$argon2id$v=19$m=4294967295,t=2,p=1", HashError::Costs);
        check("$argon2id$v=19$m=19456,t=17,p=1", HashError::Costs);
        check("$argon2id$v=19$m=19456,t=2,p=17", HashError::Costs);
        check("$argon2id$v=19$m=19456,t=0,p=1", HashError::Costs);
        assert!(PasswordHash::parse(&format!("$argon2id$v=19$m=19456,t=2,p=1{tail}")).is_ok());
        assert_eq!(PasswordHash::parse("$argon2id$v=19$m=19456,t=2,p=1"), Err(HashError::Malformed));
        assert_eq!(PasswordHash::parse("guest"), Err(HashError::Malformed));
    }

    #[test]
    fn passwords_have_bounds_and_stay_hidden() {
        assert_eq!(Password::new(""), Err(PasswordRefused::Length { bytes: 0 }));
        assert!(Password::new(&"x".repeat(PASSWORD_BYTES_MAX)).is_ok());
        let too_long = "x".repeat(PASSWORD_BYTES_MAX + 1);
        assert_eq!(Password::new(&too_long), Err(PasswordRefused::Length { bytes: 1025 }));
        for text in ["s3cret\n", "s3cret\r\n", "s3\0cret", "\x1b[A", "s3cret\u{85}"] {
            assert_eq!(Password::new(text), Err(PasswordRefused::ControlCharacter), "{text:?}");
        }
        assert!(Password::new("naïve 🔑 ").is_ok(), "spaces count");
        assert!(!format!("{:?}", password("hunter2")).contains("hunter2"));
        let hash = hash_password(&password("x"), &[9; SALT_BYTES]).unwrap();
        assert!(!format!("{hash:?}").contains("argon2id$"));
    }
}
