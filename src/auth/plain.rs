//! The PLAIN mechanism (RFC 4616): `[identity to act as] NUL user NUL password`.

use crate::model::{Entity, Refusal, ReplyCode, UserName};

use super::login::login_refused;
use super::password::{Password, PasswordRefused};

/// Reads what a client sent with mechanism PLAIN. A refusal never repeats any of the bytes.
///
/// Refused with 502 if the form is wrong, and with 403 if the form is right but no such login can exist (no user name,
/// no password, or one that is too long or has control characters).
pub fn parse_plain(response: &[u8]) -> Result<(UserName, Password), Refusal> {
    let mut parts = response.split(|byte| *byte == 0);
    let (Some(acting_as), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let nuls = response.iter().filter(|byte| **byte == 0).count();
        return Err(malformed(format!("{} bytes with {nuls} NUL among them", response.len())));
    };
    // RFC 4616 section 2: a server that cannot let one user act as another refuses to.
    if !acting_as.is_empty() && acting_as != user {
        return Err(malformed("a first part that names another user".to_owned()));
    }
    let (Ok(user), Ok(password)) = (str::from_utf8(user), str::from_utf8(password)) else {
        return Err(malformed("bytes that are not UTF-8".to_owned()));
    };
    if user.is_empty() {
        return Err(login_refused(user));
    }
    match (UserName::new(user), Password::new(password)) {
        (Ok(user), Ok(password)) => Ok((user, password)),
        (Err(_), _) => Err(login_refused("")),
        (Ok(user), Err(PasswordRefused::Length { .. })) => Err(login_refused(&user)),
        // What was sent says so, whatever is stored.
        (Ok(user), Err(PasswordRefused::ControlCharacter)) => {
            Err(login_refused(&user)
                .hint("the password has a control character, perhaps the line end of a file"))
        }
    }
}

fn malformed(got: String) -> Refusal {
    Refusal::new(ReplyCode::SyntaxError, "the login does not have the form that PLAIN asks for")
        .about(Entity::Connection, "")
        .field("response", "NUL, user name, NUL, password", got)
        .hint("see RFC 4616")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_read() {
        let check = |response: &[u8], user: &str, password: &str| {
            let login = parse_plain(response).unwrap();
            assert_eq!((login.0.as_str(), login.1.reveal()), (user, password));
        };
        check(b"\0guest\0guest", "guest", "guest");
        check(b"guest\0guest\0guest", "guest", "guest");
        check("\0bjørn\0naïve 🔑".as_bytes(), "bjørn", "naïve 🔑");
    }

    #[test]
    fn everything_else_is_refused() {
        let check = |response: &[u8], expect: ReplyCode| {
            assert_eq!(parse_plain(response).unwrap_err().code, expect, "{response:?}");
        };
        check(b"", ReplyCode::SyntaxError);
        check(b"guest", ReplyCode::SyntaxError);
        check(b"guest\0guest", ReplyCode::SyntaxError);
        check(b"\0a\0b\0c", ReplyCode::SyntaxError);
        check(b"root\0guest\0guest", ReplyCode::SyntaxError);
        check(b"\0\xff\0guest", ReplyCode::SyntaxError);
        check(b"\0guest\0\xff", ReplyCode::SyntaxError);
        check(b"\0\0guest", ReplyCode::AccessRefused);
        check(b"\0guest\0", ReplyCode::AccessRefused);
        check(format!("\0{}\0p", "u".repeat(256)).as_bytes(), ReplyCode::AccessRefused);
        check(format!("\0u\0{}", "p".repeat(1025)).as_bytes(), ReplyCode::AccessRefused);
        check(b"\0u\0p\n", ReplyCode::AccessRefused);
        assert!(parse_plain(b"\0u\0p\n").unwrap_err().hint.contains("line end"));
    }

    #[test]
    fn a_refusal_never_repeats_the_password() {
        for response in [&b"\0user\0hunter2\0"[..], b"other\0user\0hunter2", b"hunter2"] {
            let refusal = parse_plain(response).unwrap_err();
            assert!(!format!("{refusal:?}").contains("hunter2"));
        }
    }
}
