//! The broker's settings as flags, made from the one list of keys.

use std::path::PathBuf;

use clap::builder::PathBufValueParser;
use clap::{Arg, ArgMatches, Args, Command};

use super::failure::Failure;
use crate::config::{Allowed, ConfigError, FILES, GivenBy, KEYS, Key, Machine, Problem, Settings, Sources};

/// Id and flag of the file's path.
const FILE: &str = "config";

/// Where the configuration comes from: `--config` and a flag for each key that may stand on a command line.
#[derive(Debug)]
pub(super) struct ConfigFlags {
    file: Option<PathBuf>,
    flags: Vec<(&'static Key, String)>,
}

impl ConfigFlags {
    /// Reads all layers: defaults, file, this process's environment, flags.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let sources = Sources {
            file: self.file.clone(),
            files: FILES.iter().map(PathBuf::from).collect(),
            environment: environment()?,
            flags: self.flags.clone(),
        };
        Settings::read(sources, Machine::this()).map_err(Failure::from)
    }
}

/// The variables with our prefix. What is not text is nobody's setting, unless its name says it is ours.
fn environment() -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("LEVERET_")) else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => return Err(Failure::new(format!("the environment variable {name} is not UTF-8"))),
        }
    }
    Ok(variables)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let only_flags = error
            .problems
            .iter()
            .all(|problem| matches!(problem, Problem::BadValue { origin: GivenBy::Flag { .. }, .. }));
        let what = match error.problems.as_slice() {
            [problem] => return failure(only_flags, problem.to_string()),
            problems => format!("the configuration has {} mistakes", problems.len()),
        };
        error
            .problems
            .iter()
            .fold(failure(only_flags, what), |failure, problem| failure.detail(problem.to_string()))
    }
}

fn failure(usage: bool, what: String) -> Failure {
    if usage { Failure::usage(what) } else { Failure::new(what) }
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let file =
            Arg::new(FILE).long(FILE).value_name("FILE").value_parser(PathBufValueParser::new()).help(
                "Configuration file; else ./leveret.toml, else /etc/leveret/leveret.toml, if there is one",
            );
        KEYS.iter().filter_map(flag).fold(command.arg(file), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |key: &'static Key| {
            let value = matches.get_one::<String>(key.flag?)?;
            Some((key, value.clone()))
        };
        Ok(Self {
            file: matches.get_one::<PathBuf>(FILE).cloned(),
            flags: KEYS.iter().filter_map(typed).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Values stay text here: what is wrong with them is told by the configuration, with their origin.
fn flag(key: &'static Key) -> Option<Arg> {
    let flag = key.flag?;
    let arg = Arg::new(flag)
        .long(flag)
        .help(format!("{} [default: {}]", key.meaning.trim_end_matches('.'), default(key)))
        .help_heading(key.group.title())
        .value_name(match key.allowed {
            Allowed::Address => "ADDR",
            Allowed::Directory => "DIR",
            Allowed::Switch => "BOOL",
            Allowed::Count { .. } => "N",
            Allowed::Bytes { .. } => "SIZE",
            Allowed::Choice(_) => "WORD",
            Allowed::Name { .. } => "NAME",
            Allowed::Password => "PASSWORD",
        });
    Some(match key.allowed {
        Allowed::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    })
}

/// The default, and what it stands for if it is 0.
fn default(key: &Key) -> String {
    match key.allowed {
        Allowed::Count { zero: Some(zero), .. } | Allowed::Bytes { zero: Some(zero), .. }
            if key.default == "0" =>
        {
            format!("0: {zero}")
        }
        _ => key.default.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn typed(arguments: &[&str]) -> Vec<(&'static str, String)> {
        let command = ConfigFlags::augment_args(Command::new("test").no_binary_name(true));
        let flags = ConfigFlags::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        flags.flags.into_iter().map(|(key, value)| (key.name, value)).collect()
    }

    #[test]
    fn every_flag_is_the_key_it_names() {
        assert_eq!(typed(&[]), []);
        assert_eq!(
            typed(&["--listen", "127.0.0.1:0", "--memory", "--message-bytes-max=1 MiB"]),
            [
                ("listen", "127.0.0.1:0".to_owned()),
                ("message_bytes_max", "1 MiB".to_owned()),
                ("memory", "true".to_owned()),
            ]
        );
        assert_eq!(typed(&["--memory=false"]), [("memory", "false".to_owned())]);
    }

    #[test]
    fn a_password_cannot_be_typed_where_everybody_can_read_it() {
        let command = ConfigFlags::augment_args(Command::new("test").no_binary_name(true));
        assert!(command.try_get_matches_from(["--default-password", "x"]).is_err());
    }
}
