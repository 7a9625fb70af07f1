//! `leveret serve`: the one place that wires the parts of a broker together.

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::config_flags::ConfigFlags;
use super::failure::Failure;
use crate::config::{Config, LogFormat, LogLevel, LogOutput};

/// What was typed after `serve`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: ConfigFlags,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.flags.settings()?;
    let config = settings.config();
    start_log(config.log)?;
    if let Some(file) = settings.file() {
        tracing::info!(file = %file.display(), "configuration read");
    }
    serve(config)
}

/// Logs go to standard error; standard output is for the ready line alone.
fn start_log(output: LogOutput) -> Result<(), Failure> {
    let level = match output.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    let started = match output.format {
        LogFormat::Text => {
            let coloured = super::terminal::stderr_takes_colour();
            log.with_ansi(coloured).try_init()
        }
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(format!("cannot start the log: {error}")))
}

fn serve(config: Config) -> Result<(), Failure> {
    let _ = config;
    Err(Failure::new("this build has no broker"))
}
