//! Every command on the pages is run as it stands there, or it is said by what else it is run, or why it cannot be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::markdown::{Block, Page};
use super::tour::Broker;
use super::{page_text, pages, root};

/// What becomes of a block of commands.
enum How {
    /// Typed into a shell beside a broker, after these lines: what comes back is what the page says.
    Typed(&'static [&'static str]),
    /// Run by this: a test by its name, or a line of `.ci/run`.
    By(&'static str),
    /// Not run, for this reason.
    Not(&'static str),
}

use How::{By, Not, Typed};

/// All blocks in `sh` and `console`: page, the beginning of the first command, what becomes of it. Those of a page are typed
/// in this order, one after the other.
const BLOCKS: &[(&str, &str, How)] = &[
    (
        "CONTRIBUTING.md",
        "cargo build ",
        By("cargo clippy --locked --lib --no-default-features --features client"),
    ),
    ("CONTRIBUTING.md", "cargo test ", By("\"${newcomer[@]}\" cargo test")),
    ("CONTRIBUTING.md", "cargo test --test broker conformance", By("\"${newcomer[@]}\" cargo test")),
    ("CONTRIBUTING.md", ".ci/rabbitmq setup", By(".ci/rabbitmq start \"$folder\"")),
    ("CONTRIBUTING.md", "cargo build --release && scripts/figures", Not(MINUTES)),
    (
        "README.md",
        "cargo run --release -- serve ",
        By("start_broker \"${newcomer[@]}\" cargo run --release -- serve"),
    ),
    ("README.md", "$ cargo run --release -- serve", By(TOUR)),
    ("README.md", "$ export PATH", By(TOUR)),
    ("README.md", "$ leveret publish --exchange library", By(TOUR)),
    ("README.md", "$ leveret list queues", By(TOUR)),
    ("README.md", "$ leveret consume texts", By(TOUR)),
    ("README.md", "$ leveret publish --key nobody", By(TOUR)),
    ("README.md", "$ kill -9", By(TOUR)),
    ("README.md", "scripts/dark-client", By("fn a_dark_client_gets_all_it_missed_as_the_script_tells()")),
    ("README.md", "cargo run --example publish_confirm", By("fn publish_confirm()")),
    ("README.md", "cargo build --release && scripts/figures", Not(MINUTES)),
    ("docs/ACCESS_LIMITS.md", "$ leveret vhost put shop", Typed(&[])),
    ("docs/BENCHMARKS.md", "cargo build --release", Not(MINUTES)),
    ("docs/BROWSE.md", "$ leveret publish --key orders", Typed(&["leveret declare queue orders"])),
    ("docs/BROWSE.md", "$ leveret declare queue parked", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret serve &", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret list queues --url", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret serve --listen 127.0.0.1:0", By("fn the_tour_does_what_it_says()")),
    ("docs/COMMANDS.md", "$ systemctl stop leveret", By("fn whoever_has_the_machine_gets_in_again()")),
    ("docs/COMMANDS.md", "$ leveret declare exchange orders", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret declare queue eu", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret bind orders eu", Typed(&[])),
    (
        "docs/COMMANDS.md",
        "$ leveret list queues",
        Typed(&[
            "leveret delete queue hello",
            "leveret declare queue all",
            "leveret bind orders all --key '#'",
            "leveret bind orders eu --key '*.eu'",
        ]),
    ),
    ("docs/COMMANDS.md", "$ seq 1 100000", Typed(&["leveret declare queue numbers"])),
    ("docs/COMMANDS.md", "$ leveret publish --exchange orders", Typed(&[])),
    (
        "docs/COMMANDS.md",
        "$ leveret consume orders --jobs",
        By("fn a_message_whose_command_fails_comes_again_until_it_works"),
    ),
    (
        "docs/COMMANDS.md",
        "$ leveret subscribe orders",
        By("fn what_fits_a_pattern_is_printed_and_nothing_stays_behind"),
    ),
    ("docs/COMMANDS.md", "$ leveret get eu", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret explain", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret perf --size 16", Not("its answer is about one machine")),
    ("docs/COMMANDS.md", "$ leveret perf --transient", Not(MINUTES)),
    ("docs/COMMANDS.md", "$ echo s3cret", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret ping", Typed(&[])),
    ("docs/COMMANDS.md", "$ leveret completions", Not("it writes into folders of the whole machine")),
    ("docs/CONFIGURATION.md", "$ cat leveret.toml", Typed(&[])),
    ("docs/CONFIGURATION.md", "$ leveret serve --listen 0.0.0.0", Typed(&[])),
    ("docs/CONFIGURATION.md", "$ cat leveret.toml", Typed(&[])),
    (
        "docs/CONSUMERS.md",
        "leveret consume prints",
        By("fn a_consumer_of_a_higher_priority_comes_first_and_lists_show_who_is_active"),
    ),
    ("docs/CONSUMERS.md", "$ leveret declare queue ledger", Typed(&[])),
    ("docs/CONSUMERS.md", "$ leveret declare queue reports", Typed(&[])),
    ("docs/DEAD_LETTERS.md", "$ leveret declare queue dead", Typed(&[])),
    ("docs/DELAYS.md", "$ leveret declare queue reminders", Typed(&[])),
    ("docs/DELAYS.md", "$ leveret declare queue letters", Typed(&[])),
    ("docs/DELAYS.md", "$ leveret declare queue failed", Typed(&[])),
    ("docs/DRAW.md", "$ leveret draw", By("fn a_broker_is_drawn_with_who_publishes_and_who_is_dark()")),
    ("docs/DRAW.md", "leveret draw --svg", By("fn a_picture_goes_into_files_or_to_standard_output()")),
    ("docs/DRAW.md", "leveret draw --live", By("fn messages_move_in_a_terminal_of_any_size_until_q()")),
    ("docs/EVENTS.md", "$ leveret declare exchange leveret.events", Typed(&[])),
    ("docs/EXCHANGES.md", "$ leveret declare exchange packing", Typed(&[])),
    ("docs/EXCHANGES.md", "$ leveret declare exchange baskets", Typed(&[])),
    ("docs/EXCHANGES.md", "$ leveret declare exchange parts", Typed(&[])),
    ("docs/EXCHANGES.md", "$ leveret declare exchange anybody", Typed(&[])),
    ("docs/EXCHANGES.md", "$ for queue in paris", Typed(&[])),
    ("docs/EXCHANGES.md", "$ leveret declare exchange ticker", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue prices", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue jobs", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue quotes", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue news", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue tasks", Typed(&[])),
    ("docs/LIMITS.md", "$ leveret declare queue visitor-17", Typed(&[])),
    ("docs/LIMITS.md", "$ seq 1 2 | leveret publish --key jobs", Typed(&[])),
    (
        "docs/OPERATIONS.md",
        "cargo install --locked --path .",
        Not("it installs into the home of whoever runs it"),
    ),
    ("docs/OPERATIONS.md", "cargo install --locked cargo-deb", Not("it installs a package on the machine")),
    ("docs/OPERATIONS.md", "export LEVERET_PASSWORD", By("docker compose config --quiet")),
    ("docs/OPERATIONS.md", "sudo systemctl status", Not(SERVICE)),
    (
        "docs/OPERATIONS.md",
        "sudo -u leveret leveret backup",
        By("fn backups_that_are_made_under_load_hold_what_was_confirmed_and_nothing_that_was_settled"),
    ),
    (
        "docs/OPERATIONS.md",
        "sudo systemctl stop leveret",
        By("fn backups_that_are_made_under_load_hold_what_was_confirmed_and_nothing_that_was_settled"),
    ),
    ("docs/OPERATIONS.md", "sudo systemctl stop leveret", By("fn whoever_has_the_machine_gets_in_again()")),
    ("docs/OPERATIONS.md", "leveret serve --data COPY", By("fn a_restored_copy_is_where_the_broker_was")),
    ("docs/PERMISSIONS.md", "$ echo s3cret", Typed(&[])),
    (
        "docs/PERMISSIONS.md",
        "$ leveret declare queue bob-1",
        By("fn a_user_who_is_held_to_patterns_is_told_what_is_missing()"),
    ),
    ("docs/PERMISSIONS.md", "$ leveret set topic-permissions", Typed(&[])),
    ("docs/POLICIES.md", "$ leveret declare queue jobs", Typed(&[])),
    ("docs/POLICIES.md", "$ leveret declare queue jobs", Typed(&[])),
    ("docs/POLICIES.md", "$ leveret alter queue jobs", Typed(&[])),
    ("docs/POLICIES.md", "$ leveret set policy short", Typed(&[])),
    ("docs/PRIORITIES.md", "$ leveret declare queue calls", Typed(&[])),
    ("docs/PROTOCOL.md", "mkdir -p generated", By("run_block docs/PROTOCOL.md")),
    ("docs/RECEIPTS.md", "$ leveret journeys on", By("fn the_story_of_an_order_is_told_to_whoever_asks")),
    ("docs/RECEIPTS.md", "$ leveret journey order-7", By("fn the_story_of_an_order_is_told_to_whoever_asks")),
    (
        "docs/RECEIPTS.md",
        "$ leveret journey order-8",
        By("fn the_story_of_what_was_refused_says_what_was_wrong_where()"),
    ),
    ("docs/RECEIPTS.md", "$ leveret receipts j-", By("fn the_story_of_an_order_is_told_to_whoever_asks")),
    ("docs/REPLAY.md", "$ leveret declare queue payments", Typed(&[])),
    ("docs/REPLAY.md", "$ seq 1 5", Typed(&[])),
    ("docs/REPLAY.md", "$ leveret declare queue payments-again", Typed(&[])),
    (
        "docs/SIMULATION.md",
        "leveret simulate --seeds 1000 ",
        By("target/release/leveret simulate --seeds 1000 --steps 10000"),
    ),
    (
        "docs/SUBSCRIPTIONS.md",
        "$ leveret subscribe billing",
        By("fn a_till_that_was_dark_gets_what_it_missed_though_the_broker_was_killed"),
    ),
    (
        "docs/SUBSCRIPTIONS.md",
        "$ leveret subscriptions",
        By("fn a_till_that_was_dark_gets_what_it_missed_though_the_broker_was_killed"),
    ),
    (
        "docs/SUBSCRIPTIONS.md",
        "leveret subscriptions --find",
        By("fn who_hears_what_and_who_is_dark_is_found_among_many"),
    ),
    (
        "docs/SUBSCRIPTIONS.md",
        "leveret subscribe tills",
        By("fn patterns_notes_and_members_are_changed_by_saying_them_again"),
    ),
    ("docs/VALID_EVENTS.md", "$ leveret declare exchange events", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret explain --exchange events", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret list exchanges", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ cat order.schema.json", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret explain --exchange orders", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret get odd-orders", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret declare queue refused", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret alter exchange events", Typed(&[])),
    ("docs/VALID_EVENTS.md", "$ leveret declare exchange bills", Typed(&[])),
    (
        "docs/lessons/01-a-queue-server.md",
        "leveret demo nmq",
        By("fn what_the_app_publishes_before_anybody_is_there_is_heard"),
    ),
    ("docs/lessons/01-a-queue-server.md", "$ leveret demo nmq --script | sed", Typed(&[])),
    ("docs/lessons/01-a-queue-server.md", "$ leveret demo nmq --script | grep", Typed(&[])),
    (
        "docs/lessons/01-a-queue-server.md",
        "leveret demo caps",
        By("fn a_vendor_that_was_dark_while_the_broker_was_killed_hears_all_in_order"),
    ),
    ("docs/lessons/01-a-queue-server.md", "$ leveret demo caps --script | sed", Typed(&[])),
    ("docs/lessons/01-a-queue-server.md", "$ leveret declare exchange school", Typed(&[])),
    ("examples/python/README.md", "cd examples/python", By("-m grpc_tools.protoc -I proto")),
];

const MINUTES: &str = "it measures for minutes, and what it measures is the machine";
const SERVICE: &str = "it needs systemd, and a service that is installed";
const TOUR: &str = "fn the_tour_does_what_it_says()";

#[test]
fn every_command_is_run_or_it_is_said_why_not() {
    let pages = pages();
    let found: Vec<(&str, &str)> = pages
        .iter()
        .flat_map(|page| commands(page).map(|block| (page.path.as_str(), block.lines[0].as_str())))
        .collect();
    for (index, (path, line)) in found.iter().enumerate() {
        let listed =
            BLOCKS.get(index).is_some_and(|(page, begin, _)| page == path && line.starts_with(begin));
        assert!(listed, "{path}: nothing is said of `{line}`, or in another place");
    }
    assert_eq!(found.len(), BLOCKS.len(), "something is said of commands that are on no page");
    let tests = sources(&root().join("tests")) + &page_text(".ci/run");
    for (path, begin, how) in BLOCKS {
        match how {
            By(what) => assert!(tests.contains(what), "{path}: what runs `{begin}` is not there: {what}"),
            Not(reason) => assert!(reason.len() > 20, "{path}: why is `{begin}` not run?"),
            Typed(_) => {}
        }
    }
}

#[test]
fn what_is_typed_is_answered_as_the_pages_say() {
    let paths: BTreeSet<&str> =
        BLOCKS.iter().filter(|(_, _, how)| matches!(how, Typed(_))).map(|(path, ..)| *path).collect();
    for path in paths {
        let page = Page::parse(path, &page_text(path));
        let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let broker = Broker::start(&data);
        let listed = BLOCKS.iter().filter(|(page, ..)| *page == path);
        for (block, (_, _, how)) in commands(&page).zip(listed) {
            let Typed(before) = how else { continue };
            for line in *before {
                type_block(line, broker.url(), folder.path());
            }
            let (script, expected) = script_of(block, folder.path());
            let answered = type_block(&script, broker.url(), folder.path());
            assert_eq!(comparable(&answered), comparable(&expected), "{path}, #{}", block.section);
        }
    }
}

fn commands(page: &Page) -> impl Iterator<Item = &Block> {
    page.blocks.iter().filter(|block| ["sh", "console"].contains(&block.language.as_str()))
}

/// A script that shows each command and runs it, and all that comes of it, as the page has both. Files that the block shows are
/// made first; a broker is there already.
fn script_of(block: &Block, folder: &Path) -> (String, String) {
    let (mut script, mut expected) = (String::new(), String::new());
    let mut lines = block.lines.iter().peekable();
    while let Some(line) = lines.next() {
        let typed = line.strip_prefix("$ ").expect("a block begins with a command");
        let mut answer = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            answer += &format!("{line}\n");
        }
        if typed.ends_with(" &") {
            continue;
        }
        if let Some(file) = typed.strip_prefix("cat ") {
            fs::write(folder.join(file), answer.trim_end().to_owned() + "\n").unwrap();
        }
        // What a command ended with is there for the next one.
        script += &format!("status=$?; cat <<'SHOWN'\n$ {typed}\nSHOWN\n(exit $status); {typed}\n");
        expected += &format!("$ {typed}\n{answer}");
    }
    (script, expected)
}

fn type_block(script: &str, url: &str, folder: &Path) -> String {
    let programs = Path::new(env!("CARGO_BIN_EXE_leveret")).parent().unwrap().to_str().unwrap();
    let mut shell = Command::new("timeout");
    shell.args(["60", "bash", "-c", &format!("exec 2>&1\n{script}")]).current_dir(folder).env_clear();
    shell.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    shell.env("LEVERET_URL", url).env("NO_COLOR", "1");
    String::from_utf8(shell.stdin(Stdio::null()).output().unwrap().stdout).unwrap()
}

/// Without what is different each time: addresses, times, the machine's memory, and room at the ends of lines.
fn comparable(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let lines = lines.map(|line| match line {
        _ if line.starts_with("memory_bytes_max") => "memory_bytes_max".to_owned(),
        _ if line.contains(" answers at ") || line.contains("received_at_ms") => {
            // Numbers are told apart from what stands around them by digits, dots and colons.
            let is_part = |letter: char| letter.is_ascii_digit() || ".:".contains(letter);
            line.split(is_part).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("0")
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// All Rust below a folder, in one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("docs/commands.rs")
        {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}
