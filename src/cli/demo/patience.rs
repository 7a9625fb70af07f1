//! Asking again until something has come about: a broker tells nobody that somebody went dark, or how much waits.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cli::failure::Failure;

/// Longest time for what a single act leads to: far more than it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The wait between the first question and the second one; each further one is twice as long.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// The longest wait between two questions.
const WAIT_MAX: Duration = Duration::from_millis(320);

/// Asks until there is an answer, less and less often; `None` if there is none before the deadline. At least one question is
/// asked.
pub(super) async fn ask_until<T>(
    deadline: Instant,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let mut wait = WAIT_MIN;
    loop {
        let Ok(answer) = timeout_at(deadline, ask()).await else { return Ok(None) };
        if let Some(answer) = answer? {
            return Ok(Some(answer));
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(None);
        }
        sleep_until(deadline.min(now + wait)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_comes_about_is_asked_for_a_few_times_and_then_no_more() {
        let mut asked = 0;
        // After 0, 5, 15, 35, 75 and 100 ms: on a slow machine there is time for fewer.
        let deadline = Instant::now() + Duration::from_millis(100);
        let answer = ask_until(deadline, async || {
            asked += 1;
            Ok(None::<()>)
        });
        assert_eq!(answer.await.unwrap(), None);
        assert!((1..=6).contains(&asked), "asked {asked} times");
    }

    #[tokio::test]
    async fn what_comes_about_is_told_and_a_failure_ends_it() {
        let mut asked = 0;
        let far = Instant::now() + PATIENCE;
        let answer = ask_until(far, async || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.await.unwrap(), Some(3));
        let failed = ask_until(far, async || Err::<Option<()>, _>(Failure::new("refused")));
        assert!(failed.await.is_err());
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_not_waited_for_beyond_the_deadline() {
        let deadline = Instant::now() + Duration::from_millis(1);
        let answer =
            ask_until(deadline, async || std::future::pending::<Result<Option<()>, Failure>>().await);
        assert_eq!(answer.await.unwrap(), None);
    }
}
