//! What the client promises of each of its functions: what becomes of a future that is dropped, and that no bare `true` or
//! `false` is to be read at a call.

use std::fs;
use std::path::Path;

/// What is wrong with the public functions of a file, and how many of them are async.
fn check(name: &str, text: &str) -> (Vec<String>, usize) {
    let mut faults = Vec::new();
    let mut async_count = 0;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        let is_async = line.starts_with("pub async fn ");
        if !is_async && !line.starts_with("pub fn ") && !line.starts_with("pub const fn ") {
            continue;
        }
        let place = format!("{name}:{}", at + 1);
        let head = lines[at..].iter().take_while(|line| !line.ends_with(['{', ';'])).chain([&lines[at]]);
        if head.clone().any(|line| line.contains(": bool")) {
            faults
                .push(format!("{place}: a parameter is a bare bool; give it a name in a struct or an enum"));
        }
        async_count += usize::from(is_async);
        let mut above =
            lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
        if is_async && !above.any(|line| *line == "/// # Cancel safety") {
            faults.push(format!("{place}: what if its future is dropped? Say so under '# Cancel safety'"));
        }
    }
    (faults, async_count)
}

fn check_all(directory: &Path, faults: &mut Vec<String>) -> usize {
    let mut async_count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                async_count += check_all(&path, faults);
            }
        } else {
            let (more, count) = check(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
            faults.extend(more);
            async_count += count;
        }
    }
    async_count
}

#[test]
fn every_future_of_the_client_says_what_becomes_of_it_when_it_is_dropped() {
    let mut faults = Vec::new();
    let count = check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/client"), &mut faults);
    assert!(count > 30, "only {count} async functions: is this the right place to look?");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_left_out_is_found() {
    let faults = |text: &str| check("made_up.rs", text).0.len();
    assert_eq!(faults("/// Asks.\n///\n/// # Cancel safety\n/// Fine.\npub async fn ask(&self) {}"), 0);
    assert_eq!(faults("/// Asks.\npub async fn ask(&self) {}"), 1);
    let of_another =
        "/// # Cancel safety\n/// Fine.\npub async fn ask(&self) {}\n\npub async fn tell(&self) {}";
    assert_eq!(faults(of_another), 1);
    assert_eq!(faults("pub fn delete(&self, name: &str, if_unused: bool) {}"), 1);
    assert_eq!(faults("pub fn delete(\n    name: &str,\n    if_unused: bool,\n) {\n}"), 1);
    assert_eq!(faults("pub fn is_there(&self) -> bool {}"), 0);
}
