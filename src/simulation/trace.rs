//! What happened, as a number that two runs of one seed have in common, and the last of it in words.

use std::collections::VecDeque;
use std::fmt;

#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    /// Lines that are kept for the report of a failure.
    lines_max: usize,
}

impl Trace {
    pub(super) fn new(lines_max: usize) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), lines_max: lines_max.max(1) }
    }

    pub(super) fn note(&mut self, what: fmt::Arguments<'_>) {
        let is_full = self.lines.len() >= self.lines_max;
        let mut line = if is_full { self.lines.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Nothing fails that is written to a string.
        let _ = fmt::write(&mut line, what);
        // FNV-1a
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.lines.push_back(line);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
