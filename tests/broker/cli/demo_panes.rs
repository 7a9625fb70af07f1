//! Demos in a terminal: a pane for each actor, the picture, keys, and nothing that is left behind.

use std::path::Path;

use tempfile::TempDir;

use crate::support::seat::{Seat, keep};
use crate::support::{Broker, leveret};

/// A demo in a terminal, with a place of its own for what it makes.
struct Class {
    seat: Seat,
    folder: TempDir,
}

impl Class {
    fn open(demo: &str, columns: u16, rows: u16) -> Self {
        Self::open_with(&["demo", demo], columns, rows)
    }

    fn open_with(arguments: &[&str], columns: u16, rows: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = leveret(arguments);
        command.env("TMPDIR", folder.path());
        Self { seat: Seat::start(command, columns, rows), folder }
    }

    /// Ends well, and leaves nothing: no folder, and no process that works in one. What stands in the terminal then.
    #[track_caller]
    fn ends(self) -> String {
        let (outcome, left) = self.seat.ends();
        outcome.ok();
        let files: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap).collect();
        assert!(files.is_empty(), "{files:?}");
        assert_eq!(processes_in(self.folder.path()), Vec::<String>::new());
        left
    }
}

/// The command lines of processes that were given something in a folder.
fn processes_in(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder)).collect()
}

/// The highest number of an order that is on the screen.
fn orders(seen: &str) -> u64 {
    let numbers = seen.split("o-").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

#[test]
fn whoever_watches_takes_a_driver_and_a_vendor_away_and_kills_the_broker() {
    let mut class = Class::open("caps", 80, 24);
    let seat = &mut class.seat;
    let first =
        seat.see(&["1. an order, from the vendor to the door", "predict: which three", "Enter plays"]);
    keep("demo-caps-80x24-first.txt", &first);
    for actor in ["acme-widgets", "1-800-flowers", "web-shop", "driver-1", "driver-2", "hub"] {
        assert!(first.contains(actor), "{actor}: {first}");
    }
    seat.press(b"\r");
    seat.see(&["2. valid events only", "thank you for deliver", "delivered a-1"]);
    // By hand from here on.
    seat.press(b"m");
    let seen = seat.see(&["by hand", "space pauses", "refused: ", "Tab view"]);
    assert!(!seen.contains("no room for"), "{seen}");
    seat.see_that(|seen| orders(seen) >= 2);
    seat.press(b"d");
    seat.see(&["driver-1, not here", "driver-1 is gone"]);
    seat.press(b"d");
    seat.see(&["driver-2, not here"]);
    seat.press(b"v");
    let dark = seat.see(&["1-800-flowers, not he", "1-800-flowers is gone"]);
    keep("demo-caps-80x24.txt", &dark);
    seat.press(b"k");
    seat.see(&["the broker is dead", "kill -9"]);
    seat.press(b"d");
    seat.see(&["not while the broker is dead"]);
    seat.press(b"k");
    seat.see_that(|seen| seen.contains("everybody is connected again") && seen.contains("by hand"));
    // The other vendor goes, and then both come.
    seat.press(b"dvv");
    seat.see_that(|seen| !seen.contains("not h") && seen.contains("acme-widgets is here"));
    let before = orders(&seat.see(&["by hand"]));
    seat.see_that(|seen| orders(seen) > before);
    seat.press(b" ");
    seat.see(&["paused", "space plays"]);
    seat.resize(200, 50);
    let large = seat.see(&["paused", "caps.hub-log", "subscription", "sub:caps.drivers", "EVENT delivered."]);
    keep("demo-caps-200x50.txt", &large);
    seat.press(b"q");
    let left = class.ends();
    keep("demo-caps-left.txt", &left);
    for words in ["receipts of o-", "caps.drivers", "accepted", "sub:caps.hub-log"] {
        assert!(left.contains(words), "{words}: {left}");
    }
}

#[test]
fn each_demo_plays_its_scenes_in_panes_and_goes_on_by_hand() {
    let demos: [(&str, usize, &str, &[&str]); 4] = [
        ("caps", 6, "d", &["driver-1, not here", "EVENT delivered."]),
        ("nmq", 6, "lm", &["logger, not here", "monitors network", "refused: "]),
        ("rooms", 5, "jc", &["listens to rooms.school/message, rooms.school/challenge", "cleo, not here"]),
        ("chores", 5, "pn", &["bens-phone, not here", "news-1 pizza, 2 copies"]),
    ];
    for (demo, scenes, keys, words) in demos {
        let mut class = Class::open(demo, 200, 50);
        for scene in 1..=scenes {
            let seat = &mut class.seat;
            seat.see(&[&format!("demo {demo} · {scene}. "), "predict: ", "Enter plays"]);
            seat.press(b"\r");
        }
        class.seat.see(&["all was heard as it should be", "all scenes are over", "Enter plays"]);
        class.seat.press(b"\r");
        class.seat.see(&["by hand", "space pauses"]);
        class.seat.press(keys.as_bytes());
        let large = class.seat.see(words);
        keep(&format!("demo-{demo}-200x50-by-hand.txt"), &large);
        class.seat.resize(80, 24);
        let small = class.seat.see(&["by hand", "q quits", "vhost /"]);
        keep(&format!("demo-{demo}-80x24-by-hand.txt"), &small);
        class.seat.resize(200, 50);
        class.seat.see(&["counted in"]);
        class.seat.press(b"\x03");
        let left = class.ends();
        assert!(left.contains("vhost /") && left.contains("receipts of "), "{left}");
    }
}

#[test]
fn in_a_small_terminal_there_are_fewer_panes_and_it_is_told() {
    let mut class = Class::open("caps", 60, 24);
    class.seat.see(&["no room for the picture (72 x 14)", "predict: "]);
    class.seat.resize(40, 12);
    class.seat.see(&["q quits", "no room for 4 of 6 panes"]);
    class.seat.resize(30, 8);
    class.seat.see(&["40 columns and 10 rows"]);
    class.seat.resize(80, 24);
    class.seat.see(&["vhost /", "Tab view"]);
    class.seat.press(b"\t");
    class.seat.see_that(|seen| seen.contains("vhost /") && !seen.contains("driver-2"));
    class.seat.press(b"\t");
    class.seat.see_that(|seen| !seen.contains("vhost /") && seen.contains("driver-2"));
    class.seat.terminate();
    let left = class.ends();
    assert!(left.contains("nothing was published"), "{left}");
}

#[test]
fn a_broker_that_is_somebodys_is_not_killed_and_left_as_it_was() {
    let broker = Broker::start();
    let mut class = Class::open_with(&["demo", "caps", "--url", &broker.url()], 80, 24);
    class.seat.see(&["predict: "]);
    class.seat.press(b"k");
    class.seat.see(&["the broker is not killed: it is not the demo's own", "by hand"]);
    class.seat.see_that(|seen| orders(seen) >= 1);
    class.seat.press(b"q");
    class.ends();
    for list in [&["list", "queues", "--json"][..], &["subscriptions", "--json"]] {
        assert_eq!(broker.run(list).json(), serde_json::json!([]));
    }
}

#[test]
fn a_demo_that_fails_gives_the_terminal_back_and_says_why() {
    let mut broker = Broker::start();
    let mut class = Class::open_with(&["demo", "chores", "--url", &broker.url()], 80, 24);
    class.seat.see(&["predict: "]);
    // What its first scene asks for is taken away from it.
    broker.run(&["declare", "exchange", "chores", "--type", "fanout"]).ok();
    class.seat.press(b"\r");
    let (outcome, _) = class.seat.ends();
    outcome.fails(1, &["chores", "in scene 1, chores are added, and no child is there"]);
    broker.kill();
}

#[test]
fn whoever_quits_while_the_broker_is_dead_sees_what_it_has_kept() {
    let mut class = Class::open("caps", 200, 50);
    class.seat.see(&["predict: "]);
    // Nobody is there to take what is published, and the broker is killed.
    class.seat.press(b"vvddk");
    class.seat.see(&["the broker is dead", "driver-2 is gone", "kill -9"]);
    class.seat.press(b"q");
    let left = class.ends();
    for words in ["the broker is started again: this is what it has kept", "sub:caps.drivers", "dark "] {
        assert!(left.contains(words), "{words}: {left}");
    }
}
