//! Holds sources to rules. Each fault says where, what, and why it is one.

use std::collections::BTreeSet;

use super::rules::{COMMON, Exception, Module, Rules};
use super::source::{Content, Named, Source};
use super::tokens::tokens;

/// What is wrong, one text a fault, in the order of the files.
pub(crate) fn check(rules: &Rules, sources: Vec<Source>) -> Vec<String> {
    let contents: Vec<Content> = sources.iter().map(Source::content).collect();
    let tests = test_places(&sources, &contents);
    let mut checker = Checker { rules, faults: table_faults(rules), used: BTreeSet::new() };
    for (source, content) in sources.iter().zip(&contents) {
        let is_test = tests.iter().any(|place| is_at(&source.path, place));
        checker.check_introduction(source);
        let Some(module) = rules.modules.iter().find(|module| module.name == source.module()) else {
            checker.faults.push(format!(
                "{}: the module '{}' is not in the table of tests/project/architecture/rules.rs\n  \
                 every module at the root of the crate has a level there, and a list of what it imports",
                source.path,
                source.module()
            ));
            continue;
        };
        for named in &content.named {
            checker.check_arrow(source, module, named);
            if !is_test && !named.in_test {
                checker.check_purity(source, module, named);
            }
        }
        if !is_test {
            checker.check_length(source, content.first_test_line - 1);
        }
    }
    checker.check_exceptions();
    checker.faults
}

struct Checker<'a> {
    rules: &'a Rules,
    faults: Vec<String>,
    /// Exceptions that something needed: their places, and what they allow.
    used: BTreeSet<(&'static str, &'static str)>,
}

impl Checker<'_> {
    fn check_arrow(&mut self, source: &Source, module: &Module, named: &Named) {
        let Some(target) = target(source, module, named) else { return };
        if target == module.name || target == COMMON || module.imports.contains(&target) {
            return;
        }
        let Some(imported) = self.rules.modules.iter().find(|module| module.name == target) else {
            // A macro or an item of lib.rs would be named like this; there are none.
            self.fault(source, named, &format!("names '{target}', which is no module of the table"), "");
            return;
        };
        if self.is_excepted(self.rules.arrows, source, target) {
            return;
        }
        let why = match imported.level.cmp(&module.level) {
            std::cmp::Ordering::Less => format!("the table lists {:?} for '{}'", module.imports, module.name),
            std::cmp::Ordering::Equal => "siblings do not know each other".to_owned(),
            std::cmp::Ordering::Greater => "arrows point to lower levels only".to_owned(),
        };
        let what = format!(
            "'{}' (level {}) imports '{target}' (level {})",
            module.name, module.level, imported.level
        );
        self.fault(source, named, &what, &why);
    }

    fn check_purity(&mut self, source: &Source, module: &Module, named: &Named) {
        if module.level > self.rules.pure_level_max {
            return;
        }
        for (path, why) in self.rules.impure {
            let words: Vec<_> = path.split("::").collect();
            if !names(&named.segments, &words) || self.is_excepted(self.rules.impurities, source, path) {
                continue;
            }
            let what = format!("'{}' (level {}) names {path}", module.name, module.level);
            self.fault(source, named, &what, why);
        }
    }

    fn check_length(&mut self, source: &Source, lines: usize) {
        let max = self.rules.lines_max;
        if lines > max && !self.is_excepted(self.rules.long_files, source, "") {
            self.faults.push(format!(
                "{}: {lines} lines without its tests, {max} at most\n  has it become two things?",
                source.path
            ));
        }
    }

    /// Each module says what it owns, what it must never do and where to start reading. One without code need not.
    fn check_introduction(&mut self, source: &Source) {
        if source.depth() != 1 || !source.path.ends_with("/mod.rs") || tokens(&source.text).is_empty() {
            return;
        }
        let lines = source.text.lines().take_while(|line| line.starts_with("//!"));
        let introduction: Vec<_> = lines.map(|line| line.trim_start_matches("//!").trim()).collect();
        let introduction = introduction.join(" ").to_lowercase();
        for sentence in ["owns ", "must never ", "start reading "] {
            if !introduction.contains(sentence) {
                self.faults.push(format!(
                    "{}:1: the introduction lacks the sentence with '{}'\n  \
                     each module says what it owns, what it must never do and where to start reading",
                    source.path,
                    sentence.trim()
                ));
            }
        }
    }

    fn check_exceptions(&mut self) {
        let rules = self.rules;
        for exception in rules.arrows.iter().chain(rules.impurities).chain(rules.long_files) {
            if !self.used.contains(&(exception.place, exception.allows)) {
                self.faults.push(format!(
                    "tests/project/architecture/rules.rs: the exception of {} {} is not needed any more\n  take it away",
                    exception.place, exception.allows
                ));
            }
        }
    }

    fn is_excepted(&mut self, exceptions: &'static [Exception], source: &Source, what: &str) -> bool {
        let found = exceptions.iter().find(|exception| {
            assert!(!exception.reason.is_empty(), "an exception needs a reason: {}", exception.place);
            exception.allows == what && is_at(&source.path, exception.place)
        });
        self.used.extend(found.map(|exception| (exception.place, exception.allows)));
        found.is_some()
    }

    fn fault(&mut self, source: &Source, named: &Named, what: &str, why: &str) {
        let path = named.segments.join("::");
        self.faults.push(format!("{}:{}: {what}, with `{path}`\n  {why}", source.path, named.line));
    }
}

/// Arrows of the table that do not point down.
fn table_faults(rules: &Rules) -> Vec<String> {
    let level =
        |name: &str| rules.modules.iter().find(|module| module.name == name).map(|module| module.level);
    let mut faults = Vec::new();
    for module in rules.modules {
        for import in module.imports {
            if level(import).is_none_or(|level| level >= module.level) {
                faults.push(format!(
                    "tests/project/architecture/rules.rs: '{}' may not list '{import}'\n  arrows point to lower levels only",
                    module.name
                ));
            }
        }
    }
    faults
}

/// The module at the root of the crate that a path leads to, if it goes through the root.
fn target<'a>(source: &Source, module: &Module, named: &'a Named) -> Option<&'a str> {
    let mut segments = named.segments.iter().map(String::as_str).peekable();
    segments.next_if_eq(&"self");
    let root = if module.name == "main" { "leveret" } else { "crate" };
    if segments.next_if_eq(&root).is_none() {
        let depth = source.depth() + named.depth;
        let mut ascended = 0;
        while segments.next_if_eq(&"super").is_some() {
            ascended += 1;
        }
        if ascended == 0 || ascended < depth {
            return None;
        }
    }
    segments.next()
}

/// Whether a path names `words`: at its beginning if they begin with a crate, anywhere if with a type.
fn names(segments: &[String], words: &[&str]) -> bool {
    let is_type = words[0].starts_with(char::is_uppercase);
    let mut windows = segments.windows(words.len());
    if is_type {
        windows.any(|window| window == words)
    } else {
        windows.next().is_some_and(|first| first == words)
    }
}

fn is_at(path: &str, place: &str) -> bool {
    if place.ends_with('/') { path.starts_with(place) } else { path == place }
}

/// Files and folders that hold nothing but tests.
fn test_places(sources: &[Source], contents: &[Content]) -> Vec<String> {
    let mut places = Vec::new();
    for (source, content) in sources.iter().zip(contents) {
        let stem = source.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(stem);
        for module in &content.test_modules {
            places.extend([format!("{folder}/{module}.rs"), format!("{folder}/{module}/")]);
        }
    }
    places
}
