//! The folder tree is the architecture, and this keeps it so: who may import whom, what a pure module may not name,
//! how long a file may get, and how a module introduces itself. The table is in `rules.rs`; change it in a commit of
//! its own, with the reason.

mod check;
mod made_up;
mod rules;
mod source;
mod tokens;

use std::fs;
use std::path::Path;

use rules::Rules;
use source::Source;

#[test]
fn the_source_keeps_to_the_table() {
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "src", &mut sources);
    assert!(sources.len() > 100, "only {} files under src: is this the right place to look?", sources.len());
    let faults = check::check(&Rules::of_leveret(), sources);
    assert!(faults.is_empty(), "{} faults:\n\n{}\n", faults.len(), faults.join("\n\n"));
}

fn read(directory: &Path, name: &str, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{name}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &name, sources);
        } else if name.ends_with(".rs") {
            sources.push(Source { path: name, text: fs::read_to_string(&path).unwrap() });
        }
    }
}
