//! The four layers laid over each other: defaults, file, environment, flags.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::effective::Config;
use super::error::{ConfigError, Problem};
use super::file;
use super::key::{KEYS, Key};
use super::machine::Machine;
use super::value::{Input, Value};
use crate::model::frame_bytes_needed;
use crate::model::nearest;

/// Files that are read if they are there and none was named; the first one counts.
pub const FILES: [&str; 2] = ["./leveret.toml", "/etc/leveret/leveret.toml"];

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where values may come from, besides the defaults.
#[derive(Debug, Default)]
pub struct Sources {
    /// A file that must be there; `None`: the first of `files` that is there, or none.
    pub file: Option<PathBuf>,
    /// Files to look for, usually [`FILES`].
    pub files: Vec<PathBuf>,
    /// The environment. Names that do not begin with `LEVERET_` are left alone.
    pub environment: Vec<(String, String)>,
    /// Flags that were given.
    pub flags: Vec<(&'static Key, String)>,
}

/// Where a value comes from. Later variants go before earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GivenBy {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// Which.
        file: PathBuf,
        /// Line in it, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag.
    Flag {
        /// Its name, without dashes.
        flag: &'static str,
    },
}

impl GivenBy {
    fn layer(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Environment { .. } => 2,
            Self::Flag { .. } => 3,
        }
    }
}

impl fmt::Display for GivenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => write!(f, "--{flag}"),
        }
    }
}

/// A key with its value and where that comes from.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its value. What 0 stands for is already put in its place.
    pub value: Value,
    /// Where the value comes from.
    pub origin: GivenBy,
}

/// The effective value of every key.
#[derive(Debug, Clone)]
pub struct Settings {
    /// One for each of [`KEYS`], in that order.
    all: Vec<Setting>,
    /// The file that was read, if there was one.
    file: Option<PathBuf>,
    /// Somebody has said how many shards there are to be.
    pub(super) shards_are_chosen: bool,
}

impl Settings {
    /// Reads all layers and checks that the values go together.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(sources: Sources, machine: Machine) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults();
        let mut problems = Vec::new();
        match text_of_file(&sources) {
            Ok(Some((file, text))) => {
                file::apply(&mut settings, &file, &text, &mut problems);
                settings.file = Some(file);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
        settings.apply_environment(&sources.environment, &mut problems);
        for (key, text) in &sources.flags {
            let flag = key.flag.unwrap_or(key.name);
            settings.put(key, Input::Text(text), GivenBy::Flag { flag }, &mut problems);
        }
        if problems.is_empty() {
            settings.settle_memory_or_data();
            settings.put_machine_in_place_of_zero(machine);
            problems.extend(settings.conflicts());
        }
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
    }

    /// Every key with its value and origin, in the order of [`KEYS`].
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.all.iter()
    }

    /// The file that was read, if there was one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The values as the program uses them.
    pub fn config(&self) -> Config {
        Config::of(self)
    }

    /// The setting of a key that is known to exist.
    pub(crate) fn named(&self, name: &'static str) -> &Setting {
        self.all.iter().find(|setting| setting.key.name == name).expect("the name is one of KEYS")
    }

    /// Sets a value unless it is wrong; what is wrong is added to `problems`.
    pub(crate) fn put(
        &mut self,
        key: &'static Key,
        input: Input<'_>,
        origin: GivenBy,
        problems: &mut Vec<Problem>,
    ) {
        match Value::read(&key.allowed, input) {
            Some(value) => self.replace(key.name, value, origin),
            None => {
                let secret = matches!(key.allowed, super::key::Allowed::Password);
                let got = if secret { "(hidden)".to_owned() } else { input.to_string() };
                problems.push(Problem::BadValue {
                    key: key.name,
                    origin,
                    got,
                    allowed: key.allowed.to_string(),
                });
            }
        }
    }

    fn replace(&mut self, name: &'static str, value: Value, origin: GivenBy) {
        let place = self.all.iter_mut().find(|setting| setting.key.name == name);
        let setting = place.expect("the name is one of KEYS");
        setting.value = value;
        setting.origin = origin;
    }

    fn defaults() -> Self {
        let default = |key: &'static Key| Setting {
            key,
            value: Value::read(&key.allowed, Input::Text(key.default)).expect("a default is allowed"),
            origin: GivenBy::Default,
        };
        Self { all: KEYS.iter().map(default).collect(), file: None, shards_are_chosen: false }
    }

    fn apply_environment(&mut self, environment: &[(String, String)], problems: &mut Vec<Problem>) {
        let mut ours: Vec<_> = environment
            .iter()
            .filter(|(variable, _)| variable.starts_with("LEVERET_") && !is_somebody_elses(variable))
            .collect();
        ours.sort();
        for (variable, text) in ours {
            let origin = GivenBy::Environment { variable: variable.clone() };
            match Key::of_variable(variable) {
                Some(key) => self.put(key, Input::Text(text), origin, problems),
                None => problems.push(Problem::UnknownKey {
                    name: variable.clone(),
                    origin: GivenBy::Environment { variable: "environment".to_owned() },
                    nearest: nearest(variable, KEYS.iter().map(|key| key.variable)),
                }),
            }
        }
    }

    /// Of "in memory" and "in this directory" the later layer counts.
    fn settle_memory_or_data(&mut self) {
        let (memory, data) = (self.named("memory"), self.named("data"));
        if memory.value == Value::Switch(true) && data.origin.layer() > memory.origin.layer() {
            let origin = data.origin.clone();
            self.replace("memory", Value::Switch(false), origin);
        }
    }

    fn put_machine_in_place_of_zero(&mut self, machine: Machine) {
        let frame = match self.named("message_bytes_max").value {
            Value::Bytes(message) => Value::Bytes(frame_bytes_needed(message)),
            _ => unreachable!("message_bytes_max is a size"),
        };
        // The logs' threads and the system want a core, too: with a worker on each, all of them wake and wait more.
        let workers = match self.named("worker_threads").value {
            Value::Count(0) => machine.cores.saturating_sub(1).clamp(1, WORKERS_AUTOMATIC_MAX),
            Value::Count(given) => given,
            _ => unreachable!("worker_threads is a number"),
        };
        self.shards_are_chosen = self.named("shards").value != Value::Count(0);
        let stand_ins = [
            ("worker_threads", Value::Count(workers)),
            ("shards", Value::Count(workers.min(SHARDS_AUTOMATIC_MAX))),
            ("frame_bytes_max", frame),
            ("memory_bytes_max", Value::Bytes(memory_share(machine))),
        ];
        for (name, value) in stand_ins {
            let setting = self.named(name);
            if matches!(setting.value, Value::Count(0) | Value::Bytes(0)) {
                let origin = setting.origin.clone();
                self.replace(name, value, origin);
            }
        }
    }

    fn conflicts(&self) -> Vec<Problem> {
        let config = self.config();
        let mut problems = Vec::new();
        let frame_needed = frame_bytes_needed(config.connection.message_bytes_max as u64);
        if (config.connection.frame_bytes_max as u64) < frame_needed {
            let (frame, message) = (self.named("frame_bytes_max"), self.named("message_bytes_max"));
            problems.push(Problem::Conflict {
                text: format!(
                    "frame_bytes_max = {} ({}) is too small for message_bytes_max = {} ({}): a frame needs 64 KiB \
                     more than the largest message; leave frame_bytes_max at 0 and it will fit",
                    frame.value, frame.origin, message.value, message.origin
                ),
            });
        }
        let everybody_knows = config.first_user.as_ref().is_some_and(|user| user.everybody_knows());
        if everybody_knows && !config.network.listen.ip().to_canonical().is_loopback() {
            let listen = self.named("listen");
            problems.push(Problem::Conflict {
                text: format!(
                    "listen = {} ({}) lets other machines in, and the first user would be guest with the password \
                     guest, which everybody knows. Do one of these: set LEVERET_DEFAULT_PASSWORD (or default_password \
                     in a file) to a password of your own; set default_user = \"\" (--default-user \"\") if the data \
                     directory has its users already; or listen on 127.0.0.1",
                    listen.value, listen.origin
                ),
            });
        }
        problems
    }
}

/// 40 % of the machine's memory, in whole MiB, 16 of them at least.
fn memory_share(machine: Machine) -> u64 {
    const MIB: u64 = 1 << 20;
    (machine.memory_bytes / 10 * 4 / MIB).max(16) * MIB
}

/// Worker threads at most when their number follows the cores.
const WORKERS_AUTOMATIC_MAX: u64 = 1024;

/// Shards at most when their number follows the worker threads.
const SHARDS_AUTOMATIC_MAX: u64 = 8;

/// Variables with our prefix that are no settings of the broker: the client commands' URL, and what Kubernetes sets
/// in every container for a service that is called "leveret".
fn is_somebody_elses(variable: &str) -> bool {
    let name = variable.strip_prefix("LEVERET_").unwrap_or(variable);
    name == "URL"
        || name == "PORT"
        || name.starts_with("PORT_")
        || name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
}

fn text_of_file(sources: &Sources) -> Result<Option<(PathBuf, String)>, Problem> {
    if let Some(file) = &sources.file {
        return match read_bounded(file) {
            Ok(text) => Ok(Some((file.clone(), text))),
            Err(error) => Err(Problem::Unreadable { file: file.clone(), error }),
        };
    }
    for file in &sources.files {
        match read_bounded(file) {
            Ok(text) => return Ok(Some((file.clone(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Problem::Unreadable { file: file.clone(), error }),
        }
    }
    Ok(None)
}

fn read_bounded(file: &Path) -> io::Result<String> {
    use std::io::Read;

    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a configuration has 1 MiB at most"));
    }
    Ok(text)
}
