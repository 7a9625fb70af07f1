//! What a queue retains of messages that consumers are done with, as the arguments of its declaration say it.

use crate::model::{FieldTable, FieldValue, RETAIN_BYTES, RETAIN_MESSAGES, RETAIN_MILLIS};
use crate::shard::Retention;

/// The arguments, by name.
pub(super) const RETENTION_ARGUMENTS: [&str; 3] = [RETAIN_MILLIS, RETAIN_MESSAGES, RETAIN_BYTES];

/// An argument that is no bound.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NoBound {
    /// Its name.
    pub(super) argument: &'static str,
    /// What it says.
    pub(super) got: FieldValue,
}

/// The arguments of a queue that retains this.
pub fn retention_arguments(retention: Retention) -> FieldTable {
    let bounds = [retention.age_millis, retention.messages, retention.bytes];
    let given = RETENTION_ARGUMENTS.into_iter().zip(bounds).filter_map(|(name, bound)| Some((name, bound?)));
    let integer = |bound: u64| FieldValue::Integer(i64::try_from(bound).unwrap_or(i64::MAX));
    FieldTable(given.map(|(name, bound)| (name.to_owned(), integer(bound))).collect())
}

/// What a queue with these arguments retains; `None`: nothing.
///
/// # Errors
/// The first argument that is no whole number from 1 on.
pub(super) fn retention_of(arguments: &FieldTable) -> Result<Option<Retention>, NoBound> {
    let bound = |argument: &'static str| match arguments.value(argument) {
        None => Ok(None),
        Some(FieldValue::Integer(bound)) if *bound > 0 => Ok(Some(*bound as u64)),
        Some(other) => Err(NoBound { argument, got: other.clone() }),
    };
    let retention = Retention {
        age_millis: bound(RETAIN_MILLIS)?,
        messages: bound(RETAIN_MESSAGES)?,
        bytes: bound(RETAIN_BYTES)?,
    };
    Ok((retention != Retention::default()).then_some(retention))
}
