//! What may wait in a queue and how long, as the arguments of its declaration say it.

use crate::model::{EXPIRES, FieldTable, FieldValue, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL, OVERFLOW};
use crate::shard::Limits;

/// The arguments, by name.
pub(super) const LIMIT_ARGUMENTS: [&str; 5] = [EXPIRES, MAX_LENGTH, MAX_LENGTH_BYTES, MESSAGE_TTL, OVERFLOW];
/// What is done with messages for which there is no room: the oldest make it.
const DROP_HEAD: &str = "drop-head";
/// Other ways of RabbitMQ's, for which programs are to be told that they are not here.
const OTHER_WAYS: [&str; 2] = ["reject-publish", "reject-publish-dlx"];
/// Ten years, as in RabbitMQ.
pub(super) const MILLIS_MAX: i64 = 315_360_000_000;

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
        messages: bound(arguments, MAX_LENGTH, (0, i64::MAX))?,
        bytes: bound(arguments, MAX_LENGTH_BYTES, (0, i64::MAX))?,
        ttl_millis: bound(arguments, MESSAGE_TTL, (0, MILLIS_MAX))?,
    })
}

/// Milliseconds without a consumer after which a queue with these arguments goes; `None`: it stays.
///
/// # Errors
/// The argument, if it is no time.
pub(super) fn expiry_of(arguments: &FieldTable) -> Result<Option<u64>, NoLimit> {
    bound(arguments, EXPIRES, (1, MILLIS_MAX))
}

fn bound(
    arguments: &FieldTable,
    argument: &'static str,
    (least, most): (i64, i64),
) -> Result<Option<u64>, NoLimit> {
    match arguments.value(argument) {
        None => Ok(None),
        Some(FieldValue::Integer(bound)) if (least..=most).contains(bound) => Ok(Some(*bound as u64)),
        Some(got) => {
            let expected = format!("a whole number from {least} to {most}");
            Err(NoLimit { argument, expected, got: got.clone(), is_to_come: false })
        }
    }
}
