//! What is known of the terminal that output goes to, if it goes to one.

use std::io::{self, IsTerminal};

/// Where standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// Columns of the terminal; `None` if output does not go to one: then nothing is shortened.
    pub(crate) columns: Option<usize>,
    /// Whether to use colours.
    pub(crate) colour: bool,
}

impl Terminal {
    /// Asks about standard output. Colours need a terminal, no `NO_COLOR` (<https://no-color.org>) and no
    /// `TERM=dumb`.
    pub(crate) fn of_stdout() -> Self {
        let stdout = io::stdout();
        if !stdout.is_terminal() {
            return Self::none();
        }
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Self { columns: Some(columns.unwrap_or(80)), colour: !colour_declined() }
    }

    /// No terminal: everything in full, no colours.
    pub(crate) fn none() -> Self {
        Self { columns: None, colour: false }
    }

    /// Text in a colour, where there are colours.
    pub(crate) fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => "1",
            Colour::Faint => "2",
            Colour::Red => "31",
            Colour::Green => "32",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether log lines on standard error may have colours.
pub(crate) fn stderr_takes_colour() -> bool {
    io::stderr().is_terminal() && !colour_declined()
}

/// Whether somebody sits at a terminal that can be drawn on as a whole, with a keyboard.
pub(crate) fn can_be_drawn_on() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

fn colour_declined() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || is_dumb()
}

/// What a piece of text should look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Headings.
    Bold,
    /// What matters less.
    Faint,
    /// No.
    Red,
    /// Yes.
    Green,
}

/// Text that came from elsewhere, safe to print on one line of a terminal: control characters, and those that reorder text
/// or break lines, are written as escapes.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(is_treacherous) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| if is_treacherous(c) { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

/// Whether a character may make a terminal do, or show, something else than itself: control characters, marks, embeddings,
/// overrides and isolates of bidirectional text (UAX #9), separators of lines and paragraphs.
pub(crate) fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_can_command_the_terminal() {
        assert_eq!(printable("plain ünï 🔑"), "plain ünï 🔑");
        assert_eq!(printable("a\u{202e}b\u{2066}\u{200f}\u{61c}"), "a\\u{202e}b\\u{2066}\\u{200f}\\u{61c}");
        assert_eq!(printable("a\x1b[31mred\nb\tc\u{9b}"), "a\\u{1b}[31mred\\nb\\tc\\u{9b}");
    }

    #[test]
    fn colours_are_only_used_where_there_are_some() {
        assert_eq!(Terminal::none().paint(Colour::Red, "no"), "no");
        let terminal = Terminal { columns: Some(80), colour: true };
        assert_eq!(terminal.paint(Colour::Red, "no"), "\x1b[31mno\x1b[0m");
    }
}
