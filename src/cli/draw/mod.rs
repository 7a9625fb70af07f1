//! `leveret draw`: the architecture of a broker as it is now.
//!
//! Owns the picture: [`look`] asks the broker for its lists, [`build`] makes a [`picture`] of two of them, and [`boxes`],
//! [`svg`], [`mermaid`] and [`json`] draw it; all but the first are functions of what they are given. Must never show what no
//! counter told: what moves in [`live`] was counted. Start reading at `picture`.

mod animation;
mod boxes;
mod build;
mod canvas;
mod counted;
mod flow;
mod json;
mod lanes;
mod lines;
mod live;
mod look;
mod mermaid;
mod moving;
mod picture;
mod scope;
mod svg;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::failure::Failure;
use super::number;
use super::output;
use super::session::{Session, Target, block_on};
use super::terminal::Terminal;
use crate::client::{Channel, ConnectOptions};
pub(super) use animation::Animation;
pub(super) use look::Look;
use picture::Picture;
use scope::Scope;

/// What was typed after `draw`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Draw again and again, with messages that move, until q is pressed
    #[arg(long, conflicts_with_all = ["svg", "mermaid", "json"])]
    live: bool,
    /// Write the picture as SVG into this file; '-' is standard output
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the picture as a Mermaid flowchart into this file; '-' is standard output
    #[arg(long, value_name = "FILE")]
    mermaid: Option<PathBuf>,
    /// Print the picture as JSON
    #[arg(long)]
    json: bool,
    /// Only exchanges with this name, and what belongs to them; '*' stands for any letters
    #[arg(long, value_name = "PATTERN")]
    exchange: Vec<String>,
    /// Only queues with this name, and what belongs to them; '*' stands for any letters
    #[arg(long, value_name = "PATTERN")]
    queue: Vec<String>,
    /// The virtual host, instead of that of the URL
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
    /// Most producers, exchanges, queues and consumers that are drawn, of each the busiest, 1 to 1000
    #[arg(long, value_name = "N", default_value = "50", value_parser = number::whole::<usize>(1, LIMIT_MAX))]
    limit: usize,
    /// Time between two looks, in which messages are counted, 0.1 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    pub(super) target: Target,
}

/// Most nodes of a kind.
const LIMIT_MAX: u64 = 1000;

fn interval(typed: &str) -> Result<Duration, String> {
    let seconds = typed.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let fits =
        |interval: &Duration| (Duration::from_millis(100)..=Duration::from_secs(60)).contains(interval);
    seconds.filter(fits).ok_or_else(|| "expected 0.1 to 60 seconds".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { live, svg, mermaid, json, exchange, queue, vhost, limit, interval, target } = arguments;
    let is_stdout = |path: &Option<PathBuf>| path.as_deref().is_some_and(|path| path == Path::new("-"));
    if usize::from(is_stdout(svg)) + usize::from(is_stdout(mermaid)) + usize::from(*json) > 1 {
        return Err(Failure::usage("only one picture can go to standard output"));
    }
    let options = target.options()?;
    let options = match vhost {
        Some(vhost) => options.in_vhost(vhost),
        None => options,
    };
    let scope = Scope { exchanges: exchange.clone(), queues: queue.clone(), limit: *limit };
    if *live {
        return live::run(options, &scope, *interval);
    }
    let picture = look_twice(options, &scope, *interval)?;
    if let Some(path) = svg {
        write(path, &svg::render(&picture))?;
    }
    if let Some(path) = mermaid {
        write(path, &mermaid::render(&picture))?;
    }
    if *json {
        return output::json_line(&json::render(&picture));
    }
    if svg.is_some() || mermaid.is_some() {
        return Ok(());
    }
    let terminal = Terminal::of_stdout();
    let drawing = boxes::draw(&picture, terminal.columns.unwrap_or(COLUMNS));
    output::text(&drawing.canvas.to_text(terminal))
}

/// A virtual host as it is now, without rates: these exchanges, and what belongs to them.
pub(super) async fn now(
    channel: &Channel,
    vhost: &str,
    exchanges: Vec<String>,
    terminal: Terminal,
) -> Result<String, Failure> {
    let scope = Scope { exchanges, queues: Vec::new(), limit: NOW_MAX };
    let look = Look::at(channel).await?;
    let picture = build::build(vhost, &scope, &look, &look, NOW_MS);
    Ok(boxes::draw(&picture, terminal.columns.unwrap_or(COLUMNS)).canvas.to_text(terminal))
}

/// Most nodes of a kind in [`now`].
const NOW_MAX: usize = 50;

/// Between a look and itself there is no time, and nothing is counted: any will do.
const NOW_MS: u64 = 1000;

/// Columns where there is no terminal.
const COLUMNS: usize = 80;

fn look_twice(options: ConnectOptions, scope: &Scope, interval: Duration) -> Result<Picture, Failure> {
    let vhost = options.vhost().to_owned();
    block_on(async {
        let session = Session::open(options.no_reconnect()).await?;
        let began = Instant::now();
        let before = Look::at(&session.channel).await?;
        tokio::time::sleep(interval.saturating_sub(began.elapsed())).await;
        let interval_ms = millis(began.elapsed());
        let now = Look::at(&session.channel).await?;
        // All that was asked is answered.
        let _ = session.close().await;
        Ok(build::build(&vhost, scope, &before, &now, interval_ms))
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Writes into a file and says so, or to standard output.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        return output::text(text);
    }
    std::fs::write(path, text)
        .map_err(|error| Failure::io(&format!("cannot write '{}'", path.display()), &error))?;
    output::line(&format!("the picture is in '{}'", path.display()))
}
