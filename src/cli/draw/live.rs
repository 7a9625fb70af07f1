//! `leveret draw --live`: the picture in a terminal, drawn again while messages move.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Modifier, Style};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::super::failure::Failure;
use super::super::interrupt::Interrupt;
use super::super::session::{Session, block_on};
use super::boxes::{self, COLUMNS_MIN, Drawing};
use super::build::build;
use super::canvas;
use super::look::Look;
use super::moving;
use super::picture::Picture;
use super::scope::Scope;
use super::{millis, words};
use crate::client::{Channel, ConnectOptions};

/// From one frame to the next.
const FRAME: Duration = Duration::from_millis(100);

/// How long the keyboard is waited for before it is seen whether anybody still wants to know.
const KEYS_WAIT: Duration = Duration::from_millis(200);

/// Rows of a terminal that is high enough for a box of each kind.
const ROWS_MIN: usize = 10;

/// A look that takes longer than this is told.
const LATE: Duration = Duration::from_secs(3);

/// Draws until somebody wants no more.
pub(super) fn run(options: ConnectOptions, scope: &Scope, interval: Duration) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage("--live draws in a terminal, and standard output is none").hint(
            "`leveret draw` without --live prints one picture; --svg and --mermaid write one into a file",
        ));
    }
    let vhost = options.vhost().to_owned();
    block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let session = Session::open(options).await?;
        let first = Look::at(&session.channel).await?;
        let picture = build(&vhost, scope, &first, &first, millis(interval));
        let mut view = View {
            vhost,
            scope: scope.clone(),
            interval,
            before: first.clone(),
            now: first,
            between: interval,
            looked: Instant::now(),
            picture,
            drawing: None,
        };
        let mut keys = keys();
        let mut screen = Screen::open()?;
        let done = view.watch(&session.channel, &mut screen, &mut keys, &mut interrupt).await;
        drop(screen);
        // Nothing is asked for any more.
        let _ = session.close().await;
        done
    })
}

/// The terminal, which is as it was when this goes, however that comes about.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        // It also sees to it that a panic leaves the terminal as it was.
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            Failure::io("cannot draw in this terminal", &error)
        })?;
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        ratatui::restore();
    }
}

/// Somebody pressed a key that ends it; or the keyboard is gone.
type Quit = Result<(), io::Error>;

fn keys() -> mpsc::Receiver<Quit> {
    let (tell, told) = mpsc::channel(1);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let quit = match event::poll(KEYS_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read().map(|event| is_end(&event)),
                Err(error) => Err(error),
            };
            match quit {
                Ok(false) => {}
                Ok(true) => return drop(tell.blocking_send(Ok(()))),
                Err(error) => return drop(tell.blocking_send(Err(error))),
            }
        }
    });
    told
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('c') => with_control,
            KeyCode::Char('q') => !with_control,
            KeyCode::Esc => true,
            _ => false,
        }
}

/// What is seen.
struct View {
    vhost: String,
    scope: Scope,
    interval: Duration,
    before: Look,
    now: Look,
    /// Time between the two.
    between: Duration,
    /// When the second one was.
    looked: Instant,
    picture: Picture,
    /// The picture as it fits into so many columns and rows.
    drawing: Option<((usize, usize), Drawing)>,
}

impl View {
    async fn watch(
        &mut self,
        channel: &Channel,
        screen: &mut Screen,
        keys: &mut mpsc::Receiver<Quit>,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let next = self.looked + self.interval;
            let mut look = pin!(async {
                tokio::time::sleep_until(next.into()).await;
                (Instant::now(), Look::at(channel).await)
            });
            let (at, look) = loop {
                tokio::select! {
                    biased;
                    () = interrupt.requested() => return Ok(()),
                    quit = keys.recv() => {
                        let quit = quit.unwrap_or(Ok(()));
                        return quit.map_err(|error| Failure::io("cannot read the keyboard", &error));
                    }
                    look = &mut look => break look,
                    _ = frames.tick() => self.show(screen)?,
                }
            };
            self.take(at, look?);
        }
    }

    fn take(&mut self, at: Instant, look: Look) {
        self.between = at - self.looked;
        self.looked = at;
        self.before = std::mem::replace(&mut self.now, look);
        self.drawing = None;
    }

    fn show(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let shown = screen.terminal.draw(|frame| self.draw(frame));
        shown.map(|_| ()).map_err(|error| Failure::io("cannot draw in this terminal", &error))
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let (columns, rows) = (usize::from(area.width), usize::from(area.height));
        if columns < COLUMNS_MIN || rows < ROWS_MIN {
            let text = format!("{COLUMNS_MIN} columns and {ROWS_MIN} rows are needed; q quits");
            return frame.render_widget(text, area);
        }
        if self.drawing.as_ref().is_none_or(|(size, _)| *size != (columns, rows)) {
            self.fit(columns, rows);
        }
        let Some((_, drawing)) = &self.drawing else { return };
        let buffer = frame.buffer_mut();
        let drawn = drawing.canvas.height().min(rows - 1);
        for y in 0..drawn {
            for (x, (text, look)) in drawing.canvas.cells(y).enumerate() {
                if !text.is_empty()
                    && let Some(cell) = buffer.cell_mut((x as u16, y as u16))
                {
                    cell.set_symbol(&text).set_style(style(look));
                }
            }
        }
        let gone = self.looked.elapsed().as_secs_f64() / self.interval.as_secs_f64();
        for (x, y) in moving::marked(&self.picture.edges, &drawing.paths, gone) {
            if drawing.canvas.is_line(x, y)
                && y < drawn
                && let Some(cell) = buffer.cell_mut((x as u16, y as u16))
            {
                cell.set_symbol("●").set_style(Style::new().fg(Color::Yellow));
            }
        }
        buffer.set_stringn(
            0,
            area.height - 1,
            self.footer(drawing),
            columns,
            Style::new().add_modifier(Modifier::DIM),
        );
    }

    /// Makes the picture with as many nodes as there is room for.
    fn fit(&mut self, columns: usize, rows: usize) {
        let most = self.scope.limit.min(rows / 4).max(1);
        for limit in (1..=most).rev() {
            let scope = Scope { limit, ..self.scope.clone() };
            self.picture = build(&self.vhost, &scope, &self.before, &self.now, millis(self.between));
            let drawing = boxes::draw(&self.picture, columns);
            let fits = drawing.canvas.height() < rows;
            self.drawing = Some(((columns, rows), drawing));
            if fits {
                return;
            }
        }
    }

    fn footer(&self, drawing: &Drawing) -> String {
        let marks = match moving::stands_for(&self.picture.edges, &drawing.paths) {
            0 => "nothing moves".to_owned(),
            1 => "● a message".to_owned(),
            most => format!("● up to {} messages", words::grouped(most)),
        };
        let silent = self.looked.elapsed().saturating_sub(self.interval);
        let late =
            if silent >= LATE { format!(" · no answer for {} s", silent.as_secs()) } else { String::new() };
        format!("q quits · {marks}, counted in {} ms{late}", millis(self.between))
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
