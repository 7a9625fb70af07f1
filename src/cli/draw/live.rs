//! `leveret draw --live`: the picture in a terminal, drawn again while messages move.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use tokio::time::MissedTickBehavior;

use super::super::failure::Failure;
use super::super::interrupt::Interrupt;
use super::super::screen::{FRAME, Keyboard, Screen, is_end};
use super::super::session::{Session, block_on};
use super::animation::Animation;
use super::look::Look;
use super::scope::Scope;
use crate::client::{Channel, ConnectOptions};

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
        let mut animation = Animation::new(&vhost, scope.clone(), interval, first);
        let mut screen = Screen::open()?;
        let done = watch(&mut animation, &session.channel, &mut screen, &mut interrupt).await;
        drop(screen);
        // Nothing is asked for any more.
        let _ = session.close().await;
        done
    })
}

async fn watch(
    animation: &mut Animation,
    channel: &Channel,
    screen: &mut Screen,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let mut keyboard = Keyboard::listen();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let next = animation.next_look();
        let mut look = pin!(async {
            tokio::time::sleep_until(next.into()).await;
            (Instant::now(), Look::at(channel).await)
        });
        let (at, look) = loop {
            tokio::select! {
                biased;
                () = interrupt.requested() => return Ok(()),
                key = keyboard.next() => if is_end(&key?) { return Ok(()) },
                look = &mut look => break look,
                _ = frames.tick() => screen.draw(|frame| draw(animation, frame))?,
            }
        };
        animation.take(at, look?);
    }
}

fn draw(animation: &mut Animation, frame: &mut Frame<'_>) {
    let area = frame.area();
    let above = Rect { height: area.height.saturating_sub(1), ..area };
    if !Animation::fits(above.width, above.height) {
        let (columns, rows) = Animation::needs();
        return frame
            .render_widget(format!("{columns} columns and {} rows are needed; q quits", rows + 1), area);
    }
    animation.render(above, frame.buffer_mut());
    let footer = format!("q quits · {}", animation.words());
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.buffer_mut().set_stringn(0, area.height - 1, footer, usize::from(area.width), dim);
}
