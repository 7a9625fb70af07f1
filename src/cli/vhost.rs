//! `leveret vhost`: make and delete virtual hosts.

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::if_exists::IfExists;
use super::output;
use super::session::{Target, once};
use crate::client::Entity;

/// What was typed after `vhost`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a virtual host; also fine if it is there
    Put {
        /// Its name
        name: String,
        /// Queue that gets a copy of what exchanges in it refuse by their lists and schemas and that name none of their own
        #[arg(long, value_name = "QUEUE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        quarantine_queue: Option<String>,
        /// There is no such queue any more
        #[arg(long, conflicts_with = "quarantine_queue")]
        no_quarantine_queue: bool,
    },
    /// Delete a virtual host with all that is in it
    ///
    /// If it has queues, the command asks first; where it cannot ask, it needs --yes. The last virtual host stays.
    Delete {
        /// Its name
        name: String,
        /// Do not ask, even if it has queues
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        if_exists: IfExists,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Put { name, quarantine_queue, no_quarantine_queue } => {
            let says = quarantine_queue.is_some() || no_quarantine_queue;
            let queue = quarantine_queue.as_deref();
            once(&arguments.target, async |channel| {
                let put = match says {
                    true => channel.put_vhost_quarantine(&name, queue).await,
                    false => channel.put_vhost(&name).await,
                };
                Ok(put?)
            })?;
            output::line(&format!("vhost '{name}' is there"))
        }
        What::Delete { name, yes, if_exists } => {
            once(&arguments.target, async |channel| {
                let vhosts = channel.list_vhosts().await?;
                let found = vhosts.iter().find(|vhost| vhost.name == name);
                if let Some(vhost) = found.filter(|vhost| vhost.queues > 0 && !yes) {
                    confirm(&name, vhost.queues)?;
                }
                // Who is no administrator does not see all there are, and is told so by the broker.
                channel.delete_vhost(&name).await?;
                if_exists
                    .check(found.is_some(), &format!("vhost '{name}'"), "list vhosts")
                    .map_err(|failure| failure.for_lack_of(Entity::Vhost, &name))
            })?;
            output::line(&format!("there is no vhost '{name}' any more"))
        }
    }
}

/// Asks whether the queues are to go, too.
fn confirm(name: &str, queues: u64) -> Result<(), Failure> {
    let what = format!("vhost '{name}' has queues ({queues}), which go with it and all their messages");
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(what).hint("with --yes it is deleted all the same"));
    }
    let cannot = |error| Failure::io("cannot ask", &error).hint("--yes answers beforehand");
    let mut stderr = std::io::stderr();
    stderr.write_all(format!("{what}. Delete it? [y/N] ").as_bytes()).map_err(cannot)?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(cannot)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(format!("vhost '{name}' was not deleted"))),
    }
}
