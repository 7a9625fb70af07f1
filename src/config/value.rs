//! Values of keys: reading them from text, checking their bounds, showing them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::key::Allowed;
use crate::auth::{DEFAULT_PASSWORD, Password};
use crate::model::{NAME_BYTES_MAX, without_line_end};

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Where to listen.
    Address(SocketAddr),
    /// A directory.
    Directory(PathBuf),
    /// True or false.
    Switch(bool),
    /// A number.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// One of a key's words.
    Choice(&'static str),
    /// A name.
    Name(String),
    /// A password. Shown only if it is the one everybody knows.
    Password(Password),
}

/// What stood where a value should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// Text: from the environment, a flag, or in quotes in a file.
    Text(&'a str),
    /// A number in a file, in decimal digits.
    Number(&'a str),
    /// True or false in a file.
    Switch(bool),
    /// Something else in a file, by the name of its type.
    Other(&'static str),
}

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "\"{}\"", text.escape_debug()),
            Self::Number(digits) => f.write_str(digits),
            Self::Switch(on) => on.fmt(f),
            Self::Other(kind) => write!(f, "a TOML {kind}"),
        }
    }
}

impl Value {
    /// Reads a value; `None` if it is none that the key takes. A file or a variable may end a name or a password with the
    /// end of a line: that is not part of it.
    pub(crate) fn read(allowed: &Allowed, input: Input<'_>) -> Option<Self> {
        match (*allowed, input) {
            (Allowed::Address, Input::Text(text)) => text.parse().ok().map(Self::Address),
            (Allowed::Directory, Input::Text(text)) => {
                (!text.is_empty() && !text.contains('\0')).then(|| Self::Directory(PathBuf::from(text)))
            }
            (Allowed::Switch, Input::Switch(on)) => Some(Self::Switch(on)),
            (Allowed::Switch, Input::Text(text)) => text.parse().ok().map(Self::Switch),
            (Allowed::Count { min, max, zero }, Input::Text(digits) | Input::Number(digits)) => {
                bounded(whole_number(digits)?, min, max, zero).map(Self::Count)
            }
            (Allowed::Bytes { min, max, zero }, Input::Text(digits) | Input::Number(digits)) => {
                bounded(bytes(digits)?, min, max, zero).map(Self::Bytes)
            }
            (Allowed::Choice(words), Input::Text(text)) => {
                words.iter().find(|word| **word == text).copied().map(Self::Choice)
            }
            (Allowed::Name { .. }, Input::Text(text)) => {
                let name = without_line_end(text);
                let is_name = name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
                is_name.then(|| Self::Name(name.to_owned()))
            }
            (Allowed::Password, Input::Text(text)) => {
                Password::new(without_line_end(text)).ok().map(Self::Password)
            }
            _ => None,
        }
    }

    /// The value for programs: numbers as numbers, sizes in bytes, a password hidden.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Switch(on) => json!(on),
            Self::Count(number) | Self::Bytes(number) => json!(number),
            other => json!(other.to_string()),
        }
    }
}

/// The value for people. A password is hidden, unless it is the default.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Directory(path) => path.display().fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::Count(number) => number.fmt(f),
            Self::Bytes(bytes) => f.write_str(&readable_bytes(*bytes)),
            Self::Choice(word) => f.write_str(word),
            Self::Name(name) if name.is_empty() => f.write_str("\"\""),
            Self::Name(name) => f.write_str(name),
            Self::Password(password) if password.reveal() == DEFAULT_PASSWORD => {
                f.write_str(DEFAULT_PASSWORD)
            }
            Self::Password(_) => f.write_str("(hidden)"),
        }
    }
}

/// A size in the largest unit that divides it, for instance "16 MiB"; plain bytes if none does.
pub(crate) fn readable_bytes(bytes: u64) -> String {
    UNITS
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| format!("{bytes} B"), |(unit, factor)| format!("{} {unit}", bytes / factor))
}

const UNITS: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

fn bounded(number: u64, min: u64, max: u64, zero: Option<&'static str>) -> Option<u64> {
    ((min..=max).contains(&number) || (number == 0 && zero.is_some())).then_some(number)
}

/// Decimal digits, with underscores between them where they help.
fn whole_number(text: &str) -> Option<u64> {
    if !text.starts_with(|first: char| first.is_ascii_digit())
        || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
    {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// A number of bytes: "16777216", "16 MiB", "16mib", "512 B".
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = (&text[..digits_end], text[digits_end..].trim_start());
    let number = whole_number(digits)?;
    if unit.is_empty() || unit.eq_ignore_ascii_case("b") {
        return Some(number);
    }
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(bytes(text), expect, "{text}");
        check("0", Some(0));
        check("16777216", Some(16 << 20));
        check("16_777_216", Some(16 << 20));
        check("16 MiB", Some(16 << 20));
        check("16mib", Some(16 << 20));
        check(" 2 GiB ", Some(2 << 30));
        check("1 TiB", Some(1 << 40));
        check("7 B", Some(7));
        check("", None);
        check("MiB", None);
        check("-1", None);
        check("1.5 GiB", None);
        check("16 MB", None);
        check("16 M", None);
        check("16 MiB x", None);
        check("18446744073709551616", None);
        check("18014398509481984 KiB", None);
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for size in [0, 1, 1023, 1024, 1025, 65_536, 16 << 20, (16 << 20) + 1, 3 << 30, 5 << 40] {
            assert_eq!(bytes(&readable_bytes(size)), Some(size));
        }
        assert_eq!(readable_bytes(16 << 20), "16 MiB");
        assert_eq!(readable_bytes((16 << 20) + (64 << 10)), "16448 KiB");
    }

    #[test]
    fn bounds_hold_and_zero_is_special() {
        let count = Allowed::Count { min: 2, max: 9, zero: None };
        let automatic = Allowed::Count { min: 2, max: 9, zero: Some("automatic") };
        let check = |allowed: &Allowed, text: &str, expect: Option<u64>| {
            assert_eq!(Value::read(allowed, Input::Number(text)), expect.map(Value::Count), "{text}");
        };
        check(&count, "2", Some(2));
        check(&count, "9", Some(9));
        check(&count, "1", None);
        check(&count, "10", None);
        check(&count, "0", None);
        check(&automatic, "0", Some(0));
        check(&automatic, "1", None);
        check(&count, "+2", None);
        check(&count, "_2", None);
        check(&count, "0x2", None);
    }

    #[test]
    fn types_do_not_turn_into_each_other() {
        let check = |allowed: Allowed, input: Input<'_>, accepted: bool| {
            assert_eq!(Value::read(&allowed, input).is_some(), accepted, "{allowed:?} {input:?}");
        };
        check(Allowed::Address, Input::Text("127.0.0.1:0"), true);
        check(Allowed::Address, Input::Text("[::1]:7672"), true);
        check(Allowed::Address, Input::Text("localhost:7672"), false);
        check(Allowed::Address, Input::Text("127.0.0.1"), false);
        check(Allowed::Address, Input::Number("7672"), false);
        check(Allowed::Switch, Input::Text("true"), true);
        check(Allowed::Switch, Input::Text("yes"), false);
        check(Allowed::Switch, Input::Number("1"), false);
        check(Allowed::Directory, Input::Text(""), false);
        check(Allowed::Directory, Input::Switch(true), false);
        check(Allowed::Choice(&["text", "json"]), Input::Text("JSON"), false);
        check(Allowed::Password, Input::Text(""), false);
        check(Allowed::Password, Input::Text("a\nb"), false);
        check(Allowed::Password, Input::Text("a\n\n"), false);
        check(Allowed::Password, Input::Text("\n"), false);
        check(Allowed::Password, Input::Number("1234"), false);
        check(Allowed::Password, Input::Other("array"), false);
        check(Allowed::Name { empty: "" }, Input::Text(""), true);
        check(Allowed::Name { empty: "" }, Input::Text(&"n".repeat(256)), false);
        check(Allowed::Name { empty: "" }, Input::Text("a\tb"), false);
    }

    #[test]
    fn the_end_of_a_line_is_not_part_of_a_name_or_a_password() {
        for text in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let password = Value::read(&Allowed::Password, Input::Text(text));
            assert_eq!(password, Password::new("s3cret").ok().map(Value::Password), "{text:?}");
            let name = Value::read(&Allowed::Name { empty: "" }, Input::Text(text));
            assert_eq!(name, Some(Value::Name("s3cret".to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_password_is_shown_only_if_everybody_knows_it() {
        let shown =
            |text: &str| Value::read(&Allowed::Password, Input::Text(text)).map(|value| value.to_json());
        assert_eq!(shown("guest"), Some(json!("guest")));
        assert_eq!(shown("hunter2"), Some(json!("(hidden)")));
    }
}
