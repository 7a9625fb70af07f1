//! Numbers as they are typed, and what is said if they are none.

use clap::Command;

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

/// A whole number of either sign.
pub(super) fn signed(typed: &str) -> Result<i32, String> {
    typed.parse().map_err(|_| format!("expected a whole number, {} to {}", i32::MIN, i32::MAX))
}

/// A command whose flags take numbers below zero as the values that they are meant as, so that what is said of them is about
/// the number, and not about a flag of that name.
pub(super) fn with_negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_long().is_some() && arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    });
    let names: Vec<String> = command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_negative_numbers))
}
