//! A terminal that is drawn on as a whole, and its keyboard.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use super::failure::Failure;

/// From one frame to the next, for whoever draws what moves.
pub(super) const FRAME: Duration = Duration::from_millis(100);

/// How long the keyboard is waited for before it is seen whether anybody still wants to know.
const KEYS_WAIT: Duration = Duration::from_millis(200);

/// Keys that were pressed and not looked at yet; those that come then wait in the terminal.
const KEYS_MAX: usize = 16;

/// The terminal, which is as it was when this goes, however that comes about.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        // It also sees to it that a panic leaves the terminal as it was.
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            Failure::io("cannot draw in this terminal", &error)
        })?;
        Ok(Self { terminal })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        let drawn = self.terminal.draw(draw);
        drawn.map(|_| ()).map_err(|error| Failure::io("cannot draw in this terminal", &error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        ratatui::restore();
    }
}

/// What is pressed while a [`Screen`] is open.
pub(super) struct Keyboard {
    pressed: mpsc::Receiver<io::Result<KeyEvent>>,
}

impl Keyboard {
    pub(super) fn listen() -> Self {
        let (tell, pressed) = mpsc::channel(KEYS_MAX);
        std::thread::spawn(move || {
            while !tell.is_closed() {
                let key = match event::poll(KEYS_WAIT) {
                    Ok(false) => continue,
                    Ok(true) => match event::read() {
                        Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => Ok(key),
                        Ok(_) => continue,
                        Err(error) => Err(error),
                    },
                    Err(error) => Err(error),
                };
                // After a key that ends it nothing is taken from the terminal any more: the rest is for whoever comes next.
                let is_last = key.as_ref().map_or(true, is_end);
                if tell.blocking_send(key).is_err() || is_last {
                    return;
                }
            }
        });
        Self { pressed }
    }

    /// The next key. After one that [ends it](is_end) there is none.
    ///
    /// # Cancel safety
    /// A key that was not given out comes with the next call.
    pub(super) async fn next(&mut self) -> Result<KeyEvent, Failure> {
        match self.pressed.recv().await {
            Some(key) => key.map_err(|error| Failure::io("cannot read the keyboard", &error)),
            None => Err(Failure::new("cannot read the keyboard")),
        }
    }
}

/// Whether a key says that somebody wants no more: q, Esc and Ctrl-C.
pub(super) fn is_end(key: &KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') => with_control,
        KeyCode::Char('q') => !with_control,
        KeyCode::Esc => true,
        _ => false,
    }
}
