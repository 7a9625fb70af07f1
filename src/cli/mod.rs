//! The `leveret` command: what was typed, what it means, run.
//!
//! Owns the names of commands and flags, what they print, and exit statuses: 0 if all that was asked was done, 2 if what
//! was typed makes no sense, 1 otherwise. Must never know how a broker works inside: every command but `serve`, and `log`,
//! which looks at what a broker left, is a client like any other, over [`crate::client`]; `demo` brings its broker. Start
//! reading at `Command`, then pick the file of a command: its arguments stand at the top, what it does below.

mod alter;
mod alter_queue;
mod bind;
mod browse;
mod cancel;
mod clock;
mod config;
mod config_flags;
mod consume;
mod declare;
mod delete;
mod demo;
mod did_you_mean;
mod draw;
mod explain;
mod failure;
mod field;
mod get;
mod if_exists;
mod interrupt;
mod journey;
mod journeys;
mod limits;
mod line_reader;
mod list;
mod log;
mod log_files;
mod message_output;
mod number;
mod open_files;
mod output;
mod password;
mod perf;
mod ping;
mod properties;
mod publish;
mod receipts;
mod replay;
mod retain;
mod schema;
mod screen;
mod serve;
mod service_manager;
mod session;
mod set;
mod shell;
mod simulate;
mod status;
mod subscribe;
mod subscriptions;
mod table;
mod terminal;
mod transfer;
mod user;
mod vhost;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use failure::Failure;
use session::Target;

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
    /// Broker to talk to; may also stand behind the command
    #[arg(long = "url", id = "url_before", value_name = "URL", help_heading = "Broker")]
    url: Option<String>,
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
    /// Replace what an exchange takes, or change arguments of a queue
    Alter(alter::Arguments),
    /// Say what users may do, how much they and virtual hosts may have, and what holds for queues and exchanges by name
    Set(set::Arguments),
    /// Delete an exchange, a queue or a policy, or take permissions away
    Delete(delete::DeleteArguments),
    /// Drop the ready messages of a queue
    Purge(delete::PurgeArguments),
    /// Take messages out of a queue that it holds back until a later time
    Cancel(cancel::Arguments),
    /// List what a broker has
    List(list::Arguments),
    /// Publish messages and wait for their confirms
    Publish(publish::Arguments),
    /// Take messages from a queue as they come
    Consume(consume::Arguments),
    /// Take messages of an exchange as they come, for as long as the command runs, or over a durable subscription
    Subscribe(subscribe::Arguments),
    /// Show durable subscriptions: who is there, who is dark since when, and what waits for them
    Subscriptions(subscriptions::ListArguments),
    /// Delete a durable subscription, or one member of it
    Unsubscribe(subscriptions::UnsubscribeArguments),
    /// Take one message from a queue, if there is one
    Get(get::Arguments),
    /// Show what lies in a queue, which stays as it is
    Browse(browse::Arguments),
    /// Show messages again that consumers are done with, as far as their queue retains them
    Replay(replay::Arguments),
    /// Copy messages of a queue to another queue or an exchange
    Copy(transfer::Arguments),
    /// Move messages of a queue to another queue or an exchange
    Move(transfer::Arguments),
    /// Tell where a message would go, and why, without publishing it
    Explain(explain::Arguments),
    /// Tell who has had a message and who has it, queue by queue
    Receipts(receipts::Arguments),
    /// Tell the story of a message: where it went and why, who got it, and what became of it
    Journey(journey::Arguments),
    /// Say of which messages journeys are kept
    Journeys(journeys::Arguments),
    /// Draw who publishes where, what leads to which queue, and who consumes, as it is now
    Draw(draw::Arguments),
    /// Make, change or delete users
    User(user::Arguments),
    /// Make or delete virtual hosts
    Vhost(vhost::Arguments),
    /// Show clients that talk to each other over a broker, and what each of them says
    Demo(demo::Arguments),
    /// Measure how fast a broker is, and check that it loses nothing
    Perf(perf::Arguments),
    /// Tell whether a broker is there and answers
    Ping(ping::Arguments),
    /// Show what a broker is and how much is in it
    Status(status::Arguments),
    /// Try a broker in memory against crashes and failing disks, and hold it against what its clients were told
    Simulate(simulate::Arguments),
    /// Print what a shell needs to complete commands
    Completions(shell::CompletionsArguments),
    /// Print the manual page, or write those of all commands
    Man(shell::ManArguments),
    /// Copy a data directory, while a broker runs on it or not
    Backup(log_files::BackupArguments),
    /// Make a data directory of a backup
    Restore(log_files::RestoreArguments),
    /// Look into the files of a broker that does not run
    Log(log_files::Arguments),
    /// Show the broker's configuration, or an example of one
    Config(config::Arguments),
}

/// The whole program: reads the arguments, runs the command, reports.
pub fn main() -> ExitCode {
    let typed = number::with_negative_numbers(Arguments::command())
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let Arguments { url, mut command } = typed.unwrap_or_else(|error| told_apart(error).exit());
    match command.aim(url).and_then(|()| run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// A mistake in what was typed, without the advice to pass a flag as if it were a value: a flag that is none here was meant
/// as a flag.
fn told_apart(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) else { return error };
    let tips: Vec<_> = tips.into_iter().filter(|tip| !tip.to_string().contains("as a value, use")).collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

impl Command {
    /// Takes a URL that stood before the command.
    fn aim(&mut self, url: Option<String>) -> Result<(), Failure> {
        if url.is_none() {
            return Ok(());
        }
        let Some(target) = self.target_mut() else {
            return Err(Failure::usage("this command talks to no broker: it takes no --url"));
        };
        if target.url.is_some() {
            return Err(Failure::usage(
                "--url stands before the command and behind it: one of them is enough",
            ));
        }
        target.url = url;
        Ok(())
    }

    /// The broker that the command is for, if it talks to one.
    fn target_mut(&mut self) -> Option<&mut Target> {
        Some(match self {
            Self::Declare(arguments) => &mut arguments.target,
            Self::Bind(arguments) => &mut arguments.target,
            Self::Unbind(arguments) => &mut arguments.binding.target,
            Self::Alter(arguments) => &mut arguments.target,
            Self::Set(arguments) => &mut arguments.target,
            Self::Delete(arguments) => &mut arguments.target,
            Self::Purge(arguments) => &mut arguments.target,
            Self::Cancel(arguments) => &mut arguments.target,
            Self::List(arguments) => &mut arguments.target,
            Self::Publish(arguments) => &mut arguments.link.target,
            Self::Consume(arguments) => &mut arguments.link.target,
            Self::Subscribe(arguments) => &mut arguments.link.target,
            Self::Subscriptions(arguments) => &mut arguments.target,
            Self::Unsubscribe(arguments) => &mut arguments.target,
            Self::Get(arguments) => &mut arguments.target,
            Self::Browse(arguments) => &mut arguments.target,
            Self::Replay(arguments) => &mut arguments.target,
            Self::Copy(arguments) | Self::Move(arguments) => &mut arguments.target,
            Self::Explain(arguments) => &mut arguments.target,
            Self::Receipts(arguments) => &mut arguments.target,
            Self::Journey(arguments) => &mut arguments.target,
            Self::Journeys(arguments) => &mut arguments.target,
            Self::Draw(arguments) => &mut arguments.target,
            Self::User(arguments) => &mut arguments.target,
            Self::Vhost(arguments) => &mut arguments.target,
            Self::Demo(arguments) => &mut arguments.target,
            Self::Perf(arguments) => &mut arguments.target,
            Self::Ping(arguments) => &mut arguments.target,
            Self::Status(arguments) => &mut arguments.target,
            Self::Serve(_)
            | Self::Simulate(_)
            | Self::Config(_)
            | Self::Log(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Completions(_)
            | Self::Man(_) => {
                return None;
            }
        })
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Declare(arguments) => declare::run(arguments),
        Command::Bind(arguments) => bind::bind(arguments),
        Command::Unbind(arguments) => bind::unbind(arguments),
        Command::Alter(arguments) => alter::run(arguments),
        Command::Set(arguments) => set::run(arguments),
        Command::Delete(arguments) => delete::delete(arguments),
        Command::Purge(arguments) => delete::purge(&arguments),
        Command::Cancel(arguments) => cancel::run(&arguments),
        Command::List(arguments) => list::run(&arguments),
        Command::Publish(arguments) => publish::run(&arguments),
        Command::Consume(arguments) => consume::run(&arguments),
        Command::Subscribe(arguments) => subscribe::run(&arguments),
        Command::Subscriptions(arguments) => subscriptions::list(&arguments),
        Command::Unsubscribe(arguments) => subscriptions::unsubscribe(&arguments),
        Command::Get(arguments) => get::run(&arguments),
        Command::Browse(arguments) => browse::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Copy(arguments) => transfer::copy(&arguments),
        Command::Move(arguments) => transfer::move_on(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Receipts(arguments) => receipts::run(&arguments),
        Command::Journey(arguments) => journey::run(&arguments),
        Command::Journeys(arguments) => journeys::run(arguments),
        Command::Draw(arguments) => draw::run(&arguments),
        Command::User(arguments) => user::run(arguments),
        Command::Vhost(arguments) => vhost::run(arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Perf(arguments) => perf::run(&arguments),
        Command::Ping(arguments) => ping::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => shell::man(&arguments, Arguments::command()),
        Command::Backup(arguments) => log_files::backup(&arguments),
        Command::Restore(arguments) => log_files::restore(&arguments),
        Command::Log(arguments) => log_files::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
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
    fn every_number_that_is_none_is_told_in_words() {
        let mut flags = 0;
        // Numbers among the settings are texts here: the configuration tells what is wrong with them.
        let settings: Vec<&str> = crate::config::KEYS.iter().filter_map(|key| key.flag).collect();
        let program = number::with_negative_numbers(Arguments::command());
        for_each_command(&program, "leveret", &mut |path, command| {
            for arg in command.get_arguments() {
                let names = arg.get_value_names().unwrap_or_default();
                let is_number = |name: &str| {
                    ["N", "S", "SECONDS", "BYTES", "WINDOW", "MSGS_PER_SECOND", "TIME"].contains(&name)
                };
                let Some(flag) = arg.get_long().filter(|flag| !settings.contains(flag)) else { continue };
                if !arg.get_action().takes_values() || !names.iter().any(|name| is_number(name)) {
                    continue;
                }
                flags += 1;
                // Priorities of consumers have either sign.
                let is_signed = flag == "priority" && path != "leveret publish";
                let typed = ["many", "-1", "-0.5", "99999999999999999999", "NaN", ""];
                for typed in typed.into_iter().filter(|typed| !is_signed || *typed != "-1") {
                    let line =
                        path.split(' ').map(str::to_owned).chain([format!("--{flag}"), typed.to_owned()]);
                    let error = program.clone().try_get_matches_from(line).err();
                    let told = error.as_ref().map(ToString::to_string).unwrap_or_default();
                    let kind = error.map(|error| error.kind());
                    assert_eq!(
                        kind,
                        Some(clap::error::ErrorKind::ValueValidation),
                        "{path} --{flag} {typed}: {told}"
                    );
                    assert!(told.contains(": expected "), "{path} --{flag} {typed}: {told}");
                }
            }
        });
        assert!(flags > 20, "only {flags} flags with numbers");
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
