//! What may wait in a queue, how long, and what goes first, as the arguments of its declaration say it.

use crate::model::{
    CONSUMER_TIMEOUT, CONSUMER_TIMEOUT_MS_MIN, DELAYED_RETRY_JITTER, DELAYED_RETRY_MAX, DELAYED_RETRY_MIN,
    DELAYED_RETRY_MULTIPLIER, DELAYED_RETRY_TYPE, DELIVERY_LIMIT, EXPIRES, FieldTable, FieldValue,
    MAX_LENGTH, MAX_LENGTH_BYTES, MAX_PRIORITY, MESSAGE_TTL, MILLIS_MAX, OVERFLOW, Overflow, RetryOn,
};
use crate::shard::{Limits, Retry};

/// The arguments, by name.
pub(super) const LIMIT_ARGUMENTS: [&str; 13] = [
    CONSUMER_TIMEOUT,
    DELAYED_RETRY_JITTER,
    DELAYED_RETRY_MAX,
    DELAYED_RETRY_MIN,
    DELAYED_RETRY_MULTIPLIER,
    DELAYED_RETRY_TYPE,
    DELIVERY_LIMIT,
    EXPIRES,
    MAX_LENGTH,
    MAX_LENGTH_BYTES,
    MAX_PRIORITY,
    MESSAGE_TTL,
    OVERFLOW,
];
/// What stands in [`DELAYED_RETRY_TYPE`] where nothing is to be held back.
const DISABLED: &str = "disabled";
/// Longest time, in milliseconds.
const TIME_MAX: i64 = MILLIS_MAX as i64;

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
    let ttl_millis = bound(arguments, MESSAGE_TTL, (0, TIME_MAX))?;
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
    bound(arguments, CONSUMER_TIMEOUT, (CONSUMER_TIMEOUT_MS_MIN as i64, TIME_MAX))
}

/// For how long what comes back to a queue with these arguments is held back; `None`: not at all.
///
/// # Errors
/// The first argument that says nothing that can be done.
pub(super) fn retry_of(arguments: &FieldTable) -> Result<Option<Retry>, NoLimit> {
    let on = match arguments.value(DELAYED_RETRY_TYPE) {
        None => Some(RetryOn::default()),
        Some(FieldValue::Text(name)) if name == DISABLED => None,
        Some(got) => {
            let known = match got {
                FieldValue::Text(name) => RetryOn::of_name(name),
                _ => None,
            };
            Some(known.ok_or_else(|| {
                let [one, two, three] = RetryOn::ALL.map(RetryOn::as_str);
                let expected = format!("\"{DISABLED}\", \"{one}\", \"{two}\" or \"{three}\"");
                NoLimit { argument: DELAYED_RETRY_TYPE, expected, got: got.clone() }
            })?)
        }
    };
    let min = bound(arguments, DELAYED_RETRY_MIN, (1, TIME_MAX))?;
    let max_millis = bound(arguments, DELAYED_RETRY_MAX, (1, TIME_MAX))?;
    let multiplier = bound(arguments, DELAYED_RETRY_MULTIPLIER, (1, i64::from(u32::MAX)))?;
    let jitter = bound(arguments, DELAYED_RETRY_JITTER, (0, 100))?;
    let Some((on, min_millis)) = on.zip(min) else { return Ok(None) };
    Ok(Some(Retry {
        on,
        min_millis,
        max_millis,
        multiplier: multiplier.and_then(|multiplier| u32::try_from(multiplier).ok()),
        jitter_percent: jitter.and_then(|jitter| u8::try_from(jitter).ok()).unwrap_or(0),
    }))
}

/// Milliseconds without a consumer after which a queue with these arguments goes; `None`: it stays.
///
/// # Errors
/// The argument, if it is no time.
pub(super) fn expiry_of(arguments: &FieldTable) -> Result<Option<u64>, NoLimit> {
    bound(arguments, EXPIRES, (1, TIME_MAX))
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
