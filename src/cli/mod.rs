//! The `leveret` command: what was typed, what it means, run.
//!
//! Owns the names of commands and flags, what they print, and exit statuses: 0 if all that was asked was done, 2 if what
//! was typed makes no sense, 1 otherwise. Must never know how a broker works inside: every command but `serve` is a
//! client like any other, over [`crate::client`]. Start reading at `Command`, then pick the file of a command: its
//! arguments stand at the top, what it does below.

mod bind;
mod config;
mod config_flags;
mod consume;
mod declare;
mod delete;
mod explain;
mod failure;
mod field;
mod get;
mod if_exists;
mod interrupt;
mod line_reader;
mod list;
mod log;
mod message_output;
mod open_files;
mod output;
mod password;
mod perf;
mod publish;
mod serve;
mod session;
mod table;
mod terminal;
mod user;
mod vhost;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// A message broker with RabbitMQ's model, and confirms that mean the disk has it
///
/// Start one with `leveret serve`, then try:
///
///   leveret declare queue hello
///   leveret publish --key hello "Hello, world"
///   leveret consume hello --count 1
#[derive(Debug, Parser)]
#[command(name = "leveret", version, verbatim_doc_comment, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker
    Serve(serve::Arguments),
    /// Make an exchange or a queue, or check that the one there is equal
    Declare(declare::Arguments),
    /// Lead messages from an exchange to a queue or to another exchange
    Bind(bind::Arguments),
    /// Take a binding away
    Unbind(bind::UnbindArguments),
    /// Delete an exchange or a queue
    Delete(delete::DeleteArguments),
    /// Drop the ready messages of a queue
    Purge(delete::PurgeArguments),
    /// List what a broker has
    List(list::Arguments),
    /// Publish messages and wait for their confirms
    Publish(publish::Arguments),
    /// Take messages from a queue as they come
    Consume(consume::Arguments),
    /// Take one message from a queue, if there is one
    Get(get::Arguments),
    /// Tell where a message would go, and why, without publishing it
    Explain(explain::Arguments),
    /// Make, change or delete users
    User(user::Arguments),
    /// Make or delete virtual hosts
    Vhost(vhost::Arguments),
    /// Measure how fast a broker is, and check that it loses nothing
    Perf(perf::Arguments),
    /// Show the broker's configuration, or an example of one
    Config(config::Arguments),
}

/// The whole program: reads the arguments, runs the command, reports.
pub fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Declare(arguments) => declare::run(arguments),
        Command::Bind(arguments) => bind::bind(arguments),
        Command::Unbind(arguments) => bind::unbind(arguments),
        Command::Delete(arguments) => delete::delete(arguments),
        Command::Purge(arguments) => delete::purge(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Get(arguments) => get::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::User(arguments) => user::run(arguments),
        Command::Vhost(arguments) => vhost::run(arguments),
        Command::Perf(arguments) => perf::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn names_of_commands_and_flags_do_not_clash() {
        Arguments::command().debug_assert();
    }

    /// Walks all commands that can be run: those without commands below them.
    fn for_each_command(command: &clap::Command, path: &str, check: &mut impl FnMut(&str, &clap::Command)) {
        let mut below = command.get_subcommands().filter(|command| command.get_name() != "help").peekable();
        if below.peek().is_none() {
            check(path, command);
        }
        for command in below {
            for_each_command(command, &format!("{path} {}", command.get_name()), check);
        }
    }

    #[test]
    fn the_reference_documents_every_command_and_flag() {
        let reference = include_str!("../../docs/COMMANDS.md");
        let section_of = |path: &str| {
            let heading = format!("`{path}`");
            let is_its_own =
                |section: &&str| section.lines().next().is_some_and(|line| line.contains(&heading));
            let section = reference.split("\n## ").find(is_its_own);
            section.unwrap_or_else(|| panic!("docs/COMMANDS.md has no section with {heading} in its heading"))
        };
        let settings: Vec<&str> = crate::config::KEYS.iter().filter_map(|key| key.flag).collect();
        for_each_command(&Arguments::command(), "leveret", &mut |path, command| {
            let section = section_of(path);
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                let is_elsewhere = settings.contains(&flag) || ["help", "version", "url"].contains(&flag);
                assert!(is_elsewhere || section.contains(&format!("`--{flag}")), "{path}: --{flag}");
            }
        });
    }
}
