//! How often a message is tried, and how long it waits in between.

use std::time::Duration;

use clap::Args;

use crate::cli::number;

/// What `--exec` does with messages whose command failed.
#[derive(Debug, Clone, Args)]
pub(super) struct Retry {
    /// Reject a message that failed so many times, which drops it; without this it is tried until it works
    ///
    /// What counts is how often it came back to its queue, for whatever reason, so that a message that brings its
    /// consumers down has an end, too.
    #[arg(long, value_name = "N", requires = "exec", value_parser = number::whole::<u32>(1, u64::from(u32::MAX)))]
    attempts: Option<u32>,
    /// Seconds before a failed message goes back to its queue; doubled each time, up to a minute
    #[arg(long, value_name = "SECONDS", default_value = "1", requires = "exec", value_parser = delay)]
    retry_delay: Duration,
}

/// Longest time that a failed message is held back.
const DELAY_MAX: Duration = Duration::from_secs(60);

fn delay(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(1)..=DELAY_MAX).contains(time))
        .ok_or_else(|| "expected 0.001 to 60 seconds".to_owned())
}

/// What becomes of a message whose command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes back after a while.
    Again(Duration),
    /// It has had all its attempts.
    Over,
}

impl Retry {
    /// What becomes of a message that failed and had come back so many times before.
    pub(super) fn fate(&self, came_back: u32) -> Fate {
        if self.attempts.is_some_and(|attempts| came_back.saturating_add(1) >= attempts) {
            return Fate::Over;
        }
        let factor = 1_u32.checked_shl(came_back).unwrap_or(u32::MAX);
        Fate::Again(self.retry_delay.saturating_mul(factor).min(DELAY_MAX))
    }

    /// For instance "attempt 2 of 5".
    pub(super) fn attempt(&self, came_back: u32) -> String {
        let attempt = u64::from(came_back) + 1;
        match self.attempts {
            Some(attempts) => format!("attempt {attempt} of {attempts}"),
            None => format!("attempt {attempt}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_minute() {
        let retry = Retry { attempts: None, retry_delay: Duration::from_secs(1) };
        let delays = [0, 1, 2, 5, 6, 31, 32, u32::MAX].map(|came_back| retry.fate(came_back));
        assert_eq!(delays, [1, 2, 4, 32, 60, 60, 60, 60].map(|s| Fate::Again(Duration::from_secs(s))));
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        let retry = Retry { attempts: Some(2), retry_delay: Duration::from_secs(1) };
        assert_eq!(retry.fate(0), Fate::Again(Duration::from_secs(1)));
        assert_eq!((retry.fate(1), retry.fate(7)), (Fate::Over, Fate::Over));
    }
}
