//! `leveret vhost`: make and delete virtual hosts.

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use super::session::{Target, once};

/// What was typed after `vhost`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a virtual host; also fine if it is there
    Put {
        /// Its name
        name: String,
    },
    /// Delete a virtual host with all that is in it
    Delete {
        /// Its name
        name: String,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Put { name } => {
            once(&arguments.target, async |channel| Ok(channel.put_vhost(&name).await?))?;
            output::line(&format!("vhost '{name}' is there"))
        }
        What::Delete { name } => {
            once(&arguments.target, async |channel| Ok(channel.delete_vhost(&name).await?))?;
            output::line(&format!("there is no vhost '{name}' any more"))
        }
    }
}
