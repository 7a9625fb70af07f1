//! A password from standard input, where nobody else can read it.

use std::io::Read;

use super::failure::Failure;
use crate::auth::{PASSWORD_BYTES_MAX, Password};

/// The first line of standard input, without its end. Anything after it was not meant as a password.
pub(super) fn from_stdin() -> Result<Password, Failure> {
    let mut text = String::new();
    let bytes_max = PASSWORD_BYTES_MAX as u64 + 2;
    std::io::stdin()
        .lock()
        .take(bytes_max)
        .read_to_string(&mut text)
        .map_err(|error| Failure::io("cannot read a password from standard input", &error))?;
    let line = text.split('\n').next().unwrap_or_default();
    let password = line.strip_suffix('\r').unwrap_or(line);
    Password::new(password)
        .map_err(|error| Failure::usage(error.to_string()).hint("write it to standard input, on one line"))
}
