//! A demo in a terminal: a pane for each actor, the picture, and keys.
//!
//! Owns what is seen and what a key means: [`board`] is the state, a function of what it is told; [`layout`] shares out the
//! terminal; [`paint`] draws both. Must never do what a key asks for: that is a [`Wish`], and the stage fulfils it. Start
//! reading at `board`.

mod board;
mod layout;
mod paint;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::MissedTickBehavior;

pub(super) use board::{Shown, Wish};

use super::play::Play;
use crate::cli::draw::{Animation, Look};
use crate::cli::failure::Failure;
use crate::cli::screen::{FRAME, Keyboard, Screen};
use crate::client::Channel;
use board::{Board, Pressed};

/// From one look at the broker to the next.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A terminal with a demo in it. The terminal is as it was when this goes.
pub(super) struct View {
    board: Board,
    animation: Animation,
    screen: Screen,
    /// Over which the picture is asked for.
    channel: Channel,
    shown: Receiver<Shown>,
    wishes: Sender<Wish>,
}

impl View {
    pub(super) async fn open(
        play: &Play,
        vhost: &str,
        channel: Channel,
        shown: Receiver<Shown>,
        wishes: Sender<Wish>,
    ) -> Result<Self, Failure> {
        let exchanges = play.exchanges.iter().map(|plan| plan.name.to_owned()).collect();
        let first = Look::at(&channel).await?;
        let animation = Animation::of_exchanges(vhost, exchanges, LOOK_INTERVAL, first);
        let screen = Screen::open()?;
        Ok(Self { board: Board::of(play), animation, screen, channel, shown, wishes })
    }

    /// Draws until somebody wants no more.
    pub(super) async fn watch(&mut self) -> Result<(), Failure> {
        let mut keyboard = Keyboard::listen();
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut look = pin!(look(self.channel.clone()));
        loop {
            tokio::select! {
                biased;
                key = keyboard.next() => match self.board.press(&key?) {
                    Pressed::Quit => return Ok(()),
                    Pressed::Wish(wish) => self.want(wish),
                    Pressed::Nothing => {}
                },
                _ = frames.tick() => {
                    self.screen.draw(|frame| paint::paint(&self.board, &mut self.animation, frame))?;
                }
                (at, seen) = &mut look => {
                    // While the broker is gone there is nothing to see: the picture says how old it is.
                    if let Ok(seen) = seen {
                        self.animation.take(at, seen);
                    }
                    look.set(self::look(self.channel.clone()));
                }
                Some(shown) = self.shown.recv() => self.board.take(shown),
            }
        }
    }

    fn want(&mut self, wish: Wish) {
        if self.wishes.try_send(wish).is_err() {
            self.board.take(Shown::Note("one after the other: the last keys are not done yet".to_owned()));
        }
    }
}

/// Looks once more, in a while.
async fn look(channel: Channel) -> (Instant, Result<Look, Failure>) {
    tokio::time::sleep(LOOK_INTERVAL).await;
    (Instant::now(), Look::at(&channel).await)
}
