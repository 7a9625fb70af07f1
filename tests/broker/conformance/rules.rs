//! docs/SEMANTICS.md tells every rule that a scenario pins.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::play::{Scenario, all};
use super::table::{check_made, plain, root};

#[test]
fn the_page_of_rules_tells_what_the_scenarios_pin() {
    check_made(&root().join("docs/SEMANTICS.md"), &rules(&all()));
}

fn rules(scenarios: &[Scenario]) -> String {
    let mut areas: BTreeMap<&str, Vec<&Scenario>> = BTreeMap::new();
    scenarios.iter().for_each(|scenario| areas.entry(&scenario.area).or_default().push(scenario));
    let mut page = String::new();
    for (area, scenarios) in areas {
        let file = &scenarios[0].file;
        writeln!(page, "## {}\n", capitalized(area)).unwrap();
        writeln!(
            page,
            "[{file}](../tests/conformance/scenarios/{file}) · [where from]({})\n",
            scenarios[0].source
        )
        .unwrap();
        for scenario in scenarios {
            let name = scenario.name.strip_prefix(&format!("{area}: ")).unwrap_or(&scenario.name);
            let differs = match &scenario.difference {
                Some(row) => {
                    format!(" **Leveret differs**: {}, in [DIFFERENCES](DIFFERENCES.md).", plain(row))
                }
                None => String::new(),
            };
            writeln!(page, "- {} *({name})*{differs}", scenario.pins).unwrap();
        }
        page.push('\n');
    }
    page
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
