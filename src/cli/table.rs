//! Tables: columns in line, as wide as their longest entry, shortened only where a terminal is too narrow.

use unicode_width::UnicodeWidthChar;
use unicode_width::UnicodeWidthStr;

use super::terminal::{Colour, Terminal, printable};

/// Least columns that shortening leaves of an entry.
const COLUMN_MIN: usize = 6;

/// Between columns.
const GAP: usize = 2;

/// A heading and rows below it.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Copy)]
struct Heading {
    text: &'static str,
    to_the_right: bool,
}

impl Table {
    /// A table without columns.
    pub(crate) fn new() -> Self {
        Self { headings: Vec::new(), rows: Vec::new() }
    }

    /// Adds a column of words, in line on the left.
    pub(crate) fn text(mut self, heading: &'static str) -> Self {
        self.headings.push(Heading { text: heading, to_the_right: false });
        self
    }

    /// Adds a column of numbers, in line on the right.
    pub(crate) fn number(mut self, heading: &'static str) -> Self {
        self.headings.push(Heading { text: heading, to_the_right: true });
        self
    }

    /// Adds a row with an entry for each column.
    pub(crate) fn row<const N: usize>(&mut self, entries: [String; N]) {
        self.row_of(entries.to_vec());
    }

    /// As [`row`](Self::row), where only now is known how many columns there are.
    pub(crate) fn row_of(&mut self, entries: Vec<String>) {
        assert_eq!(entries.len(), self.headings.len(), "a row has an entry for each column");
        self.rows.push(entries.iter().map(|entry| printable(entry)).collect());
    }

    /// The table, a line for each row.
    pub(crate) fn render(&self, terminal: Terminal) -> String {
        let widths = self.widths(terminal.columns);
        let heading: Vec<String> = self.headings.iter().map(|heading| heading.text.to_owned()).collect();
        let mut out = terminal.paint(Colour::Bold, &self.line(&heading, &widths));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
            out.push('\n');
        }
        out
    }

    /// Each column's longest entry; the widest columns of words give way until all fit. A number is never shortened: its
    /// beginning alone would be another number.
    fn widths(&self, columns: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| heading.text.width()).collect();
        for row in &self.rows {
            for (width, entry) in widths.iter_mut().zip(row) {
                *width = (*width).max(entry.width());
            }
        }
        let Some(columns) = columns else { return widths };
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > columns {
            let words = widths.iter_mut().zip(&self.headings).filter(|(_, heading)| !heading.to_the_right);
            let widest = words.map(|(width, _)| width).max();
            let Some(widest) = widest.filter(|widest| **widest > COLUMN_MIN) else { break };
            *widest -= 1;
        }
        widths
    }

    fn line(&self, entries: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((entry, width), heading) in entries.iter().zip(widths).zip(&self.headings) {
            let entry = shortened(entry, *width);
            let padding = " ".repeat(width.saturating_sub(entry.width()));
            if heading.to_the_right {
                line.push_str(&padding);
                line.push_str(&entry);
            } else {
                line.push_str(&entry);
                line.push_str(&padding);
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The beginning of a text and "…", in no more than so many columns; the text itself if it fits.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut taken = 0;
    let kept: String = text
        .chars()
        .take_while(|c| {
            taken += c.width().unwrap_or(0);
            taken < columns
        })
        .collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> Table {
        let mut table = Table::new().text("NAME").number("READY");
        for (name, ready) in rows {
            table.row([(*name).to_owned(), (*ready).to_owned()]);
        }
        table
    }

    #[test]
    fn columns_are_in_line() {
        assert_eq!(
            table(&[("orders", "7"), ("ünï", "1200"), ("日本", "0")]).render(Terminal::none()),
            "NAME    READY\norders      7\nünï      1200\n日本        0\n"
        );
    }

    #[test]
    fn a_narrow_terminal_shortens_the_widest_column() {
        let terminal = Terminal { columns: Some(20), colour: false };
        assert_eq!(
            table(&[("a-very-long-name-of-a-queue", "7")]).render(terminal),
            "NAME           READY\na-very-long-…      7\n"
        );
        assert!(
            table(&[("a-very-long-name-of-a-queue", "7")]).render(Terminal::none()).contains("of-a-queue")
        );
    }

    #[test]
    fn a_terminal_of_a_few_columns_does_no_harm() {
        let terminal = Terminal { columns: Some(1), colour: false };
        let shown = table(&[("a-very-long-name", "1234567890")]).render(terminal);
        assert!(shown.contains("a-ver…") && shown.contains("1234567890"), "{shown}");
    }

    #[test]
    fn names_cannot_break_lines() {
        assert_eq!(table(&[("a\nb", "1")]).render(Terminal::none()), "NAME  READY\na\\nb      1\n");
    }

    #[test]
    fn shortening_counts_columns_and_not_letters() {
        assert_eq!(shortened("日本語", 6), "日本語");
        assert_eq!(shortened("日本語x", 6), "日本…");
        assert_eq!(shortened("abc", 0), "…");
    }
}
