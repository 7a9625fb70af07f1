//! The routing keys of one message.

use std::iter;

/// The key that a message is published with, and further ones that it [names itself](crate::model::further_keys).
///
/// Exchanges that go by keys go by each of them; of those that choose one of their bindings for a message only the first counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys<'a> {
    /// That of the publication.
    pub first: &'a str,
    /// In the headers of the message; for nearly all messages none.
    pub further: &'a [String],
}

impl<'a> Keys<'a> {
    /// All of them; the first comes first.
    pub(crate) fn all(self) -> impl Iterator<Item = &'a str> {
        iter::once(self.first).chain(self.further.iter().map(String::as_str))
    }
}

impl<'a> From<&'a str> for Keys<'a> {
    fn from(first: &'a str) -> Self {
        Self { first, further: &[] }
    }
}

impl<'a> From<&'a String> for Keys<'a> {
    fn from(first: &'a String) -> Self {
        Self { first, further: &[] }
    }
}
