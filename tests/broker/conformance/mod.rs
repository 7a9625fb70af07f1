//! The scenarios of `tests/conformance`, played with Leveret, and held against what RabbitMQ was seen to do.

mod clients;
#[path = "../../conformance/play/mod.rs"]
mod play;
mod rules;
mod table;

use clients::Clients;
use play::{Side, all, play as play_with};

use crate::support::Broker;

/// From this package's folder.
const SCENARIOS: &str = "tests/conformance/scenarios";

/// `CONFORMANCE=WORDS cargo test --test broker conformance` plays only scenarios with these words in their names.
#[tokio::test]
async fn leveret_does_in_every_scenario_what_it_says() {
    let broker = Broker::start();
    let wanted = std::env::var("CONFORMANCE").unwrap_or_default();
    let mut misses = Vec::new();
    for scenario in all().iter().filter(|scenario| scenario.name.contains(&wanted)) {
        let mut clients = Clients::in_a_vhost_of_their_own(&broker, &scenario.name).await;
        let seen = play_with(&mut clients, scenario).await;
        misses.extend(scenario.misses(Side::Leveret, &seen));
    }
    assert!(misses.is_empty(), "{} steps showed something else:\n{}", misses.len(), misses.join("\n"));
}
