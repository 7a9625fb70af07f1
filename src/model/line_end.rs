//! The end of a line that files and variables add to what somebody has written into them.

/// Without one line end, if there is one.
pub(crate) fn without_line_end(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line))
}
