//! A command for each message: when it is accepted, when it comes again, and that nothing is lost on the way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Broker, finish, interrupt, run};

/// A command for a broker, with a PATH, in a directory.
fn leveret(broker: &Broker, place: &TempDir, arguments: &[&str]) -> Command {
    let mut command = broker.leveret(arguments);
    command.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(place.path());
    command
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed().as_secs() < 60, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_body_is_on_standard_input_and_what_else_there_is_in_the_environment() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue("orders");
    let headers = ["--header", "x-kind=big one", "--header", "n:int=5"];
    broker.run(&[&["publish", "--key", "orders"], &headers[..], &["two pairs of shoes"]].concat()).ok();
    let script = "cat; echo; echo $LEVERET_QUEUE,$LEVERET_EXCHANGE,$LEVERET_ROUTING_KEY; \
        echo $LEVERET_REDELIVERED,$LEVERET_DELIVERY_COUNT,$LEVERET_RESENT; \
        echo $LEVERET_HEADERS; echo $LEVERET_HEADER_X_KIND,$LEVERET_HEADER_N; echo ${LEVERET_MESSAGE_ID-none}";
    let mut consume = leveret(&broker, &place, &["consume", "orders", "--count", "1", "--exec", script]);
    consume.env("LEVERET_MESSAGE_ID", "of another message");
    assert_eq!(
        run(consume).ok(),
        "two pairs of shoes\norders,,orders\nfalse,0,false\n{\"n\":5,\"x-kind\":\"big one\"}\nbig one,5\nnone\n"
    );
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn a_message_whose_command_fails_comes_again_until_it_works() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b"]);
    let script = "body=$(cat); echo $body $LEVERET_DELIVERY_COUNT >> tried; \
        [ $body != a ] || [ $LEVERET_DELIVERY_COUNT = 2 ]";
    let flags = ["consume", "orders", "--retry-delay", "0.01", "--idle-exit", "0.5", "--exec", script];
    let outcome = run(leveret(&broker, &place, &flags));
    let outcome = outcome.fails(0, &["ended with status 1 (attempt 1); it goes back in 0.01 s", "in 0.02 s"]);
    assert_eq!(outcome.stdout, "");
    assert_eq!(read(&place.path().join("tried")), "a 0\na 1\na 2\nb 0\n", "in order, since one at a time");
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn after_the_last_attempt_a_message_is_rejected_and_told() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["bad", "good"]);
    let flags = ["consume", "orders", "--retry-delay", "0.01", "--attempts", "2", "--idle-exit", "0.5"];
    let exec = ["--exec", "grep -q good"];
    run(leveret(&broker, &place, &[&flags[..], &exec].concat()))
        .fails(1, &["(attempt 2 of 2); it is rejected, which drops it", "after their last attempt: 1"]);
    assert_eq!(broker.messages("orders"), (0, 0));
    let queues = broker.run(&["list", "queues", "--json"]).json();
    assert_eq!((&queues[0]["accepted_total"], &queues[0]["rejected_total"]), (&1.into(), &1.into()));
}

#[test]
fn a_command_that_is_not_there_costs_no_message() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b"]);
    let flags = ["consume", "orders", "--attempts", "1", "--exec", "no-such-command"];
    run(leveret(&broker, &place, &flags)).fails(1, &["could not run the command (status 127)", "is back in"]);
    assert_eq!(broker.messages("orders"), (2, 0));
}

#[test]
fn a_count_is_what_is_tried_and_fails_if_not_all_worked() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b", "c"]);
    let flags = ["consume", "orders", "--count", "2", "--prefetch", "1", "--exec"];
    run(leveret(&broker, &place, &[&flags[..], &["true"]].concat())).ok();
    assert_eq!(broker.messages("orders"), (1, 0));
    run(leveret(&broker, &place, &["consume", "orders", "--count", "1", "--exec", "false"]))
        .fails(1, &["only 0 of 1 messages were accepted"]);
    assert_eq!(broker.messages("orders"), (1, 0));
}

#[test]
fn jobs_run_at_the_same_time() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b", "c"]);
    // Each one waits for the two others.
    let script =
        "touch here-$(cat); until [ -e here-a ] && [ -e here-b ] && [ -e here-c ]; do sleep 0.01; done";
    let flags = ["consume", "orders", "--count", "3", "--jobs", "3", "--exec", script];
    run(leveret(&broker, &place, &flags)).ok();
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn a_consumer_that_is_killed_loses_nothing() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b"]);
    let hang = "touch begun; until [ -e over ] || [ ! -e begun ]; do sleep 0.01; done";
    let mut consume = leveret(&broker, &place, &["consume", "orders", "--exec", hang]).spawn().unwrap();
    wait_until("the command runs", || place.path().join("begun").exists());
    consume.kill().unwrap();
    consume.wait().unwrap();
    let flags = ["consume", "orders", "--count", "2", "--exec", "cat; echo \" $LEVERET_REDELIVERED\""];
    assert_eq!(run(leveret(&broker, &place, &flags)).ok(), "a true\nb false\n");
    // What it left behind ends, too: now, or when its directory is gone.
    fs::write(place.path().join("over"), "").unwrap();
}

#[test]
fn ctrl_c_lets_commands_end_and_takes_no_more() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b"]);
    let script = "touch begun; until [ -e over ] || [ ! -e begun ]; do sleep 0.01; done; cat";
    let mut consume = leveret(&broker, &place, &["consume", "orders", "--exec", script]);
    let mut consume = consume.process_group(0).spawn().unwrap();
    wait_until("the command runs", || place.path().join("begun").exists());
    // As a terminal does it: to all that stands before it.
    let group = rustix::process::Pid::from_raw(consume.id().cast_signed()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    let mut errors = BufReader::new(consume.stderr.take().unwrap()).lines();
    let told = errors.next().unwrap().unwrap();
    assert!(told.contains("waiting up to 30 s for commands that run (1)"), "{told}");
    fs::write(place.path().join("over"), "").unwrap();
    let outcome = finish(consume);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "a"));
    assert_eq!(broker.messages("orders"), (1, 0), "what ran is accepted, the other one untouched");
}

#[test]
fn a_second_ctrl_c_ends_commands_and_their_messages_stay() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a"]);
    let script = "trap 'touch ended; exit 0' TERM; touch begun; while true; do sleep 0.01; done";
    let mut consume = leveret(&broker, &place, &["consume", "orders", "--exec", script]).spawn().unwrap();
    wait_until("the command runs", || place.path().join("begun").exists());
    interrupt(&consume);
    let mut errors = BufReader::new(consume.stderr.take().unwrap()).lines();
    assert!(errors.next().unwrap().unwrap().contains("another Ctrl-C ends them"));
    interrupt(&consume);
    assert_eq!(finish(consume).status, 1);
    assert!(place.path().join("ended").exists(), "the command was told to end");
    assert_eq!(broker.messages("orders"), (1, 0), "its message is not accepted, whatever its status");
}

#[test]
fn ctrl_c_does_not_wait_for_further_attempts() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a"]);
    let flags = ["consume", "orders", "--retry-delay", "60", "--exec", "false"];
    let mut consume = leveret(&broker, &place, &flags).spawn().unwrap();
    let mut errors = BufReader::new(consume.stderr.take().unwrap()).lines();
    assert!(errors.next().unwrap().unwrap().contains("goes back in 60 s"));
    interrupt(&consume);
    // Sooner than after a minute, which is how long this helper waits.
    assert_eq!(finish(consume).status, 0);
    assert_eq!(broker.messages("orders"), (1, 0));
}

#[test]
fn commands_that_come_with_a_message_reach_the_same_broker() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a"]);
    broker.queue("done");
    let url = broker.url();
    let script = format!("{} publish --key done --file -", env!("CARGO_BIN_EXE_leveret"));
    let mut consume =
        leveret(&broker, &place, &["consume", "orders", "--count", "1", "--url", &url, "--exec", &script]);
    consume.env_remove("LEVERET_URL");
    run(consume).ok();
    assert_eq!((broker.messages("orders"), broker.messages("done")), ((0, 0), (1, 0)));
}

#[test]
fn a_message_that_no_environment_can_hold_fails_alone() {
    let broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue("orders");
    broker.run(&["publish", "--key", "orders", "--header", "nul:json=\"\\u0000\"", "bad"]).ok();
    broker.run(&["publish", "--key", "orders", "good"]).ok();
    let flags = ["consume", "orders", "--attempts", "1", "--idle-exit", "0.5", "--exec", "cat"];
    let outcome = run(leveret(&broker, &place, &flags)).fails(1, &["do not fit into an environment"]);
    assert_eq!(outcome.stdout, "good");
}

#[test]
fn what_makes_no_sense_with_a_command_is_refused() {
    let broker = Broker::start();
    for flag in ["--raw", "--json", "--no-ack"] {
        broker.run(&["consume", "orders", "--exec", "true", flag]).fails(2, &["cannot be used with"]);
    }
    for flag in ["--jobs", "--attempts", "--retry-delay"] {
        broker.run(&["consume", "orders", flag, "1"]).fails(2, &["--exec"]);
    }
}

#[test]
fn a_broker_that_restarts_while_a_command_runs_loses_nothing() {
    let mut broker = Broker::start();
    let place = TempDir::new().unwrap();
    broker.queue_of("orders", &["a", "b"]);
    let script =
        "echo $(cat) >> tried; touch begun; until [ -e over ] || [ ! -e begun ]; do sleep 0.01; done";
    let consume = leveret(&broker, &place, &["consume", "orders", "--exec", script]).spawn().unwrap();
    wait_until("the command runs", || place.path().join("begun").exists());
    broker.kill_and_restart();
    fs::write(place.path().join("over"), "").unwrap();
    wait_until("all is done", || broker.messages("orders") == (0, 0));
    interrupt(&consume);
    let outcome = finish(consume);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let tried = read(&place.path().join("tried"));
    assert!(tried.ends_with("a\nb\n"), "what was under way comes again: {tried}");
}
