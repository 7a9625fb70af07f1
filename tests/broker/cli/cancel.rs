//! `leveret cancel`, and what is seen of messages for later.

use crate::support::Broker;

#[test]
fn messages_for_later_are_told_and_cancelled_by_their_id_or_all() {
    let broker = Broker::start();
    broker.run(&["declare", "queue", "reminders"]).ok();
    for id in ["a", "b", "c"] {
        broker
            .run(&["publish", "--key", "reminders", "--delay", "86400", "--message-id", id, "wake up"])
            .ok();
    }
    let listed = broker.run(&["list", "queues", "--json"]).ok();
    assert!(listed.contains("\"messages_delayed\":3"), "{listed}");
    let shown = broker.run(&["browse", "reminders", "--delayed"]).ok();
    assert!(
        shown.contains("(until 2") && shown.ends_with("shown: 3, held back by queue 'reminders': 3\n"),
        "{shown}"
    );
    broker.run(&["cancel", "reminders"]).fails(2, &["--all"]);
    let dry = broker.run(&["cancel", "reminders", "--id", "b", "--dry-run"]).ok();
    assert_eq!(dry, "found: 1, and nothing done\n");
    let one = broker.run(&["cancel", "reminders", "--id", "b"]).ok();
    assert_eq!(one, "cancelled in queue 'reminders': 1\n");
    let rest = broker.run(&["cancel", "reminders", "--all", "--json"]).ok();
    assert_eq!(rest, "{\"cancelled\":2,\"found\":2}\n");
    broker.run(&["move", "reminders", "elsewhere", "--delayed"]).fails(2, &["leveret cancel"]);
}
