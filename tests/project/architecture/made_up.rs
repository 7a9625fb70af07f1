//! Holds the checker to sources made up for it: that it finds what is wrong, and says so well.

use super::check::check;
use super::rules::{Exception, Module, Rules};
use super::source::Source;

const RULES: Rules = Rules {
    modules: &[
        Module { name: "model", level: 0, imports: &[] },
        Module { name: "soil", level: 1, imports: &[] },
        Module { name: "root", level: 1, imports: &[] },
        Module { name: "stem", level: 2, imports: &["root"] },
        Module { name: "leaf", level: 3, imports: &["stem"] },
        Module { name: "main", level: 8, imports: &["leaf"] },
    ],
    arrows: &[],
    pure_level_max: 2,
    impure: &[("std::fs", "files are elsewhere"), ("Instant::now", "time is an argument")],
    impurities: &[],
    lines_max: 8,
    long_files: &[],
};

fn faults(rules: &Rules, sources: &[(&str, &str)]) -> Vec<String> {
    let sources = sources.iter().map(|(path, text)| Source { path: (*path).into(), text: (*text).into() });
    check(rules, sources.collect())
}

#[track_caller]
fn fails(path: &str, text: &str, expected: &str) {
    assert_eq!(faults(&RULES, &[(path, text)]), [expected]);
}

#[track_caller]
fn passes(path: &str, text: &str) {
    assert_eq!(faults(&RULES, &[(path, text)]), [""; 0]);
}

#[test]
fn arrows_that_the_table_lists_pass() {
    passes("src/stem/a.rs", "use crate::root::A; use crate::model::B; use crate::stem::C;");
    passes("src/stem/a.rs", "// use crate::leaf::A;\nconst A: &str = \"crate::leaf\";");
    passes("src/stem/a.rs", "use super::soil::A; mod b { use super::super::soil::A; }");
    passes("src/main.rs", "fn main() { leveret::leaf::main() }");
}

#[test]
fn arrows_that_it_does_not_list_are_faults() {
    fails(
        "src/stem/a.rs",
        "\nuse crate::leaf::A;",
        "src/stem/a.rs:2: 'stem' (level 2) imports 'leaf' (level 3), with `crate::leaf::A`\n  \
         arrows point to lower levels only",
    );
    fails(
        "src/root/a.rs",
        "fn a() { crate::soil::b() }",
        "src/root/a.rs:1: 'root' (level 1) imports 'soil' (level 1), with `crate::soil::b`\n  \
         siblings do not know each other",
    );
    fails(
        "src/leaf/a.rs",
        "use crate::{stem, root::{A as B}};",
        "src/leaf/a.rs:1: 'leaf' (level 3) imports 'root' (level 1), with `crate::root::A`\n  \
         the table lists [\"stem\"] for 'leaf'",
    );
    fails(
        "src/main.rs",
        "use leveret::stem;",
        "src/main.rs:1: 'main' (level 8) imports 'stem' (level 2), with `leveret::stem`\n  \
         the table lists [\"leaf\"] for 'main'",
    );
}

#[test]
fn the_root_is_found_by_going_up_as_well() {
    for (path, text) in [
        ("src/stem/mod.rs", "//! Owns; must never; start reading.\nuse super::leaf::A;"),
        ("src/stem/a.rs", "use super::super::leaf::A;"),
        ("src/stem/a.rs", "mod b { use super::super::super::leaf::A; }"),
        ("src/stem/a/b.rs", "use self::super::super::super::leaf::A;"),
    ] {
        let found = faults(&RULES, &[(path, text)]);
        let found = found.iter().filter(|fault| fault.contains("'stem' (level 2) imports 'leaf' (level 3)"));
        assert_eq!(found.count(), 1, "{path}: {text}");
    }
}

#[test]
fn a_module_without_a_level_and_a_path_to_one_are_faults() {
    let found =
        faults(&RULES, &[("src/weed/a.rs", ""), ("src/stem/a.rs", "use crate::*;\nuse crate::weed::A;")]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("src/weed/a.rs: the module 'weed' is not in the table"), "{}", found[0]);
    assert!(found[1].starts_with("src/stem/a.rs:1: names '*', which is no module"), "{}", found[1]);
    assert!(found[2].starts_with("src/stem/a.rs:2: names 'weed', which is no module"), "{}", found[2]);
}

#[test]
fn a_table_whose_arrows_do_not_point_down_is_a_fault() {
    let modules: &[Module] =
        &[Module { name: "a", level: 1, imports: &["b", "c"] }, Module { name: "b", level: 1, imports: &[] }];
    let found = faults(&Rules { modules, ..RULES }, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("'a' may not list 'b'") && found[1].contains("'a' may not list 'c'"),
        "{found:?}"
    );
}

#[test]
fn pure_modules_name_nothing_impure() {
    fails(
        "src/soil/a.rs",
        "use std::{fmt, fs::File};",
        "src/soil/a.rs:1: 'soil' (level 1) names std::fs, with `std::fs::File`\n  files are elsewhere",
    );
    fails(
        "src/stem/a.rs",
        "fn a() {\n    std::time::Instant::now()\n}",
        "src/stem/a.rs:2: 'stem' (level 2) names Instant::now, with `std::time::Instant::now`\n  time is an argument",
    );
    passes("src/stem/a.rs", "use std::time::Instant; fn a(now: Instant) {}");
    passes("src/leaf/a.rs", "use std::fs;");
    passes("src/soil/a.rs", "mine::std::fs::read()");
}

#[test]
fn tests_may_be_impure_and_may_not_import_upwards() {
    passes("src/soil/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }");
    let declared = (
        "src/soil/mod.rs",
        "//! Owns this. Must never do that. Start reading there.\n#[cfg(test)]\nmod tests;",
    );
    for path in ["src/soil/tests.rs", "src/soil/tests/a.rs"] {
        assert_eq!(faults(&RULES, &[declared, (path, "use std::fs;")]), [""; 0]);
    }
    assert_eq!(
        faults(&RULES, &[("src/soil/tests.rs", "use std::fs;")]).len(),
        1,
        "nobody says that it is one"
    );
    assert_eq!(faults(&RULES, &[("src/soil/a.rs", "#[cfg(test)] mod tests { use crate::leaf; }")]).len(), 1);
}

#[test]
fn exceptions_hold_where_they_say_and_must_be_needed() {
    let arrows: &[Exception] =
        &[Exception { place: "src/stem/", allows: "soil", reason: "for the sake of the example" }];
    let impurities: &[Exception] =
        &[Exception { place: "src/soil/disk.rs", allows: "std::fs", reason: "a disk" }];
    let rules = Rules { arrows, impurities, ..RULES };
    let needed = [("src/stem/a.rs", "use crate::soil::A;"), ("src/soil/disk.rs", "use std::fs;")];
    assert_eq!(faults(&rules, &needed), [""; 0]);
    let elsewhere = [("src/root/a.rs", "use crate::soil::A;"), ("src/soil/a.rs", "use std::fs;")];
    let found = faults(&rules, &elsewhere);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[2].contains("the exception of src/stem/ soil is not needed any more"), "{}", found[2]);
    assert!(found[3].contains("the exception of src/soil/disk.rs std::fs is not needed"), "{}", found[3]);
}

#[test]
fn long_files_and_poor_introductions_are_faults() {
    let long = "x;\n".repeat(9);
    fails(
        "src/leaf/a.rs",
        &long,
        "src/leaf/a.rs: 9 lines without its tests, 8 at most\n  has it become two things?",
    );
    passes("src/leaf/a.rs", &format!("x;\n#[cfg(test)]\nmod tests {{\n{long}}}"));
    passes("src/leaf/mod.rs", "//! Owns this. It must never do that.\n//! Start\n//! reading there.\nmod a;");
    passes("src/leaf/mod.rs", "//! (empty)");
    fails(
        "src/leaf/mod.rs",
        "//! Owns this. Must never do that.\nmod a;",
        "src/leaf/mod.rs:1: the introduction lacks the sentence with 'start reading'\n  \
         each module says what it owns, what it must never do and where to start reading",
    );
}
