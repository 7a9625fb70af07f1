//! Observations as they are stored, and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was seen on a broker, by the names of scenarios.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Observed {
    pub(crate) broker: String,
    pub(crate) version: String,
    pub(crate) scenarios: BTreeMap<String, Vec<String>>,
}

impl Observed {
    /// The form in which it is checked in: sorted, a step a line.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts can be written as JSON");
        text.push('\n');
        text
    }

    /// Where something else was seen this time, in sentences.
    pub(crate) fn differences(&self, seen: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let names: std::collections::BTreeSet<&String> =
            self.scenarios.keys().chain(seen.scenarios.keys()).collect();
        for name in names {
            let (stored, seen) = (self.scenarios.get(name), seen.scenarios.get(name));
            if stored != seen {
                differences.push(format!("{name}: stored is {stored:?}, seen {seen:?}"));
            }
        }
        differences
    }
}
