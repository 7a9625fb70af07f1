//! `leveret ping`: is there a broker, and does it answer?

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output;
use super::session::{Session, Target, block_on};
use crate::client::{ConnectOptions, Connection};

/// What was typed after `ping`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print address, version and times as JSON
    #[arg(long)]
    json: bool,
    /// Only ask whether a broker is there: for health checks, which need no user for that
    #[arg(long)]
    no_login: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = arguments.target.options()?.no_reconnect();
    if arguments.no_login {
        return probe(&options, arguments.json);
    }
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

fn probe(options: &ConnectOptions, json: bool) -> Result<(), Failure> {
    let address = options.address();
    let answered = block_on(async {
        let began = Instant::now();
        Connection::probe(options).await?;
        Ok(began.elapsed())
    })?;
    if json {
        return output::json_line(&json!({ "address": address, "answer_us": microseconds(answered) }));
    }
    output::line(&format!("a broker answers at {address}, within {} ms", milliseconds(answered)))
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
