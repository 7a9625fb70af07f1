//! `leveret user`: make, change and delete users.

use std::io::Read;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output;
use super::session::{Target, once};
use crate::auth::{PASSWORD_BYTES_MAX, Password};
use crate::client::NewUser;

/// What was typed after `user`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: Target,
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
    /// Delete a user; also fine if there is none
    Delete {
        /// Name of the user
        name: String,
    },
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.what {
        What::Put { name, password_stdin, administrator, vhosts } => {
            let password = if password_stdin { password_from_stdin()? } else { String::new() };
            let told = format!("user '{name}' is there ({})", may_open(administrator, &vhosts));
            let user = NewUser { name, password, administrator, vhosts };
            once(&arguments.target, async |channel| Ok(channel.put_user(user).await?))?;
            output::line(&told)
        }
        What::Delete { name } => {
            once(&arguments.target, async |channel| Ok(channel.delete_user(&name).await?))?;
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

/// The first line of standard input, without its end. Anything after it was not meant as a password.
fn password_from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let bytes_max = PASSWORD_BYTES_MAX as u64 + 2;
    std::io::stdin()
        .lock()
        .take(bytes_max)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("cannot read a password from standard input: {error}")))?;
    let line = text.split('\n').next().unwrap_or_default();
    let password = line.strip_suffix('\r').unwrap_or(line);
    Password::new(password)
        .map_err(|error| Failure::usage(error.to_string()).hint("write it to standard input, on one line"))?;
    Ok(password.to_owned())
}
