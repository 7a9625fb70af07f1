//! `leveret ping`: is there a broker, and does it answer?

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output;
use super::session::{Session, Target, block_on};

/// What was typed after `ping`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print address, version and times as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = arguments.target.options()?.no_reconnect();
    let address = options.address();
    let (offer, connected, answered) = block_on(async {
        let began = Instant::now();
        let session = Session::open(options).await?;
        let connected = began.elapsed();
        let began = Instant::now();
        // A broker answers this without looking at anything: what takes time is the way there and back.
        session.connection.channel().await?;
        let answered = began.elapsed();
        let offer = session.connection.server();
        session.close().await?;
        Ok((offer, connected, answered))
    })?;
    let known = |name: &str| offer.server.get(name).map_or("", String::as_str);
    let (product, version) = (known("product"), known("version"));
    if arguments.json {
        return output::json_line(&json!({
            "address": address,
            "server": product,
            "version": version,
            "connect_us": microseconds(connected),
            "answer_us": microseconds(answered),
        }));
    }
    output::line(&format!(
        "{product} {version} answers at {address}: connected and logged in within {} ms, answered within {} ms",
        milliseconds(connected),
        milliseconds(answered)
    ))
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
