//! What somebody who mistypes is told, and what a terminal is spared.

use std::io::{BufRead, BufReader, Read};

use serde_json::json;

use crate::support::{Broker, finish, interrupt, leveret, run, terminal};

#[test]
fn a_mistyped_name_is_answered_with_the_one_that_was_meant() {
    let broker = Broker::start();
    broker.queue("orders");
    broker.run(&["declare", "exchange", "news", "--type", "topic"]).ok();
    let queue = "did you mean 'orders'?";
    broker.run(&["consume", "oders"]).fails(1, &[queue]);
    broker.run(&["consume", "oders", "--exec", "true"]).fails(1, &[queue]);
    broker.run(&["get", "oders"]).fails(1, &[queue]);
    broker.run(&["purge", "oders"]).fails(1, &[queue]);
    broker.run(&["delete", "queue", "oders"]).fails(1, &[queue]);
    broker.run(&["bind", "news", "oders"]).fails(1, &[queue]);
    broker.run(&["publish", "--key", "oders", "x"]).fails(1, &[queue]);
    let exchange = "did you mean 'news'?";
    broker.run(&["publish", "--exchange", "nesw", "--key", "k", "x"]).fails(1, &[exchange]);
    broker.run(&["subscribe", "nesw"]).fails(1, &[exchange]);
    broker.run(&["delete", "exchange", "nesw"]).fails(1, &[exchange]);
    broker.run(&["bind", "nesw", "orders"]).fails(1, &[exchange]);
    let outcome = broker.run(&["get", "something-else"]).fails(1, &["404"]);
    assert!(!outcome.stderr.contains("did you mean"), "{outcome:?}");
}

#[test]
fn a_mistyped_vhost_is_answered_with_the_one_that_was_meant() {
    let broker = Broker::start();
    broker.run(&["vhost", "put", "shop"]).ok();
    let mistyped = broker.url_as("guest:guest", "shpo");
    for command in [["list", "queues"], ["consume", "orders"]] {
        let command = [&command[..], &["--url", &mistyped]].concat();
        broker.run(&command).fails(1, &["vhost 'shpo'", "did you mean 'shop'?"]);
    }
    broker.run(&["vhost", "delete", "shpo"]).fails(1, &["did you mean 'shop'?"]);
}

#[test]
fn a_mistyped_argument_does_not_pass_in_silence() {
    let broker = Broker::start();
    let declare = |argument: &str| broker.run(&["declare", "queue", "orders", "--argument", argument]);
    declare("x-mesage-ttl:int=5").fails(2, &["'x-mesage-ttl'", "did you mean 'x-message-ttl'?"]);
    declare("message-ttl:int=5").fails(2, &["did you mean 'x-message-ttl'?"]);
    broker
        .run(&["declare", "exchange", "e", "--type", "topic", "--argument", "alternate_exchange=x"])
        .fails(2, &["did you mean 'alternate-exchange'?"]);
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), json!([]));
    declare("x-yz:int=5").fails(0, &["nobody knows the argument 'x-yz'"]);
    assert_eq!(declare("owner=till 1").fails(0, &[]).stderr, "", "names of one's own are nobody's business");
}

#[test]
fn what_is_given_twice_is_refused() {
    let broker = Broker::start();
    broker.queue("orders");
    for command in [
        &["publish", "--key", "orders", "--header", "a=1", "--header", "a:int=2", "x"][..],
        &["declare", "queue", "q", "--argument", "a=1", "--argument", "a=2"],
        &["bind", "amq.headers", "orders", "--header", "a=1", "--header", "a=2"],
        &["explain", "--header", "a=1", "--header", "a=2"],
        &["subscribe", "amq.headers", "--header", "a=1", "--header", "a=2"],
    ] {
        broker.run(command).fails(2, &["'a' is given twice"]);
    }
    assert_eq!(broker.messages("orders"), (0, 0));
}

#[test]
fn mistakes_end_with_2_and_are_told_in_words() {
    let broker = Broker::start();
    broker.queue("orders");
    let long = "n".repeat(256);
    for (command, needle) in [
        (&["consume", "orders", "--count", "many"][..], "expected a whole number from 1 on"),
        (&["consume", "orders", "--prefetch", "x"], "expected a whole number, 0 to 4294967295"),
        (&["consume", "orders", "--exec", "true", "--jobs", "0"], "expected a whole number, 1 to 1024"),
        (&["publish", "--key", "orders", "--priority", "x", "x"], "expected a whole number, 0 to 255"),
        (&["declare", "exchange", "e", "--type", "topik"], "'topic'"),
        (&["declare", "queue", &long], "255"),
        (&["publish", "--key", &long, "x"], "255"),
        (&["perf", "--queue", ""], "--queue names no queue"),
    ] {
        let outcome = broker.run(command).fails(2, &[needle]);
        assert!(!outcome.stderr.contains("digit found"), "{outcome:?}");
    }
}

#[test]
fn numbers_of_the_broker_that_are_none_are_told_in_words() {
    for (flag, needle) in [
        ("--connections-max", "1 to 1000000"),
        ("--heartbeat-seconds", "1 to 3600"),
        ("--shards", "1 to 64"),
        ("--message-bytes-max", "1 KiB to 64 MiB"),
        ("--segment-bytes", "1 MiB to 128 MiB"),
    ] {
        for typed in ["many", "-1", "1.5", "99999999999999999999", ""] {
            let told = format!("{flag}: ");
            let outcome = run(leveret(&["serve", "--memory", flag, typed]));
            outcome.fails(2, &[&told, &format!("= \"{typed}\" is not allowed: expected"), needle]);
        }
    }
}

#[test]
fn what_the_operating_system_refuses_is_told_without_its_numbers() {
    let mut broker = Broker::start();
    broker.queue_of("orders", &["a"]);
    let taken = broker.url().rsplit_once('@').unwrap().1.trim_end_matches('/').to_owned();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut to_full = broker.leveret(&["list", "queues"]);
    to_full.stdout(full());
    let mut outcomes = vec![
        run(leveret(&["serve", "--memory", "--listen", &taken])).fails(1, &["Address already in use"]),
        run(leveret(&["serve", "--memory", "--config", "/nowhere.toml"]))
            .fails(1, &["No such file or directory"]),
        run(leveret(&["serve", "--memory", "--config", "/"])).fails(1, &["Is a directory"]),
        run(leveret(&["serve", "--data", "/proc/nowhere"])).fails(1, &["No such file or directory"]),
        run(leveret(&["serve", "--data", "/dev/null/data"])).fails(1, &["Not a directory"]),
        run(leveret(&["man", "--dir", "/nowhere"])).fails(1, &["No such file or directory"]),
        broker
            .run(&["publish", "--key", "orders", "--file", "/nowhere"])
            .fails(1, &["No such file or directory"]),
        broker.run(&["publish", "--key", "orders", "--file", "/"]).fails(1, &["Is a directory"]),
        finish(to_full.spawn().unwrap()).fails(1, &["No space left on device"]),
    ];
    broker.kill();
    outcomes.push(broker.run(&["list", "queues"]).fails(1, &["Connection refused"]));
    for outcome in outcomes {
        assert!(!outcome.stderr.contains("os error"), "{outcome:?}");
    }
}

#[test]
fn a_flag_that_there_is_not_is_not_advised_as_a_value() {
    let broker = Broker::start();
    let outcome = broker.run(&["consume", "--queue", "orders"]).fails(2, &["unexpected argument '--queue'"]);
    assert!(!outcome.stderr.contains("-- --queue"), "{outcome:?}");
    broker.run(&["consume", "orders", "--jsno"]).fails(2, &["'--json'"]);
}

#[test]
fn standard_input_has_a_name() {
    let broker = Broker::start_with(&["--message-bytes-max", "1 KiB"]);
    broker.queue("orders");
    broker
        .run_with_input(&["publish", "--key", "orders", "--file", "-"], &[b'x'; 1025])
        .fails(1, &["error: standard input is larger than the 1024 bytes"]);
}

#[test]
fn a_consumer_tells_a_terminal_that_it_waits_and_nobody_else() {
    let broker = Broker::start();
    broker.queue("orders");
    for arguments in [&["consume", "orders"][..], &["subscribe", "amq.topic"]] {
        let (screen, stderr) = terminal();
        let mut consume = broker.leveret(arguments);
        let child = consume.stderr(stderr).spawn().unwrap();
        let mut lines = BufReader::new(screen).lines();
        let told = lines.next().unwrap().unwrap();
        assert_eq!(told, "leveret: waiting for messages; Ctrl-C ends");
        interrupt(&child);
        finish(child).ok();
    }
    let outcome = broker.run(&["consume", "orders", "--idle-exit", "0.1"]);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn nothing_that_came_can_command_or_fool_a_terminal() {
    let broker = Broker::start();
    let treacherous = "a\u{1b}[2Jb\u{202e}c\u{9b}d";
    broker.queue_of("orders", &[treacherous, treacherous, treacherous]);

    let readable = broker.run(&["consume", "orders", "--count", "1"]).ok();
    assert_eq!(readable, "1  orders  a\\u{1b}[2Jb\\u{202e}c\\u{9b}d\n");
    let line = broker.run(&["consume", "orders", "--count", "1", "--json"]).ok();
    assert!(line.contains("a\\u001b[2Jb\\u202ec\\u009bd"), "{line}");
    let message: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(message["body"], treacherous, "it is the same to programs");

    let (mut screen, stdout) = terminal();
    let mut command = broker.leveret(&["get", "orders", "--requeue", "--raw"]);
    let child = command.stdout(stdout).spawn().unwrap();
    drop(command);
    finish(child).ok();
    let mut shown = [0; 256];
    let length = screen.read(&mut shown).unwrap();
    let shown = String::from_utf8_lossy(&shown[..length]);
    assert_eq!(shown.trim_end(), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}d");
    let piped = broker.run(&["get", "orders", "--raw"]).ok();
    assert_eq!(piped, format!("{treacherous}\n"), "a pipe gets what came");

    for command in [&["get", treacherous][..], &["purge", treacherous], &["delete", "queue", treacherous]] {
        let outcome = broker.run(command).fails(1, &["\\u{1b}[2J"]);
        assert!(!outcome.stderr.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{outcome:?}");
    }
    let outcome = broker.run(&["declare", "queue", "x\u{202e}y"]).ok();
    assert!(outcome.contains("'x\\u{202e}y'"), "{outcome}");
}

#[test]
fn a_consumer_ends_when_nobody_reads_though_nothing_comes() {
    let broker = Broker::start();
    broker.queue("orders");
    let mut consume = broker.leveret(&["consume", "orders", "--raw"]).spawn().unwrap();
    drop(consume.stdout.take());
    // Not one message has to come for that.
    let outcome = finish(consume);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn a_broker_that_is_not_there_yet_is_waited_for_and_that_is_told() {
    let mut broker = Broker::start();
    broker.queue("orders");
    broker.kill();
    let url = broker.url();
    let mut publish =
        broker.leveret(&["publish", "--key", "orders", "--connect-wait", "60", "x"]).spawn().unwrap();
    let mut lines = BufReader::new(publish.stderr.take().unwrap()).lines();
    let told = lines.next().unwrap().unwrap();
    assert!(told.contains("nothing listens at") && told.contains("trying for 60 s"), "{told}");
    broker.restart();
    assert_eq!(broker.url(), url);
    finish(publish).ok();
    assert_eq!(broker.messages("orders"), (1, 0));

    broker.kill();
    for flag in ["0", "0.2"] {
        run(broker.leveret(&["publish", "--key", "orders", "--connect-wait", flag, "x"]))
            .fails(1, &["nothing listens at", "leveret serve"]);
    }
}
