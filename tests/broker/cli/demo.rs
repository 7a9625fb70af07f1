//! Demos as a class runs them: what is to be heard is heard, always the same, on any broker, which they leave as it was.

use std::collections::BTreeSet;

use crate::support::{Broker, Outcome, leveret, run};

const DEMOS: [&str; 4] = ["caps", "nmq", "rooms", "chores"];

/// Runs a demo with a broker of its own.
fn script(demo: &str, seed: u64) -> Outcome {
    run(leveret(&["demo", demo, "--script", "--seed", &seed.to_string()]))
}

/// What is said, without who comes when.
fn without_entrances(printed: &str) -> String {
    let lines = printed.lines().filter(|line| !line.ends_with(" is here"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Lines of what is to be seen, and they come in this order.
#[track_caller]
fn check_in_order(printed: &str, lines: &[&str]) {
    let mut rest = printed;
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("'{line}' does not come, or too early: {printed}"));
        rest = &rest[at + line.len()..];
    }
}

#[track_caller]
fn check_demo(demo: &str, lines: &[&str]) {
    let printed = script(demo, 1).ok();
    check_in_order(&printed, lines);
    assert!(printed.ends_with("\nall was heard as it should be\n"), "{printed}");
    assert_eq!(script(demo, 1).ok(), printed, "the same seed");
    let entrances = |printed: &str| {
        let lines = printed.lines().filter(|line| line.ends_with(" is here"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut orders = BTreeSet::from([entrances(&printed)]);
    for seed in 2..6 {
        let other = script(demo, seed).ok();
        assert_eq!(
            without_entrances(&other),
            without_entrances(&printed),
            "seed {seed}: the order did matter"
        );
        orders.insert(entrances(&other));
    }
    assert!(orders.len() > 1 || demo == "chores", "seeds change the order: {orders:?}");
}

#[test]
fn a_vendor_that_was_dark_while_the_broker_was_killed_hears_all_in_order() {
    check_demo(
        "caps",
        &[
            "did you mean 'pickup.acme-widgets'",
            "driver-1      │ picked up a-2",
            "driver-1 is gone",
            "driver-2      │ picked up a-2, which somebody had before",
            "1-800-flowers is gone",
            "dark, messages that wait: 6",
            "delivered.1-800-flowers for caps.1-800-flowers: pending, dark, sent 0",
            "the broker is killed: kill -9",
            "the broker is started again",
            "dark, messages that wait: 6",
            "1-800-flowers │ f-1 is on its way",
            "1-800-flowers │ thank you for delivering f-1",
            "1-800-flowers │ f-2 is on its way",
            "1-800-flowers │ thank you for delivering f-2",
            "1-800-flowers │ f-3 is on its way",
            "1-800-flowers │ thank you for delivering f-3",
            "1-800-flowers │ thank you for delivering f-4",
            "delivered.1-800-flowers for caps.1-800-flowers: accepted, sent 1",
        ],
    );
}

#[test]
fn what_the_app_publishes_before_anybody_is_there_is_heard() {
    check_demo(
        "nmq",
        &[
            "app     │ nmq.network/attack {\"type\":\"flood\",\"source\":\"outside\"}: in 2 queues",
            "attack for nmq.network: pending, dark, sent 0",
            "logger  │ cannot listen to nmq.network/foo: key 'foo' is not allowed",
            "logger  │ delete {\"id\":77}",
            "logger  │ create {\"id\":99,\"name\":\"Ada\"}",
            "logger  │ RUN!",
            "network │ Shields up!",
            "nmq.database/update came back: nobody listens to it",
            "did you mean 'attack'?",
            "there is no exchange 'nmq.databse'; did you mean 'nmq.database'?",
            "attack for nmq.network: accepted, sent 1",
        ],
    );
}

#[test]
fn a_room_is_heard_by_who_has_joined_it_there_or_not() {
    check_demo(
        "rooms",
        &[
            "ann     │ hears message 'hello'",
            "ben     │ hears challenge.codefellows 'riddle-1'",
            "refused: routing_key",
            "cleo    │ hears challenge.codefellows 'riddle-2'",
            "cleo is gone",
            "cleo    │ hears challenge.codefellows 'riddle-3'",
            "came back: nobody listens to it",
            "challenge.codefellows for rooms.cleo: accepted, sent 1",
        ],
    );
}

#[test]
fn a_chore_that_was_not_received_waits_for_the_next_child() {
    check_demo(
        "chores",
        &[
            "parent     │ added: c-3 lawn",
            "ann        │ gets c-3 lawn",
            "ann is gone",
            "ann        │ gets c-3 lawn, which somebody had before",
            "chore for chores.family: accepted, sent 2",
            "ben        │ gets c-5 rubbish",
            "ann        │ received: c-4",
            "news for chores.news:ben: pending, dark, sent 0",
            "news for chores.news:ben: accepted, sent 1",
        ],
    );
}

#[test]
fn a_broker_that_is_somebodys_is_left_as_it_was() {
    let broker = Broker::start();
    broker.queue("theirs");
    let everything = || {
        let lists: [&[&str]; 4] =
            [&["list", "exchanges"], &["list", "queues"], &["subscriptions"], &["journeys", "list"]];
        lists.map(|list| broker.run(list).ok())
    };
    let before = everything();
    let own = script("caps", 1).ok();
    for demo in DEMOS {
        let printed = broker.run(&["demo", demo, "--script", "--url", &broker.url()]).ok();
        if demo == "caps" {
            let others = printed.replace("the broker is not killed: it is not the demo's own", "KILLED");
            let own = own.replace("the broker is killed: kill -9", "KILLED");
            let own: String = own.lines().filter(|line| !line.ends_with("started again")).collect();
            let others: String = others.lines().filter(|line| !line.ends_with("started again")).collect();
            assert_eq!(others, own, "all but that is the same");
        }
        assert_eq!(everything(), before, "{demo}");
        let again = broker.run(&["demo", demo, "--script", "--url", &broker.url()]).ok();
        assert_eq!(again, printed, "{demo}: what was there before does not matter");
    }
}

#[test]
fn what_somebody_has_under_the_name_of_a_demo_is_not_touched() {
    let broker = Broker::start();
    broker.run(&["declare", "exchange", "caps", "--type", "fanout"]).ok();
    let needles = ["there is an exchange 'caps' already", "leveret delete exchange caps"];
    broker.run(&["demo", "caps", "--script", "--url", &broker.url()]).fails(1, &needles);
    broker.run(&["declare", "exchange", "shop", "--type", "topic"]).ok();
    broker.run(&["subscribe", "rooms.ann", "--exchange", "shop", "--declare-only"]).ok();
    let needles = ["there is a subscription 'rooms.ann' already", "leveret unsubscribe rooms.ann"];
    broker.run(&["demo", "rooms", "--script", "--url", &broker.url()]).fails(1, &needles);
    let exchanges = broker.run(&["list", "exchanges"]).ok();
    assert!(exchanges.contains("caps") && !exchanges.contains("rooms"), "{exchanges}");
    assert!(broker.run(&["subscriptions"]).ok().contains("rooms.ann"));
}

#[test]
fn without_a_broker_at_the_url_a_demo_says_so() {
    let outcome = run(leveret(&["demo", "nmq", "--script", "--url", "leveret://127.0.0.1:1"]));
    outcome.fails(1, &["nothing listens at 127.0.0.1:1"]);
}

#[test]
fn without_a_script_a_demo_ends_with_its_picture() {
    let printed = run(leveret(&["demo", "chores"])).ok();
    let picture = printed.split("5. news for everybody").nth(1).unwrap();
    for words in ["│chores ", "chores.fami", "│parent ", "anns-phone", "all was heard as it should be"] {
        assert!(picture.contains(words), "'{words}' is not in: {picture}");
    }
    assert!(picture.contains('╭') || picture.contains('┌'), "{picture}");
}
