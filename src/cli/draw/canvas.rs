//! A sheet of character cells: texts on it, and lines that know which of them belong together.

use unicode_width::UnicodeWidthChar;

use super::super::terminal::{Colour, Terminal, printable};

/// How a cell looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Look {
    /// As everything.
    #[default]
    Plain,
    /// It matters more.
    Bold,
    /// It matters less, or is not there.
    Faint,
    /// Something is wrong.
    Red,
}

/// Directions in which a line leaves a cell.
pub(super) const UP: u8 = 1;
pub(super) const DOWN: u8 = 2;
pub(super) const LEFT: u8 = 4;
pub(super) const RIGHT: u8 = 8;

/// A cell of the sheet.
#[derive(Debug, Clone, Default)]
struct Cell {
    /// A letter with what combines with it; "" behind a letter of two columns.
    text: Option<String>,
    look: Look,
    /// Directions of lines, by the number of the line.
    lines: Vec<(usize, u8)>,
}

/// The sheet. What is drawn beyond its edges is not drawn.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    width: usize,
    rows: Vec<Vec<Cell>>,
}

impl Canvas {
    /// An empty one.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, rows: vec![vec![Cell::default(); width]; height] }
    }

    /// How many rows it has.
    pub(super) fn height(&self) -> usize {
        self.rows.len()
    }

    /// Puts another one of the same width below.
    pub(super) fn append(&mut self, below: Self) {
        self.rows.extend(below.rows);
    }

    /// Writes on one row, no further than `columns`. Letters that could do something to a terminal are escaped.
    pub(super) fn text(&mut self, x: usize, y: usize, columns: usize, text: &str, look: Look) {
        let (width, Some(row)) = (self.width, self.rows.get_mut(y)) else { return };
        let end = (x + columns).min(width);
        let mut at = x;
        for c in printable(text).chars() {
            let wide = c.width().unwrap_or(0);
            if wide == 0 {
                // It combines with the letter before, which may be one of two columns.
                let before = row[x.min(width)..at.min(width)].iter_mut().rev();
                if let Some(letter) =
                    before.filter_map(|cell| cell.text.as_mut()).find(|text| !text.is_empty())
                {
                    letter.push(c);
                }
                continue;
            }
            if at + wide > end {
                return;
            }
            row[at] = Cell { text: Some(c.to_string()), look, lines: Vec::new() };
            for behind in 1..wide {
                row[at + behind] = Cell { text: Some(String::new()), look, lines: Vec::new() };
            }
            at += wide;
        }
    }

    /// Draws a line of this number through a cell, in these directions.
    pub(super) fn line(&mut self, x: usize, y: usize, line: usize, directions: u8) {
        let Some(cell) = self.rows.get_mut(y).and_then(|row| row.get_mut(x)) else { return };
        match cell.lines.iter_mut().find(|(other, _)| *other == line) {
            Some((_, old)) => *old |= directions,
            None => cell.lines.push((line, directions)),
        }
    }

    /// The cells of a row: what is in each, and how it looks. Behind a letter of two columns is a cell with "".
    pub(super) fn cells(&self, y: usize) -> impl Iterator<Item = (String, Look)> {
        self.rows.get(y).into_iter().flatten().map(|cell| match &cell.text {
            Some(text) => (text.clone(), cell.look),
            None => (glyph(&cell.lines).to_string(), Look::Plain),
        })
    }

    /// Whether there is a line and nothing else.
    pub(super) fn is_line(&self, x: usize, y: usize) -> bool {
        let cell = self.rows.get(y).and_then(|row| row.get(x));
        cell.is_some_and(|cell| cell.text.is_none() && !cell.lines.is_empty())
    }

    /// A letter in the place of a line.
    pub(super) fn put(&mut self, x: usize, y: usize, letter: char, look: Look) {
        if let Some(cell) = self.rows.get_mut(y).and_then(|row| row.get_mut(x)) {
            *cell = Cell { text: Some(letter.to_string()), look, lines: Vec::new() };
        }
    }

    /// All of it as text, with colours where there are some.
    pub(super) fn to_text(&self, terminal: Terminal) -> String {
        let mut out = String::new();
        for y in 0..self.rows.len() {
            let mut runs: Vec<(Look, String)> = Vec::new();
            for (text, look) in self.cells(y) {
                match runs.last_mut() {
                    Some((last, run)) if *last == look => run.push_str(&text),
                    _ => runs.push((look, text)),
                }
            }
            while let Some((_, run)) = runs.last_mut() {
                run.truncate(run.trim_end_matches(' ').len());
                if !run.is_empty() {
                    break;
                }
                runs.pop();
            }
            for (look, run) in runs {
                match colour(look) {
                    Some(colour) => out.push_str(&terminal.paint(colour, &run)),
                    None => out.push_str(&run),
                }
            }
            out.push('\n');
        }
        out
    }
}

fn colour(look: Look) -> Option<Colour> {
    match look {
        Look::Plain => None,
        Look::Bold => Some(Colour::Bold),
        Look::Faint => Some(Colour::Faint),
        Look::Red => Some(Colour::Red),
    }
}

/// The letter for the lines of a cell. Lines that have nothing to do with each other do not meet: the one that goes up and
/// down is above.
fn glyph(lines: &[(usize, u8)]) -> char {
    let all = lines.iter().fold(0, |all, (_, directions)| all | directions);
    let upright = lines.iter().filter(|(_, directions)| directions & (UP | DOWN) != 0);
    let is_joined = upright.clone().any(|(_, directions)| directions & (LEFT | RIGHT) != 0);
    let upright = upright.fold(0, |all, (_, directions)| all | directions);
    let directions = if upright == 0 || is_joined { all } else { upright };
    match (directions & UP != 0, directions & DOWN != 0, directions & LEFT != 0, directions & RIGHT != 0) {
        (false, false, false, false) => ' ',
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, false, true, true) => '┴',
        (false, true, true, true) => '┬',
        (true, false, true, false) => '╯',
        (true, false, false, true) => '╰',
        (false, true, true, false) => '╮',
        (false, true, false, true) => '╭',
        (false, false, ..) => '─',
        (_, _, false, false) => '│',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_number_meet_and_others_pass_below() {
        let check = |lines: &[(usize, u8)], expect| assert_eq!(glyph(lines), expect, "{lines:?}");
        check(&[], ' ');
        check(&[(1, UP | DOWN)], '│');
        check(&[(1, LEFT | RIGHT)], '─');
        check(&[(1, UP | DOWN | RIGHT)], '├');
        check(&[(1, UP | DOWN), (2, LEFT | RIGHT)], '│');
        check(&[(1, DOWN | LEFT), (2, LEFT | RIGHT)], '┬');
        check(&[(1, UP | LEFT)], '╯');
    }

    #[test]
    fn wide_letters_take_two_cells_and_marks_none() {
        let mut canvas = Canvas::new(8, 1);
        canvas.text(0, 0, 5, "日本語", Look::Plain);
        canvas.text(5, 0, 3, "e\u{301}x\n", Look::Plain);
        assert_eq!(canvas.to_text(Terminal::none()), "日本 e\u{301}x\\\n");
        let cells: Vec<String> = canvas.cells(0).map(|(text, _)| text).collect();
        assert_eq!(cells, ["日", "", "本", "", " ", "e\u{301}", "x", "\\"]);
    }

    #[test]
    fn what_is_outside_is_not_drawn() {
        let mut canvas = Canvas::new(3, 1);
        canvas.text(2, 0, 9, "abc", Look::Plain);
        canvas.text(9, 0, 9, "abc", Look::Plain);
        canvas.text(0, 9, 9, "abc", Look::Plain);
        canvas.line(9, 9, 0, UP);
        canvas.put(9, 9, 'x', Look::Bold);
        assert_eq!(canvas.to_text(Terminal::none()), "  a\n");
    }
}
