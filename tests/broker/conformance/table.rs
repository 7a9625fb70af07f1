//! What RabbitMQ was seen to do, as it is stored, is what the scenarios say of it; and the table of differences in
//! docs/DIFFERENCES.md is what they say.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::play::{Observed, Scenario, Side, all};

const BEGIN: &str = "<!-- made by `CONFORMANCE_WRITE=1 cargo test --test broker conformance`: begin -->";
const END: &str = "<!-- end -->";

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What was seen on the newest RabbitMQ of which something is stored.
fn observed() -> Observed {
    let folder = root().join("tests/conformance/observed");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let newest: PathBuf =
        files.max_by_key(|path| numbers(&path.to_string_lossy())).expect("something is stored");
    serde_json::from_str(&std::fs::read_to_string(newest).unwrap()).unwrap()
}

fn numbers(text: &str) -> Vec<u32> {
    let numbers = text.rsplit('/').next().unwrap_or(text).split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn the_newest_version_is_found_by_its_numbers() {
    assert!(numbers("/a9/rabbitmq-4.10.1.json") > numbers("/a9/rabbitmq-4.3.16.json"));
    assert_eq!(numbers("/a9/rabbitmq-4.3.6.json"), [4, 3, 6]);
}

#[test]
fn rabbitmq_was_seen_to_do_what_the_scenarios_say() {
    let (scenarios, observed) = (all(), observed());
    let mut misses = Vec::new();
    for scenario in &scenarios {
        match observed.scenarios.get(&scenario.name) {
            Some(seen) => misses.extend(scenario.misses(Side::RabbitMq, seen)),
            None => misses.push(format!("'{}' was never played with RabbitMQ", scenario.name)),
        }
    }
    let unknown = observed.scenarios.keys().filter(|name| !scenarios.iter().any(|one| one.name == **name));
    misses.extend(unknown.map(|name| format!("'{name}' is stored, and no scenario")));
    assert!(misses.is_empty(), "{} misses:\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn every_difference_is_a_row_of_the_page() {
    let page = page();
    let hand_written = page.split(BEGIN).next().unwrap();
    let unknown: Vec<String> = all()
        .iter()
        .filter_map(|scenario| Some((&scenario.name, scenario.difference.as_ref()?)))
        .filter(|(_, row)| !hand_written.lines().any(|line| row_name(line) == Some(plain(row))))
        .map(|(name, row)| format!("'{name}' names '{row}'"))
        .collect();
    assert!(unknown.is_empty(), "no such rows in docs/DIFFERENCES.md:\n{}", unknown.join("\n"));
}

#[test]
fn the_table_of_differences_is_what_was_seen() {
    check_made(&page_path(), &table(&all(), &observed()));
}

/// What a page has between its marks is what is made of the scenarios. With `CONFORMANCE_WRITE` it is put there.
pub(super) fn check_made(path: &Path, made: &str) {
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark where it begins");
    let (stands, after) = rest.split_once(END).expect("the page has the mark where it ends");
    if std::env::var_os("CONFORMANCE_WRITE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}\n\n{made}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(stands.trim(), made.trim(), "run CONFORMANCE_WRITE=1 cargo test --test broker conformance");
}

fn page_path() -> PathBuf {
    root().join("docs/DIFFERENCES.md")
}

fn page() -> String {
    std::fs::read_to_string(page_path()).unwrap()
}

/// The first cell of a table's row, without links.
fn row_name(line: &str) -> Option<String> {
    let first = line.strip_prefix("| ")?.split(" | ").next()?;
    Some(plain(first))
}

/// A text without the targets of its links: "[Errors](#errors)" is "Errors".
pub(super) fn plain(text: &str) -> String {
    match (text.find('['), text.find("](")) {
        (Some(open), Some(close)) if open < close => {
            let after = text[close..].find(')').map_or("", |end| &text[close + end + 1..]);
            format!("{}{}{after}", &text[..open], &text[open + 1..close])
        }
        _ => text.to_owned(),
    }
}

fn table(scenarios: &[Scenario], observed: &Observed) -> String {
    let mut table = format!(
        "Of {} scenarios, these show something else on {} {} and on Leveret:\n\n",
        scenarios.len(),
        observed.broker,
        observed.version
    );
    table.push_str("| scenario | RabbitMQ | Leveret | row above |\n|---|---|---|---|\n");
    for scenario in scenarios {
        let leveret = scenario.expected(Side::Leveret);
        let Some(rabbitmq) = observed.scenarios.get(&scenario.name) else { continue };
        let (mut there, mut here) = (Vec::new(), Vec::new());
        for (rabbitmq, leveret) in rabbitmq.iter().zip(&leveret) {
            if rabbitmq != leveret {
                there.push(rabbitmq.as_str());
                here.push(leveret.as_str());
            }
        }
        if !there.is_empty() {
            let why = plain(scenario.difference.as_deref().unwrap_or("none"));
            let (there, here) = (cell(&there), cell(&here));
            writeln!(table, "| {} | {there} | {here} | {why} |", scenario.name).unwrap();
        }
    }
    table.push_str("\nScenarios of each area: ");
    let mut areas: Vec<(&str, usize)> = Vec::new();
    for scenario in scenarios {
        match areas.iter_mut().find(|(area, _)| *area == scenario.area) {
            Some((_, count)) => *count += 1,
            None => areas.push((&scenario.area, 1)),
        }
    }
    areas.sort_unstable();
    let counts: Vec<String> = areas.iter().map(|(area, count)| format!("{area} {count}")).collect();
    table.push_str(&counts.join(" · "));
    table.push_str(".\n");
    table
}

/// Observations in a cell, where a bar would end it.
fn cell(observations: &[&str]) -> String {
    observations.join("; ").replace('|', "\\|")
}
