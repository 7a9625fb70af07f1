//! For how long a queue holds back what comes back.

use std::time::Duration;

use super::convert::millis;
use crate::model::{
    DELAYED_RETRY_JITTER, DELAYED_RETRY_MAX, DELAYED_RETRY_MIN, DELAYED_RETRY_MULTIPLIER, DELAYED_RETRY_TYPE,
    FieldTable, FieldValue, RetryOn,
};

/// A queue's policy for messages that come back: how long each is held back before it goes out once more. Unless it says more,
/// twice as long the second time as the first, three times as long the third time, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    most: Option<Duration>,
    multiplier: Option<u32>,
    jitter_percent: Option<u8>,
    on: Option<RetryOn>,
}

impl Retry {
    /// So long the first time: 1 ms to ten years.
    pub fn after(first: Duration) -> Self {
        Self { first, most: None, multiplier: None, jitter_percent: None, on: None }
    }

    /// So long at most, however often it came back.
    pub fn at_most(self, most: Duration) -> Self {
        Self { most: Some(most), ..self }
    }

    /// So many times as long as the time before: 1 for the same each time, 2 for twice as long.
    pub fn times(self, multiplier: u32) -> Self {
        Self { multiplier: Some(multiplier), ..self }
    }

    /// Shorter by up to so many percent, by chance, so that what failed together is not tried again together: 0 to 100.
    pub fn jitter_percent(self, percent: u8) -> Self {
        Self { jitter_percent: Some(percent), ..self }
    }

    /// For these returns alone.
    pub fn on(self, on: RetryOn) -> Self {
        Self { on: Some(on), ..self }
    }

    pub(super) fn put_into(self, arguments: &mut FieldTable) {
        let whole = |number: u64| FieldValue::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let given = [
            (DELAYED_RETRY_MIN, Some(whole(millis(self.first)))),
            (DELAYED_RETRY_MAX, self.most.map(millis).map(whole)),
            (DELAYED_RETRY_MULTIPLIER, self.multiplier.map(|multiplier| whole(multiplier.into()))),
            (DELAYED_RETRY_JITTER, self.jitter_percent.map(|percent| whole(percent.into()))),
            (DELAYED_RETRY_TYPE, self.on.map(|on| FieldValue::Text(on.as_str().to_owned()))),
        ];
        for (name, value) in given {
            match value {
                None => drop(arguments.0.remove(name)),
                Some(value) => drop(arguments.0.insert(name.to_owned(), value)),
            }
        }
    }
}
