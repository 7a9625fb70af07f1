//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::settings::GivenBy;
use crate::model::in_words;

/// A configuration that cannot be used, and everything that is wrong with it.
#[derive(Debug)]
pub struct ConfigError {
    /// One or more, in the order of the layers.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// The file is no TOML.
    Malformed {
        /// Which file, and the line.
        origin: GivenBy,
        /// What the reader said.
        message: String,
    },
    /// Nothing is called that.
    UnknownKey {
        /// What stood there.
        name: String,
        /// Where.
        origin: GivenBy,
        /// What it is most like, in the same spelling.
        nearest: Option<&'static str>,
    },
    /// The value is not one that the key takes.
    BadValue {
        /// The key.
        key: &'static str,
        /// Where.
        origin: GivenBy,
        /// What stood there; "(hidden)" for passwords.
        got: String,
        /// What may stand there.
        allowed: String,
    },
    /// Values that are fine one by one do not go together.
    Conflict {
        /// Which values, where they come from, why they do not fit, and what to do.
        text: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                write!(f, "cannot read {}: {}", file.display(), in_words(error))
            }
            Self::Malformed { origin, message } => write!(f, "{origin}: this is not TOML: {message}"),
            Self::UnknownKey { name, origin, nearest } => {
                write!(f, "{origin}: there is no setting '{name}'")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean '{nearest}'?")?,
                    None => f.write_str(";")?,
                }
                f.write_str(" `leveret config example` lists all")
            }
            Self::BadValue { key, origin, got, allowed } => {
                write!(f, "{origin}: {key} = {got} is not allowed: expected {allowed}")
            }
            Self::Conflict { text } => f.write_str(text),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
