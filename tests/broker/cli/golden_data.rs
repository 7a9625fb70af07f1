//! Data directories that earlier versions wrote open as they did then. `tests/golden/data/make` has made them.

use std::path::Path;
use std::process::Command;

use crate::support::{Broker, leveret, run};

/// A broker on a copy of a packed data directory.
fn broker_on(name: &str) -> Broker {
    let mut broker = Broker::start_with(&["--shards", "2"]);
    broker.stop();
    std::fs::remove_dir_all(broker.data()).unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/data/{name}.tar.gz"));
    let folder = broker.data().parent().unwrap().to_owned();
    let unpacked =
        Command::new("tar").arg("--extract").arg("--file").arg(packed).current_dir(folder).status();
    assert!(unpacked.unwrap().success());
    broker
}

#[test]
fn a_data_directory_of_format_1_opens_with_everything_in_it() {
    drop(everything_is_in("format-1"));
}

/// Written before there were checkpoints: its catalog does not know its shards' logs, and they declare no queues.
#[test]
fn a_data_directory_from_before_there_were_checkpoints_opens_with_everything_in_it() {
    drop(everything_is_in("format-1-before-checkpoints"));
}

/// Written when segments were written over, with small ones, by a broker that was killed: behind the end of some stands what was there
/// before, and a message is for later.
#[test]
fn a_data_directory_whose_segments_were_written_over_opens_with_everything_in_it() {
    let broker = everything_is_in("format-1-written-over");
    let later = broker.run(&["browse", "empty", "--delayed", "--bodies"]).ok();
    assert!(later.contains("in the year 9000") && later.contains("(until 9000-01-01"), "{later}");
}

fn everything_is_in(packed: &str) -> Broker {
    let mut broker = broker_on(packed);
    let data = broker.data();
    run(leveret(&["log", "check", data.to_str().unwrap()])).ok();
    broker.restart();

    let queues = broker.run(&["list", "queues", "--json"]).json();
    let held =
        queues.as_array().unwrap().iter().map(|queue| {
            (queue["name"].as_str().unwrap().to_owned(), queue["messages_ready"].as_u64().unwrap())
        });
    let held: Vec<_> = held.collect();
    assert_eq!(held, [("empty".to_owned(), 0), ("mails".to_owned(), 1), ("orders".to_owned(), 3)]);
    assert_eq!(broker.run(&["consume", "orders", "--raw", "--count", "3"]).ok(), "four\nfive\nsix\n");
    let mail = broker.run(&["consume", "mails", "--json", "--count", "1"]).ok();
    assert!(mail.contains("from France") && mail.contains("copies") && mail.contains("eu.fr"), "{mail}");
    let vhosts = broker.run(&["list", "vhosts"]).ok();
    assert!(vhosts.contains("shop"), "{vhosts}");

    // Users have their passwords, bindings lead where they led.
    let mut ann = leveret(&["publish", "--exchange", "news", "--key", "eu.de", "from Germany"]);
    ann.env("LEVERET_URL", broker.url_as("ann:secret", ""));
    run(ann).ok();
    assert_eq!(broker.messages("mails"), (1, 0));
    broker.kill_and_restart();
    assert_eq!(broker.messages("mails"), (1, 0));
    broker
}
