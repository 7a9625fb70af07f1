//! The tables of bounds in docs/ARCHITECTURE.md say what the source says.

use std::fs;
use std::path::Path;

use leveret::config::{Allowed, KEYS};

use super::expression::value_of;
use super::markdown::Row;
use super::{page, root};

#[test]
fn bounds_are_those_of_the_source() {
    let page = page(&root().join("docs/ARCHITECTURE.md"));
    let sections = ["what-one-client-can-make-the-broker-hold", "what-a-shard-and-its-log-hold"];
    let rows: Vec<&Row> = page.rows.iter().filter(|row| sections.contains(&row.section.as_str())).collect();
    assert!(rows.len() > 40, "only {} rows: where are the others?", rows.len());
    let faults: Vec<String> = rows.iter().filter_map(|row| check(row).err()).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn check(row: &Row) -> Result<(), String> {
    let [what, bound, place, _] = &row.cells[..] else {
        return Err(format!("line {}: not 4 cells", row.line));
    };
    let at = format!("docs/ARCHITECTURE.md:{}: {what}", row.line);
    if let Some(key) = place.strip_prefix("setting `").and_then(|rest| rest.strip_suffix('`'))
        && stands_for(key) == Some(bound)
    {
        return Ok(());
    }
    let said = bound_value(bound).ok_or(format!("{at}: '{bound}' is no bound"))?;
    let code: Vec<&str> = place.split('`').skip(1).step_by(2).collect();
    let is = match code[..] {
        [key] if place.starts_with("setting ") => setting(key).ok_or(format!("{at}: no setting '{key}'"))?,
        [name, path] => constant(name, path).ok_or(format!("{at}: no {name} in {path}"))?,
        // A type or a field that is the bound by its form.
        [name] => return named_somewhere(name).then_some(()).ok_or(format!("{at}: no {name} in src")),
        _ => return Err(format!("{at}: '{place}' is no place")),
    };
    match is == said {
        true => Ok(()),
        false => Err(format!("{at}: the page says {bound}, which is {said}, and {place} is {is}")),
    }
}

/// A number as people write it: with commas, and perhaps a unit. Bytes, milliseconds, or just a number.
fn bound_value(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().ok()?;
    let factor = match unit {
        "" | "bytes" | "ms" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "s" => 1_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// What the default of a setting stands for, if that depends on the machine.
fn stands_for(name: &str) -> Option<&'static str> {
    let key = KEYS.iter().find(|key| key.name == name && key.default == "0")?;
    match key.allowed {
        Allowed::Bytes { zero, .. } | Allowed::Count { zero, .. } => zero,
        _ => None,
    }
}

fn setting(name: &str) -> Option<u64> {
    let key = KEYS.iter().find(|key| key.name == name)?;
    bound_value(key.default)
}

fn constant(name: &str, path: &str) -> Option<u64> {
    let file = root().join(path);
    let source = fs::read_to_string(&file).ok()?;
    let neighbours = |name: &str| {
        let mut entries = fs::read_dir(file.parent()?).ok()?;
        entries.find_map(|entry| {
            let source = fs::read_to_string(entry.ok()?.path()).ok()?;
            source.contains(&format!("const {name}: ")).then(|| value_of(name, &source, &|_| None))?
        })
    };
    value_of(name, &source, &neighbours)
}

fn named_somewhere(name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or(name);
    let is_in = |path: &Path| fs::read_to_string(path).is_ok_and(|source| source.contains(last));
    fn any(directory: &Path, is_in: &dyn Fn(&Path) -> bool) -> bool {
        fs::read_dir(directory).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { any(&path, is_in) } else { is_in(&path) }
        })
    }
    any(&root().join("src"), &is_in)
}

#[test]
fn a_wrong_bound_is_found() {
    let row = |cells: [&str; 4]| Row {
        section: String::new(),
        line: 1,
        cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
    };
    let place = "`NAME_BYTES_MAX` in `src/model/limits.rs`";
    assert_eq!(check(&row(["names", "255 bytes", place, ""])), Ok(()));
    for (bound, place) in [
        ("256 bytes", place),
        ("many", place),
        ("255", "`NO_SUCH_BOUND` in `src/model/limits.rs`"),
        ("255", "`NAME_BYTES_MAX` in `src/no/file.rs`"),
        ("1", "setting `connections_max`"),
        ("half of the machine's memory", "setting `memory_bytes_max`"),
        ("1", "setting `no_such_setting`"),
        ("1", "`NoSuchThingAtAll`"),
        ("1", "somewhere"),
    ] {
        assert!(check(&row(["names", bound, place, ""])).is_err(), "{bound} in {place}");
    }
}
