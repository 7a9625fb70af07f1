//! Schemas as they are typed: a pattern of keys, and a file.

use std::fs;

use super::failure::Failure;
use crate::client::MessageSchema;

/// `PATTERN=FILE` or `PATTERN=FILE:MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaFile {
    pub(super) pattern: String,
    path: String,
    /// Full name of a message: then the file is a descriptor of protobuf.
    message: Option<String>,
}

/// Reads what was typed.
pub(super) fn parse(typed: &str) -> Result<SchemaFile, String> {
    let Some((pattern, file)) = typed.split_once('=').filter(|(_, file)| !file.is_empty()) else {
        return Err("expected PATTERN=FILE, or PATTERN=FILE:MESSAGE for a descriptor of protobuf".to_owned());
    };
    let (path, message) = match file.rsplit_once(':') {
        Some((path, message)) if !path.is_empty() && is_full_name(message) => {
            (path, Some(message.to_owned()))
        }
        _ => (file, None),
    };
    Ok(SchemaFile { pattern: pattern.to_owned(), path: path.to_owned(), message })
}

fn is_full_name(text: &str) -> bool {
    text.split('.').all(|word| {
        let mut letters = word.chars();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

impl SchemaFile {
    /// Reads the file.
    pub(super) fn read(&self) -> Result<MessageSchema, Failure> {
        let bytes = fs::read(&self.path)
            .map_err(|error| Failure::usage(format!("--schema: cannot read '{}': {error}", self.path)))?;
        match &self.message {
            Some(message) => Ok(MessageSchema::protobuf(bytes, message)),
            None => String::from_utf8(bytes).map(MessageSchema::json).map_err(|_| {
                Failure::usage(format!(
                    "--schema: '{}' is no text, so it is no JSON Schema; name the message of a descriptor: \
                     PATTERN=FILE:MESSAGE",
                    self.path
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, pattern: &str, path: &str, message: Option<&str>) {
        let message = message.map(str::to_owned);
        let expect = SchemaFile { pattern: pattern.to_owned(), path: path.to_owned(), message };
        assert_eq!(parse(typed), Ok(expect), "{typed}");
    }

    #[test]
    fn a_schema_is_a_pattern_and_a_file_and_perhaps_a_message() {
        check("order.*=order.schema.json", "order.*", "order.schema.json", None);
        check("chore.#=chores.desc:demo.v1.Chore", "chore.#", "chores.desc", Some("demo.v1.Chore"));
        check("=any.json", "", "any.json", None);
        check("a=/x:y/z.json", "a", "/x:y/z.json", None);
        check("a=x=y", "a", "x=y", None);
        assert!(parse("order.*").is_err() && parse("order.*=").is_err());
    }
}
