//! `leveret user`: make, change and delete users.

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::if_exists::IfExists;
use super::output;
use super::password;
use super::session::{Target, once};
use crate::client::NewUser;

/// What was typed after `user`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    pub(super) target: Target,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a user, or replace what one may do
    ///
    /// The user may do afterwards what is named here and nothing else. Without --password-stdin a user that exists
    /// keeps its password.
    Put {
        /// Name of the user
        name: String,
        /// Read the password from standard input, up to the end of the first line
        #[arg(long)]
        password_stdin: bool,
        /// May open every vhost, and make and delete users and vhosts
        #[arg(long)]
        administrator: bool,
        /// Vhost that the user may open; may be given more than once
        #[arg(long = "vhost", value_name = "VHOST")]
        vhosts: Vec<String>,
    },
    /// Delete a user
    Delete {
        /// Name of the user
        name: String,
        #[command(flatten)]
        if_exists: IfExists,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Put { name, password_stdin, administrator, vhosts } => {
            let password = match password_stdin {
                true => password::from_stdin()?.reveal().to_owned(),
                false => String::new(),
            };
            let told = format!("user '{name}' is there ({})", may_open(administrator, &vhosts));
            let user = NewUser { name, password, administrator, vhosts };
            once(&arguments.target, async |channel| Ok(channel.put_user(user).await?))?;
            output::line(&told)
        }
        What::Delete { name, if_exists } => {
            once(&arguments.target, async |channel| {
                let is_there = channel.list_users().await?.iter().any(|user| user.name == name);
                if_exists.check(is_there, &format!("user '{name}'"), "list users")?;
                Ok(channel.delete_user(&name).await?)
            })?;
            output::line(&format!("there is no user '{name}' any more"))
        }
    }
}

fn may_open(administrator: bool, vhosts: &[String]) -> String {
    if administrator {
        "administrator: may open every vhost".to_owned()
    } else if vhosts.is_empty() {
        "may open no vhost: name some with --vhost".to_owned()
    } else {
        format!("may open {}", vhosts.join(", "))
    }
}
