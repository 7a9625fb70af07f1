//! `leveret get`: one message, if there is one.

use std::io::Write;

use clap::Args;

use super::failure::Failure;
use super::message_output::{self, Choice, Form};
use super::session::{Target, once};
use crate::client::Get;

/// What was typed after `get`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The queue
    queue: String,
    /// The message counts as accepted when the broker sends it, whether or not it arrives here
    #[arg(long)]
    no_ack: bool,
    /// Look at the message and put it back into its place
    #[arg(long, conflicts_with = "no_ack")]
    requeue: bool,
    /// Write the body alone, and a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print the message as JSON
    #[arg(long)]
    json: bool,
    /// Show all properties of the message, not only its headers
    #[arg(long)]
    properties: bool,
    /// Show when the message came here
    #[arg(long)]
    time: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { raw, json, properties, time, .. } = *arguments;
    let form = Form::of(Choice { raw, json, properties, time });
    let how = Get { no_ack: arguments.no_ack };
    once(&arguments.target, async |channel| {
        let Some(got) = channel.get(&arguments.queue, how).await? else {
            return Err(Failure::new(format!("queue '{}' has no message ready", arguments.queue)));
        };
        let mut stdout = std::io::stdout().lock();
        message_output::print(&mut stdout, form, 1, &got.delivery)?;
        stdout.flush()?;
        if arguments.requeue {
            got.delivery.requeue()?;
        } else if !arguments.no_ack {
            got.delivery.accept_stored().await?;
        }
        Ok(())
    })
}
