//! Standard output, with every failure to write told: a full disk or a closed pipe must not pass unnoticed.

use std::io::Write;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use serde_json::Value;

use super::failure::Failure;
use super::terminal::{is_treacherous, printable};

/// A line for people.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    write(&printable(text), "\n")
}

/// Text that ends its own lines.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    write(text, "")
}

/// A value for programs, on one line.
pub(super) fn json_line(value: &Value) -> Result<(), Failure> {
    write(&json_text(value), "\n")
}

/// JSON in which no character can do anything to a terminal: outside of strings there are none that could.
pub(super) fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(is_treacherous) {
        return text;
    }
    // All of them are in the basic plane, so that four digits do.
    text.chars()
        .map(|c| if is_treacherous(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() })
        .collect()
}

/// Returns when nobody reads standard output any more.
pub(super) async fn closed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let stdout = std::io::stdout();
        // Nothing is asked for: what is told all the same is that it is closed.
        let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
        while let Ok(0) | Err(Errno::INTR) = poll(&mut descriptors, None) {}
        if is_gone(descriptors[0].revents()) {
            // Whoever waited may be gone, too.
            let _ = tell.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Fails if nobody reads standard output any more and something that was written has not been read.
pub(super) fn check_read() -> Result<(), Failure> {
    check_read_of(&std::io::stdout())
}

fn check_read_of(output: &impl AsFd) -> Result<(), Failure> {
    let mut descriptors = [PollFd::new(output, PollFlags::empty())];
    let is_asked = poll(&mut descriptors, Some(&Timespec::default())).is_ok();
    let is_closed = is_asked && is_gone(descriptors[0].revents());
    if !is_closed || ioctl_fionread(output).is_ok_and(|unread| unread == 0) {
        return Ok(());
    }
    Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into())
}

fn is_gone(events: PollFlags) -> bool {
    events.intersects(PollFlags::ERR | PollFlags::HUP)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, pipe};

    use super::*;

    #[test]
    fn what_nobody_has_read_is_told_from_what_somebody_has() {
        let (mut reader, mut writer) = pipe().unwrap();
        writer.write_all(b"read").unwrap();
        assert!(check_read_of(&writer).is_ok(), "somebody may read it still");
        reader.read_exact(&mut [0; 4]).unwrap();
        drop(reader);
        assert!(check_read_of(&writer).is_ok(), "it was read to its end");

        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"unread").unwrap();
        drop(reader);
        assert!(check_read_of(&writer).is_err_and(|failure| failure.is_output_closed()));
    }

    #[test]
    fn json_says_the_same_without_characters_that_could_do_harm() {
        let value = serde_json::json!({ "a\u{202e}": "b\u{9b}\u{7f}\n" });
        let text = json_text(&value);
        assert_eq!(text, r#"{"a\u202e":"b\u009b\u007f\n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
