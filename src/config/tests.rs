//! Layers, origins and errors, as somebody meets them who writes a file, sets a variable or types a flag.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::json;

use super::*;

const MACHINE: Machine = Machine { cores: 4, memory_bytes: 10_000_000_000 };

/// A file, variables and flags; told as text, answered as text.
struct Scenario {
    sources: Sources,
    _directory: tempfile::TempDir,
    file: PathBuf,
}

fn file(text: &str) -> Scenario {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources { file: Some(file.clone()), ..Sources::default() };
    Scenario { sources, _directory: directory, file }
}

impl Scenario {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        let key = KEYS.iter().find(|key| key.flag == Some(name)).unwrap();
        self.sources.flags.push((key, value.to_owned()));
        self
    }

    #[track_caller]
    fn settings(self) -> Settings {
        Settings::read(self.sources, MACHINE).unwrap()
    }

    /// Value and origin of a key, the file's path shortened to FILE.
    #[track_caller]
    fn check(self, key: &'static str, value: &str, origin: &str) {
        let path = self.file.display().to_string();
        let settings = self.settings();
        let setting = settings.named(key);
        assert_eq!(
            (setting.value.to_string(), setting.origin.to_string().replace(&path, "FILE")),
            (value.to_owned(), origin.to_owned())
        );
    }

    /// All that is wrong, the file's path shortened to FILE.
    #[track_caller]
    fn check_refused(self, expect: &str) {
        let path = self.file.display().to_string();
        let error = Settings::read(self.sources, MACHINE).unwrap_err();
        assert_eq!(error.to_string().replace(&path, "FILE"), expect);
    }
}

#[test]
fn each_layer_goes_before_the_one_below() {
    file("").check("handshake_ms", "10000", "default");
    file("\nhandshake_ms = 200").check("handshake_ms", "200", "FILE:2");
    file("handshake_ms = 200").variable("LEVERET_HANDSHAKE_MS", "300").check(
        "handshake_ms",
        "300",
        "LEVERET_HANDSHAKE_MS",
    );
    file("handshake_ms = 200").variable("LEVERET_HANDSHAKE_MS", "300").flag("handshake-ms", "400").check(
        "handshake_ms",
        "400",
        "--handshake-ms",
    );
    file("handshake_ms = 200").flag("handshake-ms", "10000").check("handshake_ms", "10000", "--handshake-ms");
}

#[test]
fn zero_is_replaced_by_what_it_stands_for_and_keeps_its_origin() {
    file("").check("worker_threads", "3", "default");
    file("").check("shards", "3", "default");
    file("worker_threads = 5").check("shards", "5", "default");
    file("shards = 0").check("shards", "3", "FILE:1");
    file("shards = 12").check("shards", "12", "FILE:1");
    file("").check("memory_bytes_max", "3814 MiB", "default");
    file("").check("frame_bytes_max", "16448 KiB", "default");
    file("message_bytes_max = '1 MiB'").check("frame_bytes_max", "1088 KiB", "default");
    file("heartbeat_seconds = 0").check("heartbeat_seconds", "0", "FILE:1");
    let many_cores = Machine { cores: 96, memory_bytes: 1 << 30 };
    let settings = Settings::read(Sources::default(), many_cores).unwrap();
    assert_eq!(settings.config().storage.shards, 8);
    assert_eq!(settings.config().network.worker_threads, 95);
    let one_core = Machine { cores: 1, memory_bytes: 1 << 30 };
    let settings = Settings::read(Sources::default(), one_core).unwrap();
    assert_eq!((settings.config().storage.shards, settings.config().network.worker_threads), (1, 1));
}

#[test]
fn of_memory_and_data_the_later_layer_counts() {
    let check = |scenario: Scenario, expect: Place| {
        assert_eq!(scenario.settings().config().storage.place, expect);
    };
    let directory = |path: &str| Place::Directory(PathBuf::from(path));
    check(file(""), directory("./leveret-data"));
    check(file("memory = true"), Place::Memory);
    check(file("memory = true\ndata = '/x'"), Place::Memory);
    check(file("data = '/x'").flag("memory", "true"), Place::Memory);
    check(file("memory = true").flag("data", "/y"), directory("/y"));
    check(file("data = '/x'").variable("LEVERET_MEMORY", "true").flag("data", "/y"), directory("/y"));
    check(file("memory = true").flag("memory", "false"), directory("./leveret-data"));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_it_is_most_like() {
    file("listen = '127.0.0.1:1'\n\nhearbeat_seconds = 5\n").check_refused(
        "FILE:3: there is no setting 'hearbeat_seconds'; did you mean 'heartbeat_seconds'? \
         `leveret config example` lists all",
    );
    file("[network]\nlisten = '127.0.0.1:1'")
        .check_refused("FILE:1: there is no setting 'network'; `leveret config example` lists all");
    file("").variable("LEVERET_SHARD", "2").check_refused(
        "environment: there is no setting 'LEVERET_SHARD'; did you mean 'LEVERET_SHARDS'? \
         `leveret config example` lists all",
    );
}

#[test]
fn a_bad_value_is_told_with_key_origin_what_was_there_and_what_may_be() {
    file("shards = 65").check_refused(
        "FILE:1: shards = 65 is not allowed: expected a number from 1 to 64, or 0: one a worker thread, 8 at most",
    );
    file("shards = 'two'").check_refused(
        "FILE:1: shards = \"two\" is not allowed: expected a number from 1 to 64, or 0: one a worker thread, 8 at most",
    );
    file("memory = 1").check_refused("FILE:1: memory = 1 is not allowed: expected true or false");
    file("log_level = ['info']").check_refused(
        "FILE:1: log_level = a TOML array is not allowed: expected error, warn, info, debug, trace",
    );
    file("").variable("LEVERET_MESSAGE_BYTES_MAX", "16 MB").check_refused(
        "LEVERET_MESSAGE_BYTES_MAX: message_bytes_max = \"16 MB\" is not allowed: expected a size from 1 KiB to 64 MiB",
    );
    file("").flag("listen", "localhost:7672").check_refused(
        "--listen: listen = \"localhost:7672\" is not allowed: expected an IP address and a port, for instance \
         127.0.0.1:7672 or [::]:7672",
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let scenario =
        file("shards = -1\nport = 5").variable("LEVERET_LOG_FORMAT", "xml").flag("handshake-ms", "1");
    let error = Settings::read(scenario.sources, MACHINE).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.problems.len(), 4, "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let scenario = file("shards = 2\nlisten 127.0.0.1\n");
    let path = scenario.file.display().to_string();
    let error = Settings::read(scenario.sources, MACHINE).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{path}:2: this is not TOML: ")), "{error}");
    let twice = file("shards = 2\nshards = 3\n");
    let error = Settings::read(twice.sources, MACHINE).unwrap_err().to_string();
    assert!(error.contains(":2: this is not TOML: duplicate key"), "{error}");
}

#[test]
fn a_file_that_was_asked_for_must_be_there_and_others_need_not() {
    let missing = PathBuf::from("/nonexistent/leveret.toml");
    let asked = Sources { file: Some(missing.clone()), ..Sources::default() };
    let error = Settings::read(asked, MACHINE).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nonexistent/leveret.toml: "), "{error}");

    let there = file("shards = 3");
    let looked_for = Sources { files: vec![missing, there.file.clone()], ..Sources::default() };
    let settings = Settings::read(looked_for, MACHINE).unwrap();
    assert_eq!(settings.file(), Some(there.file.as_path()));
    assert_eq!(settings.config().storage.shards, 3);
}

#[test]
fn a_password_never_shows_in_an_error() {
    let secret = "hunter2".repeat(200);
    let error =
        Settings::read(file("").variable("LEVERET_DEFAULT_PASSWORD", &secret).sources, MACHINE).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let settings = file("default_password = 'hunter2'").settings();
    assert!(!format!("{:?} {settings:?}", settings.config()).contains("hunter2"));
}

#[test]
fn other_machines_are_let_in_only_with_a_password_of_ones_own() {
    let check = |scenario: Scenario, allowed: bool| {
        let answer = Settings::read(scenario.sources, MACHINE);
        match answer {
            Ok(_) => assert!(allowed),
            Err(error) => {
                let text = error.to_string();
                assert!(!allowed, "{text}");
                for way_out in ["LEVERET_DEFAULT_PASSWORD", "default_password", "--default-user", "127.0.0.1"]
                {
                    assert!(text.contains(way_out), "{text}");
                }
            }
        }
    };
    check(file("listen = '127.0.0.1:7672'"), true);
    check(file("listen = '127.9.9.9:7672'"), true);
    check(file("listen = '[::1]:7672'"), true);
    check(file("listen = '[::ffff:127.0.0.1]:7672'"), true);
    check(file("listen = '0.0.0.0:7672'"), false);
    check(file("listen = '[::]:7672'"), false);
    check(file("listen = '192.168.1.7:7672'"), false);
    check(file("listen = '0.0.0.0:7672'\ndefault_user = 'ada'"), true);
    check(file("listen = '0.0.0.0:7672'\ndefault_user = ''"), true);
    check(file("listen = '0.0.0.0:7672'").variable("LEVERET_DEFAULT_PASSWORD", "s3cret"), true);
    assert_eq!(file("default_user = ''").settings().config().first_user, None);
}

#[test]
fn a_frame_must_hold_the_largest_message() {
    file("message_bytes_max = '32 MiB'\nframe_bytes_max = '32 MiB'").check_refused(
        "frame_bytes_max = 32 MiB (FILE:2) is too small for message_bytes_max = 32 MiB (FILE:1): a frame needs \
         64 KiB more than the largest message; leave frame_bytes_max at 0 and it will fit",
    );
    file("message_bytes_max = '32 MiB'\nframe_bytes_max = '33 MiB'").check(
        "frame_bytes_max",
        "33 MiB",
        "FILE:2",
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    file("")
        .variable("LEVERET_URL", "leveret://")
        .variable("LEVERET_PORT", "tcp://10.0.0.1:7672")
        .variable("LEVERET_PORT_7672_TCP_ADDR", "10.0.0.1")
        .variable("LEVERET_SERVICE_HOST", "10.0.0.1")
        .variable("PATH", "/bin")
        .check("shards", "3", "default");
}

#[test]
fn the_largest_and_least_values_fit_their_types() {
    for key in &KEYS {
        if let Allowed::Count { min, max, .. } | Allowed::Bytes { min, max, .. } = key.allowed {
            for value in [min, max] {
                let mut text = format!("{} = {value}\n", key.name);
                if key.name == "frame_bytes_max" && value == min {
                    text.push_str("message_bytes_max = 1024\n");
                }
                let settings = file(&text).settings();
                assert_eq!(settings.named(key.name).value.to_json(), json!(value));
                let _fits = settings.config();
            }
        }
    }
}

#[test]
fn the_example_is_a_valid_file_that_changes_nothing_and_names_every_key() {
    let example = example();
    let defaults = file("").settings();
    let commented = file(&example).settings();
    assert!(commented.iter().all(|setting| setting.origin == GivenBy::Default));

    let live: String = example
        .lines()
        .map(|line| {
            let setting = line
                .strip_prefix("# ")
                .filter(|rest| KEYS.iter().any(|key| rest.starts_with(&format!("{} = ", key.name))));
            format!("{}\n", setting.unwrap_or(line))
        })
        .collect();
    let uncommented = file(&live).settings();
    for (setting, default) in uncommented.iter().zip(defaults.iter()) {
        assert_eq!(setting.value, default.value, "{}", setting.key.name);
        assert!(matches!(setting.origin, GivenBy::File { .. }), "{} is in the example", setting.key.name);
    }
}

#[test]
fn values_for_programs_are_numbers_in_bytes() {
    let settings = file("").settings();
    assert_eq!(settings.named("message_bytes_max").value.to_json(), json!(16_777_216));
    assert_eq!(settings.named("memory").value.to_json(), json!(false));
    assert_eq!(settings.named("listen").value.to_json(), json!("127.0.0.1:7672"));
}

/// The row of a key in the reference that people read.
fn documented(key: &Key) -> String {
    let flag = key.flag.map_or_else(|| "–".to_owned(), |flag| format!("`--{flag}`"));
    let allowed = key.allowed.to_string().replace('|', "\\|");
    format!("| `{}` | {flag} | `{}` | {allowed} | {} |", key.name, key.default, key.meaning)
}

#[test]
fn the_reference_documents_every_key_as_it_is() {
    let reference = include_str!("../../docs/CONFIGURATION.md");
    for key in &KEYS {
        let row = documented(key);
        assert!(reference.lines().any(|line| line == row), "docs/CONFIGURATION.md lacks this row:\n{row}");
    }
}
