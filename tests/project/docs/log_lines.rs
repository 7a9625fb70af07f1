//! docs/OPERATIONS.md explains every warning and every error that the broker logs, and none that it does not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{page, root};

/// Lines whose whole text is made elsewhere: what the source says there, where that is, and what the page shows.
const MADE_ELSEWHERE: [(&str, &str, [&str; 2]); 1] = [(
    "…",
    "src/storage/open_failure.rs",
    ["… cannot be used: …; reading more of the log instead", "…: cut … bytes at …, from batch … on (…)"],
)];

#[test]
fn every_warning_and_error_is_explained() {
    let mut logged = BTreeSet::new();
    collect(&root().join("src"), &mut logged);
    assert!(logged.len() > 20, "only {} lines: is this the right way to look?", logged.len());
    for (text, path, shown) in MADE_ELSEWHERE {
        assert!(logged.remove(&("Warnings", text.to_owned())), "nobody logs only what {path} makes");
        let source = with_gaps(&fs::read_to_string(root().join(path)).unwrap());
        for line in shown {
            assert!(source.contains(line), "{path} makes no '{line}'");
            // The page leaves out what goes on behind it.
            let shown = if line.ends_with(')') { format!("{line}…") } else { line.to_owned() };
            logged.insert(("Warnings", shown));
        }
    }
    let page = page(&root().join("docs/OPERATIONS.md"));
    let rows = page.rows.iter().filter_map(|row| {
        let section =
            ["Errors", "Warnings"].into_iter().find(|kind| row.section.starts_with(&kind.to_lowercase()))?;
        let line = row.cells[0].trim_matches('`').to_owned();
        assert!(row.cells.len() == 3 && row.cells.iter().all(|cell| !cell.is_empty()), "line {}", row.line);
        Some((section, line))
    });
    let explained: BTreeSet<_> = rows.collect();
    let missing: Vec<_> = logged.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&logged).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not explained: {missing:#?}\nnever logged: {stale:#?}");
}

/// The texts of a folder's sources, with the kind of each.
fn collect(directory: &Path, logged: &mut BTreeSet<(&'static str, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, logged);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            for hidden in ["use tracing::{", "use tracing::warn", "use tracing::error", "tracing::event!"] {
                let hidden = source.contains(hidden) && !path.ends_with("cli/log.rs");
                assert!(
                    !hidden,
                    "{}: lines are logged as tracing::warn! and tracing::error!",
                    path.display()
                );
            }
            logged.extend(texts(&source));
        }
    }
}

fn texts(source: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (name, kind) in [("tracing::warn!(", "Warnings"), ("tracing::error!(", "Errors")] {
        for (at, _) in source.match_indices(name) {
            found.push((kind, with_gaps(&last_text(&source[at + name.len()..]))));
        }
    }
    found
}

/// The last piece of text between quotes before the bracket that was opened is closed.
fn last_text(call: &str) -> String {
    let (mut depth, mut text, mut last) = (1, None::<String>, None);
    let mut characters = call.chars();
    while let Some(character) = characters.next() {
        match (&mut text, character) {
            (Some(open), '\\') => open.extend(characters.next()),
            (Some(_), '"') => last = text.take(),
            (Some(open), other) => open.push(other),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            return last.expect("a line of the log has a text");
        }
    }
    panic!("a call that does not end: {call:.80}")
}

/// With `…` for what differs from line to line, and in one line.
fn with_gaps(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((_, behind)) = behind.split_once('}').filter(|(name, _)| is_gap(name)) else {
            out.push_str(before);
            out.push('{');
            rest = behind;
            continue;
        };
        out.push_str(before);
        out.push('…');
        rest = behind;
    }
    out + rest
}

/// What stands between the brackets of a format.
fn is_gap(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || ['_', ':', '?', '#'].contains(&c))
}

#[test]
fn texts_are_found_in_calls() {
    let source =
        r#"tracing::warn!(shard = %id, what = f("(x"), "it {what} (\"{:?}\") {id}"); tracing::error!("b");"#;
    let found = texts(source);
    assert_eq!(found, [("Warnings", "it … (\"…\") …".to_owned()), ("Errors", "b".to_owned())]);
}
