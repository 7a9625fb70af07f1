//! Numbers as they are typed, and what is said if they are none.

/// A whole number within bounds.
pub(super) fn whole<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |typed| {
        let number = typed.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            if max == u64::MAX {
                format!("expected a whole number from {min} on")
            } else {
                format!("expected a whole number, {min} to {max}")
            }
        })
    }
}
