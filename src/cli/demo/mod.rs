//! `leveret demo`: what a class looks at. Clients that talk to each other over a broker, and what each of them says.
//!
//! Owns what the demos are about and how they are shown. A demo is data ([`play::Play`]): who takes part, what happens, and
//! what is to be heard because of it; one file each. `stage.rs` performs it with real clients over TCP, and fails if anything
//! else is heard; [`lines`] and [`panes`] show it, and with panes whoever watches may take over, by keys. Must never look into the broker: what it asserts it has heard, or asked as any client can. Start reading at
//! `caps.rs`.

mod actor;
mod caps;
mod child_broker;
mod chores;
mod lines;
mod nmq;
mod own_broker;
mod panes;
mod patience;
mod play;
mod rooms;
mod stage;
mod voice;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output;
use super::session::{Target, block_on};
use super::terminal::can_be_drawn_on;
use child_broker::ChildBroker;
use own_broker::OwnBroker;
use patience::PATIENCE;
use play::Play;
use stage::{Options, Shows, perform};

/// What was typed after `demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which one
    #[arg(value_enum)]
    which: Which,
    /// Print the same each time, whatever the terminal, and wait for nobody
    #[arg(long)]
    script: bool,
    /// Decides in which order the actors come: it should not matter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Parcels: vendors, drivers and a hub that logs; drivers and vendors go away, and nothing is lost
    Caps,
    /// Three servers and an app: an event that nobody listens to, one that nobody monitors, and a misspelt queue
    Nmq,
    /// Namespaces and rooms: who hears what
    Rooms,
    /// Chores of a family: added, received, and those that wait; one list for all, or a copy for each
    Chores,
}

impl Which {
    fn play(self) -> Play {
        match self {
            Self::Caps => caps::play(),
            Self::Nmq => nmq::play(),
            Self::Rooms => rooms::play(),
            Self::Chores => chores::play(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let play = arguments.which.play();
    let shows = match arguments.script {
        true => Shows::Script,
        false if can_be_drawn_on() => Shows::Panes,
        false => Shows::Lines,
    };
    let options =
        |connect| Options { connect, shows, seed: arguments.seed, patience: PATIENCE, print: output::text };
    block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let interrupted = interrupt.requested();
        // Only a broker that was named here: a demo is to be tried without thinking of what LEVERET_URL stands for.
        if arguments.target.url.is_some() {
            return perform(&play, options(arguments.target.options()?), None, interrupted).await;
        }
        if play.kills_broker() {
            let mut broker = ChildBroker::new()?;
            let performed = match broker.start().await {
                Ok(()) => perform(&play, options(broker.options()), Some(&mut broker), interrupted).await,
                Err(failure) => Err(failure),
            };
            let ended = broker.end().await;
            return performed.and(ended);
        }
        let broker = OwnBroker::start().await?;
        let performed = perform(&play, options(broker.options()), None, interrupted).await;
        let stopped = broker.stop().await;
        performed.and(stopped)
    })
}
