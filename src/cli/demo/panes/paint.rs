//! Draws a board and a picture.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Block, Widget};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::board::{Board, Pane};
use super::layout::{COLUMNS_MIN, ROWS_MIN, lay_out};
use crate::cli::draw::Animation;
use crate::cli::table::shortened;
use crate::cli::terminal::printable;

/// Colours of actors, one after the other.
const COLOURS: [Color; 5] = [Color::Cyan, Color::Yellow, Color::Magenta, Color::Blue, Color::Green];

/// Rows of text from which on lines are not shortened but go on below.
const FOLDED_ROWS_MIN: u16 = 4;

pub(super) fn paint(board: &Board, animation: &mut Animation, frame: &mut Frame<'_>) {
    let area = frame.area();
    let Some(layout) = lay_out(area, board.panes.len(), board.parts()) else {
        let text = format!("{COLUMNS_MIN} columns and {ROWS_MIN} rows are needed; q quits");
        return frame.render_widget(text, area);
    };
    let buffer = frame.buffer_mut();
    let [title, below] = board.header();
    let dim = Style::new().add_modifier(Modifier::DIM);
    text(buffer, layout.header, 0, &title, Style::new().add_modifier(Modifier::BOLD));
    text(buffer, layout.header, 1, &below, Style::new());
    let panes = board.panes.iter().zip(&layout.panes).zip(COLOURS.iter().cycle());
    panes.for_each(|((pane, area), colour)| paint_pane(pane, *area, *colour, buffer));
    if let Some(picture) = layout.picture {
        animation.render(picture, buffer);
    }
    let mut notes = layout.notes;
    if !layout.left_out.is_empty() {
        let told = format!("no room for {}", layout.left_out.join(", "));
        text(buffer, notes, 0, &told, Style::new().fg(Color::Yellow));
        notes = Rect { y: notes.y + 1, height: notes.height - 1, ..notes };
    }
    for (row, line) in last(&board.notes, notes).into_iter().enumerate() {
        text(buffer, notes, row, &format!("· {line}"), dim);
    }
    let mut footer = board.footer();
    if layout.picture.is_some() {
        let more = format!("{footer} · {}", animation.words());
        // Keys matter more.
        footer = if more.width() <= usize::from(area.width) { more } else { footer };
    }
    text(buffer, layout.footer, 0, &footer, dim);
}

fn paint_pane(pane: &Pane, area: Rect, colour: Color, buffer: &mut Buffer) {
    let (title, look) = match pane.is_here {
        true => (format!(" {} ", pane.name), Style::new().fg(colour)),
        false => (format!(" {}, not here ", pane.name), Style::new().fg(Color::DarkGray)),
    };
    let block = Block::bordered().border_style(look).title(title);
    let inner = block.inner(area);
    block.render(area, buffer);
    let lines = match inner.height >= FOLDED_ROWS_MIN {
        true => last(&folded(&pane.lines, inner), inner),
        false => last(&pane.lines, inner),
    };
    for (row, line) in lines.into_iter().enumerate() {
        text(buffer, inner, row, &line, Style::new());
    }
}

/// The last lines that there is room for, the oldest first.
fn last(lines: &VecDeque<String>, area: Rect) -> Vec<String> {
    let skipped = lines.len().saturating_sub(usize::from(area.height));
    lines.iter().skip(skipped).map(|line| printable(line)).collect()
}

/// Lines that are too long go on in the next one, a bit further in. Only as many are looked at as can be seen.
fn folded(lines: &VecDeque<String>, area: Rect) -> VecDeque<String> {
    let rows = usize::from(area.height);
    let mut out: VecDeque<String> = VecDeque::new();
    for line in lines.iter().rev() {
        if out.len() >= rows {
            break;
        }
        for row in fold(&printable(line), usize::from(area.width)).into_iter().rev() {
            out.push_front(row);
        }
    }
    out
}

fn fold(line: &str, columns: usize) -> Vec<String> {
    let (mut rows, mut row, mut wide) = (Vec::new(), String::new(), 0);
    for letter in line.chars() {
        let columns_of = letter.width().unwrap_or(0);
        if wide + columns_of > columns && !row.trim().is_empty() {
            rows.push(std::mem::replace(&mut row, "  ".to_owned()));
            wide = 2;
        }
        row.push(letter);
        wide += columns_of;
    }
    rows.push(row);
    rows
}

/// Writes into a row of an area, shortened to its width.
fn text(buffer: &mut Buffer, area: Rect, row: usize, line: &str, style: Style) {
    let (columns, row) = (usize::from(area.width), u16::try_from(row).unwrap_or(u16::MAX));
    if row < area.height {
        buffer.set_stringn(area.x, area.y + row, shortened(line, columns), columns, style);
    }
}
