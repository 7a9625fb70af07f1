//! Holds the documentation to what is there: links and paths lead somewhere, bounds are those of the source, and the tour
//! in README.md does what it says.

mod bounds;
mod commands;
mod expression;
mod fences;
mod links;
mod log_lines;
mod markdown;
mod tour;

use std::fs;
use std::path::{Path, PathBuf};

use markdown::Page;
pub(crate) use tour::Broker;

/// Folders without pages of ours.
const ELSEWHERE: [&str; 5] = ["target", "venv", "leveret-data", "generated", "node_modules"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project as it stands there.
pub(crate) fn page_text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All pages of the project, by their paths from its root.
fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    let pages: Vec<Page> = paths.iter().map(|path| page(path)).collect();
    assert!(pages.len() > 10, "only {} pages: is this the right place to look?", pages.len());
    pages
}

fn page(path: &Path) -> Page {
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    Page::parse(&name, &fs::read_to_string(path).unwrap())
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && !ELSEWHERE.contains(&name) {
            collect(&path, paths);
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}
