//! `leveret set`: what users may do.

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use super::session::{Target, once};
use crate::client::{Permissions, TopicPermissions};

/// What was typed after `set`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what a user may do in a virtual host, to exchanges and queues by their names
    ///
    /// Each pattern is a regular expression that is looked for anywhere in a name: ^ and $ tie it to the ends, '.*' is every
    /// name and '' none. It replaces what the user may do in this virtual host, and counts at once, also for connections
    /// that are there. The user may open the virtual host afterwards.
    Permissions {
        /// Name of the user
        user: String,
        #[command(flatten)]
        vhost: InVhost,
        /// Names of what the user may make and delete
        #[arg(long, value_name = "PATTERN")]
        configure: String,
        /// Names of where the user may put messages in, or lead them to
        #[arg(long, value_name = "PATTERN")]
        write: String,
        /// Names of where the user may take messages out, or lead them on from
        #[arg(long, value_name = "PATTERN")]
        read: String,
    },
    /// Say which routing keys a user may use with a topic exchange
    ///
    /// The patterns are as in `leveret set permissions`, which have to allow the exchange besides. In them {username} and
    /// {vhost} stand for the names.
    TopicPermissions {
        /// Name of the user
        user: String,
        /// The exchange, which need not be there
        exchange: String,
        #[command(flatten)]
        vhost: InVhost,
        /// Keys to publish under
        #[arg(long, value_name = "PATTERN")]
        write: String,
        /// Keys to bind with
        #[arg(long, value_name = "PATTERN")]
        read: String,
    },
}

/// The virtual host that something is about.
#[derive(Debug, Clone, Args)]
pub(super) struct InVhost {
    /// The virtual host, if not that of the connection
    #[arg(long, value_name = "VHOST")]
    vhost: Option<String>,
}

impl InVhost {
    /// Its name.
    pub(super) fn named(self, target: &Target) -> Result<String, Failure> {
        match self.vhost {
            Some(vhost) => Ok(vhost),
            None => Ok(target.options()?.vhost().to_owned()),
        }
    }
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let target = &arguments.target;
    match arguments.what {
        What::Permissions { user, vhost, configure, write, read } => {
            let vhost = vhost.named(target)?;
            let told = format!(
                "user '{user}' may in vhost '{vhost}': configure '{configure}', write '{write}', read '{read}'"
            );
            let permissions = Permissions { user, vhost, configure, write, read };
            once(target, async |channel| Ok(channel.put_permissions(permissions).await?))?;
            output::line(&told)
        }
        What::TopicPermissions { user, exchange, vhost, write, read } => {
            let vhost = vhost.named(target)?;
            let told = format!(
                "user '{user}' may with keys of exchange '{exchange}' in vhost '{vhost}': write '{write}', read '{read}'"
            );
            let permissions = TopicPermissions { user, vhost, exchange, write, read };
            once(target, async |channel| Ok(channel.put_topic_permissions(permissions).await?))?;
            output::line(&told)
        }
    }
}
