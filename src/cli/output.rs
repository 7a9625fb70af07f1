//! Standard output, with every failure to write told: a full disk or a closed pipe must not pass unnoticed.

use std::io::Write;

use serde_json::Value;

use super::failure::Failure;

/// A line for people.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(text, "\n")
}

/// Text that ends its own lines.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    write(text, "")
}

/// A value for programs, on one line.
pub(super) fn json_line(value: &Value) -> Result<(), Failure> {
    line(&value.to_string())
}

/// Output of which every byte counts.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

fn write(text: &str, end: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(end.as_bytes())?;
    Ok(stdout.flush()?)
}
