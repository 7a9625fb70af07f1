//! A demo as lines: one for each thing that is said, with who said it before it.

use std::io::{BufRead, IsTerminal};

use tokio::sync::oneshot;

use super::play::{Play, Scene};
use crate::cli::failure::Failure;
use crate::cli::terminal::{Colour, Terminal, printable};

/// Colours of actors, one after the other (ECMA-48: cyan, yellow, magenta, blue, green).
const COLOURS: [&str; 5] = ["36", "33", "35", "34", "32"];

/// Prints what is said.
pub(super) struct Lines {
    terminal: Terminal,
    actors: Vec<&'static str>,
    width: usize,
    /// Somebody sits there and says when to go on.
    waits: bool,
    print: Print,
}

/// Where lines go.
pub(super) type Print = fn(&str) -> Result<(), Failure>;

impl Lines {
    /// For a script no terminal is looked at: what is printed is the same everywhere.
    pub(super) fn new(play: &Play, is_script: bool, print: Print) -> Self {
        let actors: Vec<_> = play.actors.iter().map(|actor| actor.name).collect();
        let width = actors.iter().map(|name| name.len()).max().unwrap_or_default();
        let terminal = if is_script { Terminal::none() } else { Terminal::of_stdout() };
        let waits = terminal.columns.is_some() && std::io::stdin().is_terminal();
        Self { terminal, actors, width, waits, print }
    }

    pub(super) fn terminal(&self) -> Terminal {
        self.terminal
    }

    pub(super) fn title(&self, play: &Play) -> Result<(), Failure> {
        let title = self.terminal.paint(Colour::Bold, &format!("demo {}", play.name));
        (self.print)(&format!("{title}: {}\n", play.about))
    }

    /// What is going to happen, and what to guess. Waits if somebody is there to guess.
    pub(super) async fn scene(&self, number: usize, scene: &Scene) -> Result<(), Failure> {
        let title = self.terminal.paint(Colour::Bold, &format!("{number}. {}", scene.title));
        (self.print)(&format!("\n{title}\n   predict: {}\n", scene.question))?;
        if !self.waits {
            return Ok(());
        }
        (self.print)(&self.terminal.paint(Colour::Faint, "   Enter shows it\n"))?;
        let (enter, entered) = oneshot::channel();
        // A thread of its own, which the end of the program does not wait for.
        std::thread::spawn(move || enter.send(std::io::stdin().lock().read_line(&mut String::new())));
        match entered.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::io("cannot read from standard input", &error)),
            Err(_) => Err(Failure::new("cannot read from standard input")),
        }
    }

    /// The last word.
    pub(super) fn end(&self) -> Result<(), Failure> {
        self.text(&format!("\n{}\n", self.terminal.paint(Colour::Green, "all was heard as it should be")))
    }

    /// Text that ends its own lines.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        (self.print)(text)
    }

    /// What happens, told by nobody.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        for line in text.lines() {
            let line = self.terminal.paint(Colour::Faint, &printable(line));
            (self.print)(&format!("{:width$} · {line}\n", "", width = self.width))?;
        }
        Ok(())
    }

    /// Something that an actor says.
    pub(super) fn line(&self, actor: &str, text: &str) -> Result<(), Failure> {
        let name = format!("{actor:width$}", width = self.width);
        let place = self.actors.iter().position(|name| *name == actor).unwrap_or_default();
        let name = match self.terminal.colour {
            true => format!("\x1b[{}m{name}\x1b[0m", COLOURS[place % COLOURS.len()]),
            false => name,
        };
        text.lines().try_for_each(|line| (self.print)(&format!("{name} │ {}\n", printable(line))))
    }
}
