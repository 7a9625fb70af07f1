//! What may wait in a queue and how long, as the arguments of its declaration say it.

use crate::model::{FieldTable, FieldValue, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL, OVERFLOW};
use crate::shard::Limits;

/// The arguments, by name.
pub(super) const LIMIT_ARGUMENTS: [&str; 4] = [MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL, OVERFLOW];
/// What is done with messages for which there is no room: the oldest make it.
const DROP_HEAD: &str = "drop-head";
/// Other ways of RabbitMQ's, for which programs are to be told that they are not here.
const OTHER_WAYS: [&str; 2] = ["reject-publish", "reject-publish-dlx"];
/// Ten years, as in RabbitMQ.
const TTL_MILLIS_MAX: i64 = 315_360_000_000;

/// An argument that says nothing that can be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NoLimit {
    /// Its name.
    pub(super) argument: &'static str,
    /// What it may be.
    pub(super) expected: String,
    /// What it says.
    pub(super) got: FieldValue,
    /// It means something, but not here.
    pub(super) is_to_come: bool,
}

/// Bounds of a queue with these arguments.
///
/// # Errors
/// The first argument that is none.
pub(super) fn limits_of(arguments: &FieldTable) -> Result<Limits, NoLimit> {
    let bound = |argument: &'static str, most: i64| match arguments.value(argument) {
        None => Ok(None),
        Some(FieldValue::Integer(bound)) if (0..=most).contains(bound) => Ok(Some(*bound as u64)),
        Some(got) => {
            let expected = format!("a whole number from 0 to {most}");
            Err(NoLimit { argument, expected, got: got.clone(), is_to_come: false })
        }
    };
    match arguments.value(OVERFLOW) {
        None => {}
        Some(FieldValue::Text(way)) if way == DROP_HEAD => {}
        Some(got) => {
            let is_to_come = matches!(got, FieldValue::Text(way) if OTHER_WAYS.contains(&way.as_str()));
            let expected = format!("\"{DROP_HEAD}\"");
            return Err(NoLimit { argument: OVERFLOW, expected, got: got.clone(), is_to_come });
        }
    }
    Ok(Limits {
        messages: bound(MAX_LENGTH, i64::MAX)?,
        bytes: bound(MAX_LENGTH_BYTES, i64::MAX)?,
        ttl_millis: bound(MESSAGE_TTL, TTL_MILLIS_MAX)?,
    })
}
