//! A configuration file to begin with.

use std::fmt::Write;

use super::key::{Allowed, GROUPS, KEYS, Key};

/// Width of comment lines.
const COLUMNS: usize = 100;

/// A complete TOML file: every key with its default, commented out, and what it means.
pub fn example() -> String {
    let mut out = String::from(
        "# Configuration of Leveret. Every line that is commented out shows a default.\n\
         # A file is read from --config FILE, else ./leveret.toml, else /etc/leveret/leveret.toml.\n\
         # Environment variables (LEVERET_ and the key in capitals) go before it, flags before both.\n\
         # `leveret config show` prints what is in effect and where each value comes from.\n",
    );
    for group in GROUPS {
        let _ = write!(out, "\n# --- {} ---\n", group.title());
        for key in KEYS.iter().filter(|key| key.group == group) {
            let _ = write!(out, "\n{}", comment(key));
            let _ = writeln!(out, "# {} = {}", key.name, toml_default(key));
        }
    }
    out
}

fn comment(key: &Key) -> String {
    let text = format!("{} Allowed: {}.", key.meaning, key.allowed);
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push_str(&line);
    lines.push('\n');
    lines
}

fn toml_default(key: &Key) -> String {
    let plain = match key.allowed {
        Allowed::Switch | Allowed::Count { .. } => true,
        Allowed::Bytes { .. } => key.default.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if plain { key.default.to_owned() } else { format!("\"{}\"", key.default) }
}
