//! For how long messages that come back are held back before they go out once more.

use std::hash::BuildHasher;

use super::departure::Return;
use crate::model::{MILLIS_MAX, RetryOn};

/// A queue's policy for what comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retry {
    /// Which returns it is for.
    pub on: RetryOn,
    /// Milliseconds after the first return.
    pub min_millis: u64,
    /// Milliseconds at most after any; `None`: no bound but ten years.
    pub max_millis: Option<u64>,
    /// By how much a delay is longer than the one before; `None`: the second one is twice the first, the third one three times.
    pub multiplier: Option<u32>,
    /// By how much of itself, in percent, a delay may be shorter, by chance.
    pub jitter_percent: u8,
}

impl Retry {
    /// For how many milliseconds a message is held back that came back so often; `None`: not at all. What is left to chance hangs on
    /// the message and the number alone.
    pub fn delay_millis(&self, why: Return, count: u32, sequence: u64) -> Option<u64> {
        let is_meant = match (self.on, why) {
            (RetryOn::All, _) => true,
            (RetryOn::Failed, why) => why == Return::Requeued,
            (RetryOn::Returned, why) => why == Return::ConsumerGone,
        };
        if !is_meant {
            return None;
        }
        let attempt = count.max(1);
        let factor = match self.multiplier {
            None => u64::from(attempt),
            Some(multiplier) => u64::from(multiplier).saturating_pow(attempt - 1),
        };
        let most = self.max_millis.unwrap_or(MILLIS_MAX).min(MILLIS_MAX);
        let delay = self.min_millis.saturating_mul(factor).min(most);
        let chance = foldhash::fast::FixedState::default().hash_one((sequence, attempt)) >> 32;
        let percent = u128::from(self.jitter_percent.min(100));
        let shorter = u128::from(delay) * percent * u128::from(chance) / (100 << 32);
        Some(delay - shorter as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: Retry = Retry {
        on: RetryOn::All,
        min_millis: 100,
        max_millis: Some(1_000),
        multiplier: None,
        jitter_percent: 0,
    };

    fn delays(retry: Retry, counts: &[u32]) -> Vec<u64> {
        counts
            .iter()
            .map(|count| retry.delay_millis(Return::Requeued, *count, 7).unwrap_or(u64::MAX))
            .collect()
    }

    #[test]
    fn delays_grow_up_to_the_longest() {
        assert_eq!(
            delays(LINEAR, &[0, 1, 2, 3, 10, 11, u32::MAX]),
            [100, 100, 200, 300, 1_000, 1_000, 1_000]
        );
        let doubling = Retry { multiplier: Some(2), ..LINEAR };
        assert_eq!(
            delays(doubling, &[1, 2, 3, 4, 5, 64, u32::MAX]),
            [100, 200, 400, 800, 1_000, 1_000, 1_000]
        );
        let constant = Retry { multiplier: Some(1), ..LINEAR };
        assert_eq!(delays(constant, &[1, 2, u32::MAX]), [100, 100, 100]);
        let unbounded = Retry { max_millis: None, multiplier: Some(10), ..LINEAR };
        assert_eq!(delays(unbounded, &[5, 100]), [1_000_000, MILLIS_MAX]);
    }

    #[test]
    fn jitter_makes_them_shorter_by_chance_and_the_same_each_time() {
        let retry = Retry { jitter_percent: 50, multiplier: Some(1), min_millis: 1_000, ..LINEAR };
        let of = |sequence| retry.delay_millis(Return::Requeued, 1, sequence).unwrap_or(0);
        let all: Vec<u64> = (0..1_000).map(of).collect();
        assert!(all.iter().all(|delay| (501..=1_000).contains(delay)));
        assert!(all.iter().any(|delay| *delay < 550) && all.iter().any(|delay| *delay > 950));
        assert_eq!(all, (0..1_000).map(of).collect::<Vec<u64>>());
    }

    #[test]
    fn it_is_for_the_returns_that_it_names() {
        let meant = |on, why| Retry { on, ..LINEAR }.delay_millis(why, 1, 1).is_some();
        let each = [RetryOn::All, RetryOn::Failed, RetryOn::Returned]
            .map(|on| [Return::Requeued, Return::ConsumerGone].map(|why| meant(on, why)));
        assert_eq!(each, [[true, true], [true, false], [false, true]]);
    }
}
