//! How a demo is told: as lines, or to panes in a terminal.

use tokio::sync::mpsc::Sender;

use super::lines::Lines;
use super::panes::Shown;
use super::play::{Play, Scene};
use crate::cli::failure::Failure;
use crate::cli::terminal::Terminal;

/// Where what is said goes.
pub(super) enum Voice {
    /// One after the other to standard output.
    Lines(Lines),
    /// To whoever draws them.
    Panes(Sender<Shown>),
}

impl Voice {
    /// The terminal that texts are made for; for panes they are shortened where they are drawn.
    pub(super) fn terminal(&self) -> Terminal {
        match self {
            Self::Lines(lines) => lines.terminal(),
            Self::Panes(_) => Terminal::none(),
        }
    }

    pub(super) fn title(&self, play: &Play) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.title(play),
            // It stands there all the time.
            Self::Panes(_) => Ok(()),
        }
    }

    /// What is going to happen, and what to guess. Lines wait until whoever sits there has guessed.
    pub(super) async fn scene(&self, number: usize, scene: &Scene) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.scene(number, scene).await,
            Self::Panes(_) => {
                self.show(Shown::Scene { number, title: scene.title, question: scene.question }).await;
                Ok(())
            }
        }
    }

    /// An actor comes.
    pub(super) async fn comes(&self, actor: &'static str) -> Result<(), Failure> {
        self.show(Shown::Comes(actor)).await;
        self.note(&format!("{actor} is here")).await
    }

    /// An actor goes.
    pub(super) async fn goes(&self, actor: &'static str) -> Result<(), Failure> {
        self.show(Shown::Leaves(actor)).await;
        self.note(&format!("{actor} is gone")).await
    }

    /// What happens, told by nobody.
    pub(super) async fn note(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.note(text)?,
            Self::Panes(_) => {
                for line in text.lines() {
                    self.show(Shown::Note(line.to_owned())).await;
                }
            }
        }
        Ok(())
    }

    /// Something that an actor says.
    pub(super) async fn line(&self, actor: &'static str, text: &str) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.line(actor, text)?,
            Self::Panes(_) => {
                for line in text.lines() {
                    self.show(Shown::Line(actor, line.to_owned())).await;
                }
            }
        }
        Ok(())
    }

    /// Text that ends its own lines.
    pub(super) async fn text(&self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.text(text),
            Self::Panes(_) => self.note(text).await,
        }
    }

    /// All scenes are over.
    pub(super) async fn end(&self) -> Result<(), Failure> {
        match self {
            Self::Lines(lines) => lines.end(),
            Self::Panes(_) => self.note("all was heard as it should be").await,
        }
    }

    /// Something that only panes show.
    pub(super) async fn show(&self, shown: Shown) {
        if let Self::Panes(show) = self {
            // Whoever drew it is gone when somebody wants no more: then the stage is told to stop, too.
            let _ = show.send(shown).await;
        }
    }
}
