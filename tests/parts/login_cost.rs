//! Logging in as nobody costs as much as logging in with a wrong password.

use std::time::{Duration, Instant};

use leveret::auth::{Password, PasswordHash, SALT_BYTES, hash_password, verify_login};

/// A hash costs milliseconds; skipping it would cost less than a microsecond. The bounds are wide because machines
/// under test are busy; the best of several runs is what counts.
#[test]
fn an_unknown_user_costs_as_much_as_a_wrong_password() {
    let password = Password::new("wrong").unwrap();
    let hash = hash_password(&Password::new("right").unwrap(), &[3; SALT_BYTES]).unwrap();
    let fastest = |stored: Option<&PasswordHash>| -> Duration {
        (0..5)
            .map(|_| {
                let start = Instant::now();
                assert!(!verify_login(&password, stored));
                start.elapsed()
            })
            .min()
            .unwrap()
    };
    let (wrong, unknown) = (fastest(Some(&hash)), fastest(None));
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    assert!((0.3..3.0).contains(&ratio), "unknown user {unknown:?}, wrong password {wrong:?}");
}
