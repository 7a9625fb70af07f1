//! The feature `client` is the client alone, and docs/CLIENT.md says how many crates that is.

use std::collections::BTreeSet;
use std::process::Command;

use crate::docs::{page_text, root};

/// What a client has no use for.
const OF_THE_BROKER: [&str; 9] =
    ["argon2", "clap", "crc32c", "rustix", "serde", "sha2", "toml", "tracing", "tracing-subscriber"];

/// The page counts for Linux.
#[cfg(target_os = "linux")]
#[test]
fn the_client_alone_builds_few_crates() {
    let all = crates(&[]);
    let client = crates(&["--no-default-features", "--features", "client"]);
    for name in OF_THE_BROKER {
        let found = |crates: &BTreeSet<String>| crates.iter().any(|one| one.starts_with(&format!("{name} ")));
        assert!(found(&all), "{name} is not what the broker needs either");
        assert!(!found(&client), "the client builds {name}");
    }
    let said =
        format!("{} crates with leveret itself, on Linux, where all of it takes {}", client.len(), all.len());
    let text = page_text("docs/CLIENT.md").replace('\n', " ");
    assert!(text.contains(&said), "docs/CLIENT.md does not say: {said}");
}

/// What cargo builds, each crate as "name version".
fn crates(features: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let output = cargo.args(features).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| first_words(name, rest))
        .collect()
}

/// Behind the version may stand where the crate is, and that it stood there before.
fn first_words(name: &str, rest: &str) -> String {
    format!("{name} {}", rest.split_whitespace().next().unwrap_or(rest))
}
