//! What is wrong: with a schema, or with what should fit one.

use std::fmt;

/// Longest value shown in a sentence, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a schema is none, or none that this broker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// In words that follow "the schema".
    pub text: String,
    /// Where in the schema, as a JSON pointer or the name of a message; empty: as a whole.
    pub place: String,
    /// What would have been right.
    pub expected: String,
    /// What was there instead.
    pub got: String,
}

impl SchemaFault {
    pub(super) fn new(text: impl Into<String>, expected: impl Into<String>, got: impl fmt::Display) -> Self {
        Self {
            text: text.into(),
            place: String::new(),
            expected: expected.into(),
            got: shown(&got.to_string()),
        }
    }

    pub(super) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = place.into();
        self
    }
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.place.is_empty() { Ok(()) } else { write!(f, " (at {})", shown(&self.place)) }
    }
}

/// How what a message carries does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Which field of the body, such as `body.items[2].price`; `body`: all of it.
    pub field: String,
    /// What the schema asks for.
    pub expected: String,
    /// What is there.
    pub got: String,
    /// Where the schema says so; empty if that makes no sense.
    pub rule: String,
}

impl Misfit {
    pub(super) fn new(field: impl Into<String>, expected: impl Into<String>, got: impl fmt::Display) -> Self {
        Self { field: field.into(), expected: expected.into(), got: got.to_string(), rule: String::new() }
    }

    pub(super) fn of_body(expected: impl Into<String>, got: impl fmt::Display) -> Self {
        Self::new("body", expected, got)
    }
}

/// Text as it is shown in a sentence: cut if it is long, and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).map(plain).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

fn plain(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

/// A field of an object behind the path to it.
pub(super) fn push_name(path: &mut String, name: &str) {
    let is_word = |character: char| character.is_alphanumeric() || character == '_' || character == '-';
    if !name.is_empty() && name.chars().all(is_word) {
        path.push('.');
        path.push_str(&shown(name));
    } else {
        path.push_str(&format!("[\"{}\"]", shown(name)));
    }
}
