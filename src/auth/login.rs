//! Logins: who may come from where, and whether the password is right.

use std::hint::black_box;

use crate::model::{Entity, Refusal, ReplyCode, UserName};

use super::password::{Password, PasswordHash, SALT_BYTES, hash_password, verify};

/// Name of the user that a new broker has, unless configured.
pub const DEFAULT_USER: &str = "guest";

/// Password of the user that a new broker has, unless configured. Everybody knows it.
pub const DEFAULT_PASSWORD: &str = "guest";

/// Refuses the login that everybody knows, guest with password guest, unless it comes from this very machine.
///
/// Depends on what was typed alone, so that the answer is the same whether or not the password was changed since.
pub fn may_log_in_from(user: &UserName, password: &Password, peer_is_loopback: bool) -> Result<(), Refusal> {
    let known_to_everybody = user.as_str() == DEFAULT_USER && password.reveal() == DEFAULT_PASSWORD;
    if peer_is_loopback || !known_to_everybody {
        return Ok(());
    }
    Err(Refusal::new(
        ReplyCode::AccessRefused,
        format!("user '{DEFAULT_USER}' with the password everybody knows may log in from the broker's own machine only"),
    )
    .about(Entity::User, DEFAULT_USER)
    .hint("log in as another user, or give this one another password with `leveret user put` on the broker's machine"))
}

/// Whether the password is right for the stored hash; `None` stands for a user that does not exist.
///
/// Takes as long for an unknown user as for a wrong password, so that nobody learns which names exist.
pub fn verify_login(password: &Password, stored: Option<&PasswordHash>) -> bool {
    match stored {
        Some(hash) => verify(password, hash),
        None => {
            let wasted = hash_password(password, &[0; SALT_BYTES]);
            let _ = black_box(wasted);
            false
        }
    }
}

/// The one refusal for unknown users and wrong passwords, which says nothing about which it was.
pub fn login_refused(user: &str) -> Refusal {
    Refusal::new(ReplyCode::AccessRefused, format!("login refused for user '{user}'"))
        .about(Entity::User, user)
        .hint("check user name and password")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_login_everybody_knows_works_from_loopback_only() {
        let check = |user: &str, password: &str, loopback: bool, allowed: bool| {
            let user = UserName::new(user).unwrap();
            let password = Password::new(password).unwrap();
            assert_eq!(may_log_in_from(&user, &password, loopback).is_ok(), allowed, "{user} {loopback}");
        };
        check("guest", "guest", true, true);
        check("guest", "guest", false, false);
        check("guest", "changed", false, true);
        check("ada", "guest", false, true);
    }

    #[test]
    fn an_unknown_user_is_refused_whatever_the_password() {
        let password = Password::new("guest").unwrap();
        let hash = hash_password(&password, &[3; SALT_BYTES]).unwrap();
        assert!(verify_login(&password, Some(&hash)));
        assert!(!verify_login(&Password::new("other").unwrap(), Some(&hash)));
        assert!(!verify_login(&password, None));
    }
}
