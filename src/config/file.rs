//! Reading a configuration file: TOML, one key a line, and the line of each kept.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::key::{KEYS, Key};
use super::settings::{GivenBy, Settings};
use super::value::Input;
use crate::model::nearest;

/// Puts a file's values into the settings; what is wrong is added to `problems`.
pub(crate) fn apply(settings: &mut Settings, file: &Path, text: &str, problems: &mut Vec<Problem>) {
    let origin = |offset: usize| GivenBy::File { file: file.to_owned(), line: line_of(text, offset) };
    let table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            problems.push(Problem::Malformed { origin: origin(offset), message: error.message().to_owned() });
            return;
        }
    };
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    for (name, value) in entries {
        let origin = origin(name.span().start);
        let name = name.into_inner();
        match Key::named(&name) {
            Some(key) => settings.put(key, input(value.get_ref()), origin, problems),
            None => problems.push(Problem::UnknownKey {
                nearest: nearest(&name, KEYS.iter().map(|key| key.name)),
                name: name.into_owned(),
                origin,
            }),
        }
    }
}

fn input<'a>(value: &'a DeValue<'_>) -> Input<'a> {
    match value {
        DeValue::String(text) => Input::Text(text),
        DeValue::Integer(integer) if integer.radix() == 10 => Input::Number(integer.as_str()),
        DeValue::Boolean(on) => Input::Switch(*on),
        DeValue::Integer(_) => Input::Other("integer that is not decimal"),
        other => Input::Other(other.type_str()),
    }
}

/// The line, counted from 1, on which a byte stands.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
