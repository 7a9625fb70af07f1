//! Plays the scenarios of `tests/conformance` with a RabbitMQ, and keeps what was seen.
//!
//! ```text
//! leveret-conformance-rabbitmq URL VERSION [--store]
//! ```
//!
//! Fails if something else is seen than what is stored of this version; where nothing is stored, than what the scenarios say of
//! RabbitMQ. With `--store` what is seen is stored, and what the scenarios say otherwise is told.

mod clients;
#[path = "../../play/mod.rs"]
mod play;

use std::path::Path;
use std::process::ExitCode;

use clients::Clients;
use play::{Observed, Side, all, play as play_with};

/// From this package's folder.
const SCENARIOS: &str = "../scenarios";

/// From this package's folder: what was seen, a file for each version.
const OBSERVED: &str = "../observed";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, version, store) = match &arguments[..] {
        [url, version] => (url, version, false),
        [url, version, flag] if flag == "--store" => (url, version, true),
        _ => {
            eprintln!("usage: leveret-conformance-rabbitmq URL VERSION [--store]");
            return ExitCode::from(2);
        }
    };
    let wanted = std::env::var("CONFORMANCE").unwrap_or_default();
    let mut misses = Vec::new();
    let mut observed =
        Observed { broker: "RabbitMQ".to_owned(), version: version.clone(), scenarios: Default::default() };
    for scenario in all().iter().filter(|scenario| scenario.name.contains(&wanted)) {
        let mut clients = Clients::new(url);
        let seen = play_with(&mut clients, scenario).await;
        if let Err(problem) = clients.clean_up().await {
            eprintln!("after '{}': {problem}", scenario.name);
            return ExitCode::FAILURE;
        }
        misses.extend(scenario.misses(Side::RabbitMq, &seen));
        observed.scenarios.insert(scenario.name.clone(), seen);
    }
    println!("RabbitMQ {version}: {} scenarios played", observed.scenarios.len());
    if wanted.is_empty() {
        misses = held_against_stored(&observed, store, misses);
    }
    for miss in &misses {
        eprintln!("{miss}");
    }
    if misses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Stores what was seen; or holds it against what is stored of this version, which `cargo test` holds against the scenarios. Of a
/// version of which nothing is stored the scenarios speak, and what they miss.
fn held_against_stored(observed: &Observed, store: bool, misses: Vec<String>) -> Vec<String> {
    let file = format!("rabbitmq-{}.json", observed.version);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(OBSERVED).join(&file);
    if store {
        std::fs::write(&path, observed.to_json())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return misses;
    }
    let Ok(stored) = std::fs::read_to_string(&path) else {
        println!("nothing is stored of this version: the scenarios speak");
        return misses;
    };
    let stored: Observed =
        serde_json::from_str(&stored).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    println!("held against observed/{file}");
    stored.differences(observed)
}
