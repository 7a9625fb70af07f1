//! What the operating system says, for people.

use std::fmt;
use std::io;

/// An error in the operating system's words, without the number that [`io::Error`] puts behind them.
pub(crate) fn in_words(error: &io::Error) -> impl fmt::Display {
    let text = error.to_string();
    // With context around it, the error of the operating system stands at the end of the text all the same.
    let words = text
        .strip_suffix(')')
        .and_then(|text| text.rsplit_once(NUMBER))
        .filter(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    match words {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// What stands between the words and the number.
const NUMBER: &str = " (os error ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_words() {
        let said = |error: io::Error| in_words(&error).to_string();
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::AddrInUse,
            io::ErrorKind::StorageFull,
        ] {
            // All of the first hundred or so are the operating system's.
            let raw = (1..134).map(io::Error::from_raw_os_error).find(|error| error.kind() == kind);
            let text = said(raw.unwrap_or_else(|| panic!("no number means {kind}")));
            assert!(!text.is_empty() && !text.contains("os error") && !text.ends_with(' '), "{text}");
        }
        let around = io::Error::new(io::ErrorKind::NotFound, "a.pem: No such file (os error 2)");
        assert_eq!(said(around), "a.pem: No such file");
        assert_eq!(said(io::Error::other("the disk failed")), "the disk failed");
        assert_eq!(said(io::Error::other("(os error x)")), "(os error x)");
        assert_eq!(said(io::Error::other(" (os error 5) at last")), " (os error 5) at last");
    }
}
