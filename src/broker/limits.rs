//! What may wait in a queue, how long, and what goes first, as the arguments of its declaration say it.

use crate::model::{
    CONSUMER_TIMEOUT, CONSUMER_TIMEOUT_MS_MIN, DELIVERY_LIMIT, EXPIRES, FieldTable, FieldValue, MAX_LENGTH,
    MAX_LENGTH_BYTES, MAX_PRIORITY, MESSAGE_TTL, OVERFLOW, Overflow,
};
use crate::shard::Limits;

/// The arguments, by name.
pub(super) const LIMIT_ARGUMENTS: [&str; 8] = [
    CONSUMER_TIMEOUT,
    DELIVERY_LIMIT,
    EXPIRES,
    MAX_LENGTH,
    MAX_LENGTH_BYTES,
    MAX_PRIORITY,
    MESSAGE_TTL,
    OVERFLOW,
];
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
}

/// Bounds of a queue with these arguments.
///
/// # Errors
/// The first argument that is none.
pub(super) fn limits_of(arguments: &FieldTable) -> Result<Limits, NoLimit> {
    let overflow = overflow_of(arguments)?;
    let messages = bound(arguments, MAX_LENGTH, (0, i64::MAX))?;
    let bytes = bound(arguments, MAX_LENGTH_BYTES, (0, i64::MAX))?;
    let ttl_millis = bound(arguments, MESSAGE_TTL, (0, MILLIS_MAX))?;
    // Without a bound a queue is never full.
    let overflow = if messages.or(bytes).is_some() { overflow } else { Overflow::default() };
    Ok(Limits { messages, bytes, ttl_millis, overflow })
}

fn overflow_of(arguments: &FieldTable) -> Result<Overflow, NoLimit> {
    let Some(got) = arguments.value(OVERFLOW) else { return Ok(Overflow::default()) };
    let known = match got {
        FieldValue::Text(name) => Overflow::of_name(name),
        _ => None,
    };
    known.ok_or_else(|| {
        let [one, two, three] = Overflow::ALL.map(Overflow::as_str);
        let expected = format!("\"{one}\", \"{two}\" or \"{three}\"");
        NoLimit { argument: OVERFLOW, expected, got: got.clone() }
    })
}

/// How often messages of a queue with these arguments may come back; `None`: for ever.
///
/// # Errors
/// The argument, if it is no number.
pub(super) fn delivery_limit_of(arguments: &FieldTable) -> Result<Option<u32>, NoLimit> {
    let limit = bound(arguments, DELIVERY_LIMIT, (0, i64::from(u32::MAX)))?;
    Ok(limit.and_then(|limit| u32::try_from(limit).ok()))
}

/// The highest priority of messages in a queue with these arguments; `None`: it knows none.
///
/// # Errors
/// The argument, if it is no priority.
pub(super) fn max_priority_of(arguments: &FieldTable) -> Result<Option<u8>, NoLimit> {
    let highest = bound(arguments, MAX_PRIORITY, (0, i64::from(u8::MAX)))?;
    Ok(highest.and_then(|highest| u8::try_from(highest).ok()))
}

/// For how many milliseconds whoever has a message of a queue with these arguments may keep it without settling it; `None`: as long as
/// the broker says of all.
///
/// # Errors
/// The argument, if it is no time, or too short a one.
pub(super) fn lease_of(arguments: &FieldTable) -> Result<Option<u64>, NoLimit> {
    bound(arguments, CONSUMER_TIMEOUT, (CONSUMER_TIMEOUT_MS_MIN as i64, MILLIS_MAX))
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
            Err(NoLimit { argument, expected, got: got.clone() })
        }
    }
}
