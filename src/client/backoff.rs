//! Delays between attempts to connect again.

use std::time::Duration;

use super::options::Backoff;

/// Doubles from the first delay to the longest.
#[derive(Debug)]
pub(super) struct Delays {
    next: Duration,
    max: Duration,
}

impl Delays {
    pub(super) fn new(backoff: &Backoff) -> Self {
        Self { next: backoff.delay_first.min(backoff.delay_max), max: backoff.delay_max }
    }

    /// The next delay, shortened by up to half: not at all for a `fraction` of 0, by half for 1.
    pub(super) fn next(&mut self, fraction: f64) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        delay.mul_f64(1.0 - 0.5 * fraction.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_are_shortened_at_most_by_half() {
        let backoff = Backoff {
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_millis(500),
            ..Backoff::default()
        };
        let mut delays = Delays::new(&backoff);
        let mut next = |fraction| delays.next(fraction).as_millis();
        assert_eq!(
            [next(0.0), next(1.0), next(0.5), next(0.0), next(1.0)],
            [100, 100, 300, 500, 250],
            "100, 200 halved, 400 less a quarter, 500, 500 halved"
        );
    }
}
