//! Links lead to files and headings that are there, and paths in backticks to files.

use std::path::{Component, Path, PathBuf};

use super::markdown::Page;
use super::{pages, root};

/// Folders that text names paths in.
const FOLDERS: [&str; 8] = ["src/", "tests/", "docs/", "proto/", "examples/", "benches/", "scripts/", ".ci/"];

#[test]
fn links_and_paths_lead_somewhere() {
    let pages = pages();
    let faults: Vec<String> = pages.iter().flat_map(|page| faults(page, &pages)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn faults(page: &Page, pages: &[Page]) -> Vec<String> {
    let mut faults = Vec::new();
    for link in &page.links {
        if let Err(what) = check_link(page, &link.target, pages) {
            faults.push(format!("{}:{}: {}: {what}", page.path, link.line, link.target));
        }
    }
    for code in &page.code {
        if is_path(&code.target) && !root().join(&code.target).exists() {
            faults.push(format!("{}:{}: there is no {}", page.path, code.line, code.target));
        }
    }
    let placeholders = page.placeholders.iter();
    faults.extend(placeholders.map(|line| format!("{}:{line}: a placeholder was left", page.path)));
    faults
}

fn check_link(page: &Page, target: &str, pages: &[Page]) -> Result<(), String> {
    if target.starts_with("https://") {
        return Ok(());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path = match file {
        "" => page.path.clone(),
        file => resolve(&page.path, file).ok_or("leads out of the project")?,
    };
    if !root().join(&path).exists() {
        return Err(format!("there is no {path}"));
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let to = pages.iter().find(|page| page.path == path).ok_or("an anchor in what is no page")?;
    match to.anchors.iter().any(|other| other == anchor) {
        true => Ok(()),
        false => Err(format!("{path} has no heading '{anchor}', but {:?}", to.anchors)),
    }
}

/// The path from the root of the project that a link on a page means.
fn resolve(page: &str, file: &str) -> Option<String> {
    let mut path = PathBuf::from(page).parent()?.to_owned();
    for component in Path::new(file).components() {
        match component {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.to_str()?.to_owned())
}

/// Paths of the project, not patterns of them: `tests/golden/*.hex`.
fn is_path(code: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ['/', '.', '_', '-'].contains(&c);
    FOLDERS.iter().any(|folder| code.starts_with(folder)) && code.chars().all(plain)
}

#[test]
fn what_leads_nowhere_is_found() {
    // It stands for the page that it pretends to be.
    let text = "# There\n[a](#there) [b](docs/LOG.md#writing) [c](LICENSE) [d](https://e.org) `src/lib.rs`\n\
                [f](#nowhere) [g](docs/LOG.md#nowhere) [h](nothing.md) [i](../above.md) `src/nothing.rs` @@x@@";
    let mut pages = pages();
    let index = pages.iter().position(|page| page.path == "CHANGELOG.md").unwrap();
    pages[index] = Page::parse("CHANGELOG.md", text);
    let found = faults(&pages[index], &pages);
    let expected = [
        "#nowhere: ",
        "docs/LOG.md#nowhere: ",
        "nothing.md: ",
        "leads out of",
        "src/nothing.rs",
        "placeholder",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (fault, expected) in found.iter().zip(expected) {
        assert!(fault.starts_with("CHANGELOG.md:3: ") && fault.contains(expected), "{fault}: {expected}");
    }
}
