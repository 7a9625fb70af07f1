//! The picture as it is drawn again and again in a part of a terminal, with messages that move.

use std::time::{Duration, Instant};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::boxes::{self, COLUMNS_MIN, Drawing};
use super::build::build;
use super::canvas;
use super::look::Look;
use super::moving;
use super::picture::Picture;
use super::scope::Scope;
use super::{millis, words};

/// Rows that are enough for a box of each kind.
const ROWS_MIN: u16 = 9;

/// A look that takes longer than this is told.
const LATE: Duration = Duration::from_secs(3);

/// What the last two looks at a broker said, and how it is drawn.
pub(crate) struct Animation {
    vhost: String,
    scope: Scope,
    /// From one look to the next, as it is meant.
    interval: Duration,
    before: Look,
    now: Look,
    /// Time between the two.
    between: Duration,
    /// When the second one was.
    looked: Instant,
    picture: Picture,
    /// The picture as it fits into so many columns and rows.
    drawing: Option<((u16, u16), Drawing)>,
}

impl Animation {
    /// Of what belongs to these exchanges; none: of all there is.
    pub(crate) fn of_exchanges(vhost: &str, exchanges: Vec<String>, interval: Duration, first: Look) -> Self {
        let scope = Scope { exchanges, queues: Vec::new(), limit: super::NOW_MAX };
        Self::new(vhost, scope, interval, first)
    }

    /// Nothing moves before the second look.
    pub(super) fn new(vhost: &str, scope: Scope, interval: Duration, first: Look) -> Self {
        let picture = build(vhost, &scope, &first, &first, millis(interval));
        Self {
            vhost: vhost.to_owned(),
            scope,
            interval,
            before: first.clone(),
            now: first,
            between: interval,
            looked: Instant::now(),
            picture,
            drawing: None,
        }
    }

    /// When the next look is due.
    pub(super) fn next_look(&self) -> Instant {
        self.looked + self.interval
    }

    /// Takes a look that was begun at this time.
    pub(crate) fn take(&mut self, at: Instant, look: Look) {
        self.between = at - self.looked;
        self.looked = at;
        self.before = std::mem::replace(&mut self.now, look);
        self.drawing = None;
    }

    /// Whether there is a picture that fits into so many columns and rows.
    pub(crate) fn fits(columns: u16, rows: u16) -> bool {
        usize::from(columns) >= COLUMNS_MIN && rows >= ROWS_MIN
    }

    /// How many columns and rows it needs.
    pub(crate) fn needs() -> (usize, u16) {
        (COLUMNS_MIN, ROWS_MIN)
    }

    /// Draws as much as there is room for: nothing if it does not [fit](Self::fits).
    pub(crate) fn render(&mut self, area: Rect, buffer: &mut Buffer) {
        let size = (area.width, area.height);
        if !Self::fits(size.0, size.1) {
            return;
        }
        if self.drawing.as_ref().is_none_or(|(fitted, _)| *fitted != size) {
            self.fit(size);
        }
        let Some((_, drawing)) = &self.drawing else { return };
        let mut cell_at = |x: usize, y: usize, symbol: &str, style: Style| {
            let (Ok(x), Ok(y)) = (u16::try_from(x), u16::try_from(y)) else { return };
            if x < area.width
                && y < area.height
                && let Some(cell) = buffer.cell_mut((area.x + x, area.y + y))
            {
                cell.set_symbol(symbol).set_style(style);
            }
        };
        for y in 0..drawing.canvas.height() {
            for (x, (text, look)) in drawing.canvas.cells(y).enumerate() {
                if !text.is_empty() {
                    cell_at(x, y, &text, style(look));
                }
            }
        }
        let gone = self.looked.elapsed().as_secs_f64() / self.interval.as_secs_f64();
        for (x, y) in moving::marked(&self.picture.edges, &drawing.paths, gone) {
            if drawing.canvas.is_line(x, y) {
                cell_at(x, y, "●", Style::new().fg(Color::Yellow));
            }
        }
    }

    /// Makes the picture with as many nodes as there is room for.
    fn fit(&mut self, (columns, rows): (u16, u16)) {
        let most = self.scope.limit.min((usize::from(rows) + 1) / 4).max(1);
        for limit in (1..=most).rev() {
            let scope = Scope { limit, ..self.scope.clone() };
            self.picture = build(&self.vhost, &scope, &self.before, &self.now, millis(self.between));
            let drawing = boxes::draw(&self.picture, usize::from(columns));
            let fits = drawing.canvas.height() <= usize::from(rows);
            self.drawing = Some(((columns, rows), drawing));
            if fits {
                return;
            }
        }
    }

    /// What a mark stands for, and how old the picture is if that is too old.
    pub(crate) fn words(&self) -> String {
        let marks = match &self.drawing {
            Some((_, drawing)) => moving::stands_for(&self.picture.edges, &drawing.paths),
            None => 0,
        };
        let marks = match marks {
            0 => "nothing moves".to_owned(),
            1 => "● a message".to_owned(),
            most => format!("● up to {} messages", words::grouped(most)),
        };
        let silent = self.looked.elapsed().saturating_sub(self.interval);
        let late =
            if silent >= LATE { format!(" · no answer for {} s", silent.as_secs()) } else { String::new() };
        format!("{marks}, counted in {} ms{late}", millis(self.between))
    }
}

fn style(look: canvas::Look) -> Style {
    match look {
        canvas::Look::Plain => Style::new(),
        canvas::Look::Bold => Style::new().add_modifier(Modifier::BOLD),
        canvas::Look::Faint => Style::new().fg(Color::DarkGray),
        canvas::Look::Red => Style::new().fg(Color::Red),
    }
}
