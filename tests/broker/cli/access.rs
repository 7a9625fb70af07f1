//! Users and virtual hosts.

use std::io::Write;

use serde_json::json;

use crate::support::{Broker, Outcome, finish, leveret, run, run_with_input, terminal};

/// A command as another user, perhaps in another vhost.
fn run_as(broker: &Broker, login: &str, vhost: &str, arguments: &[&str]) -> Outcome {
    let mut command = leveret(arguments);
    command.args(["--url", &broker.url_as(login, vhost)]);
    run(command)
}

#[test]
fn users_are_made_listed_and_deleted() {
    let broker = Broker::start();
    let put = ["user", "put", "ada", "--password-stdin", "--vhost", "/"];
    assert_eq!(broker.run_with_input(&put, b"s3cret\n").ok(), "user 'ada' is there (may open /)\n");
    let users = broker.run(&["list", "users", "--json"]).json();
    assert!(users.as_array().unwrap().contains(&json!({
        "name": "ada",
        "administrator": false,
        "vhosts": ["/"],
        "max_connections": null,
        "max_channels": null,
    })));
    assert!(broker.run(&["list", "users"]).ok().contains("ada"));

    run_as(&broker, "ada:s3cret", "", &["declare", "queue", "hers"]).ok();
    run_as(&broker, "ada:wrong", "", &["list", "queues"]).fails(1, &["error: 403 ACCESS_REFUSED", "ada"]);
    run_as(&broker, "nobody:s3cret", "", &["list", "queues"])
        .fails(1, &["error: 403 ACCESS_REFUSED", "nobody"]);
    run_as(&broker, "ada:s3cret", "", &["list", "users"]).fails(1, &["403"]);
    run_as(&broker, "ada:s3cret", "", &["user", "delete", "guest"]).fails(1, &["403"]);

    broker.run(&["user", "put", "ada", "--administrator"]).ok();
    run_as(&broker, "ada:s3cret", "", &["list", "users"]).ok();
    broker.run(&["user", "delete", "ada"]).ok();
    run_as(&broker, "ada:s3cret", "", &["list", "queues"]).fails(1, &["403"]);
}

#[test]
fn a_user_who_is_held_to_patterns_is_told_what_is_missing() {
    let broker = Broker::start();
    broker.run_with_input(&["user", "put", "shop", "--password-stdin"], b"s3cret\n").ok();
    let set = |configure: &str, more: &[&str]| {
        let typed =
            ["set", "permissions", "shop", "--configure", configure, "--write", ".*", "--read", "^shop-"];
        broker.run(&[&typed, more].concat())
    };
    set("^shop-", &[]).ok();
    let as_shop = |arguments: &[&str]| run_as(&broker, "shop:s3cret", "", arguments);
    as_shop(&["declare", "queue", "shop-1"]).ok();
    let refused = as_shop(&["declare", "queue", "bob-1"]);
    let told = "error: 403 ACCESS_REFUSED: configure access to queue 'bob-1' in vhost '/' refused for user 'shop'\n  \
                configure: expected a name that matches ^shop-, got bob-1\n  \
                hint: an administrator can allow it with `leveret set permissions`\n";
    refused.fails(1, &[told]);
    as_shop(&["list", "users"]).fails(1, &["403"]);
    as_shop(&["set", "permissions", "shop", "--configure", ".*", "--write", ".*", "--read", ".*"])
        .fails(1, &["403 ACCESS_REFUSED", "no administrator"]);
    let entry =
        json!({ "user": "shop", "vhost": "/", "configure": "^shop-", "write": ".*", "read": "^shop-" });
    assert_eq!(as_shop(&["list", "permissions", "--json"]).json(), json!([entry]));

    set("(", &[]).fails(1, &["406 PRECONDITION_FAILED", "no regular expression", "configure"]);
    set(".*", &["--vhost", "nowhere"]).fails(1, &["nowhere"]);
    broker.run(&["set", "permissions", "shop", "--configure", ".*"]).fails(2, &["--write", "--read"]);
    broker.run(&["vhost", "put", "other"]).ok();
    assert!(set("", &["--vhost", "other"]).ok().contains("vhost 'other': configure ''"));
    broker.run(&["delete", "permissions", "shop", "--vhost", "other"]).ok();
    let again = ["delete", "permissions", "shop", "--vhost", "other"];
    broker.run(&again).fails(1, &["there is no permissions of user 'shop' in vhost 'other'", "--if-exists"]);
    broker.run(&[&again[..], &["--if-exists"]].concat()).ok();
    as_shop(&["declare", "queue", "shop-1"]).ok();
    broker.run(&["delete", "permissions", "shop"]).ok();
    as_shop(&["list", "queues"]).fails(1, &["403", "may not open vhost"]);
}

#[test]
fn topic_permissions_are_set_listed_and_taken_away() {
    let broker = Broker::start();
    let set = |exchange: &str| {
        broker
            .run(&["set", "topic-permissions", "guest", exchange, "--write", "^{username}", "--read", "#"])
            .ok()
    };
    assert_eq!(
        set("amq.topic"),
        "user 'guest' may with keys of exchange 'amq.topic' in vhost '/': write '^{username}', read '#'\n"
    );
    set("events");
    let listed = || broker.run(&["list", "topic-permissions", "--json"]).json();
    let entry = |exchange: &str| json!({ "user": "guest", "vhost": "/", "exchange": exchange, "write": "^{username}", "read": "#" });
    assert_eq!(listed(), json!([entry("amq.topic"), entry("events")]));
    broker
        .run(&["publish", "--exchange", "amq.topic", "--key", "other", "m"])
        .fails(1, &["write access to topic 'other'"]);
    let delete = |more: &[&str]| broker.run(&[&["delete", "topic-permissions", "guest"], more].concat());
    delete(&["nothing"]).fails(1, &["exchange 'nothing'", "leveret list topic-permissions"]);
    delete(&["events"]).ok();
    assert_eq!(listed(), json!([entry("amq.topic")]));
    delete(&[]).ok();
    assert_eq!(listed(), json!([]));
    delete(&[]).fails(1, &["there is no"]);
    delete(&["--if-exists"]).ok();
}

#[test]
fn limits_are_set_and_listed() {
    let broker = Broker::start();
    let set = ["set", "user-limits", "guest", "--max-connections", "20", "--max-channels", "100"];
    assert_eq!(broker.run(&set).ok(), "user 'guest' may have at most: connections 20, channels 100\n");
    let set = ["set", "vhost-limits", "/", "--max-queues", "1", "--max-bytes", "none"];
    assert_eq!(broker.run(&set).ok(), "vhost '/' may have at most: queues 1, bytes none\n");
    assert!(broker.run(&["list", "users"]).ok().contains("connections=20 channels=100"));
    assert!(broker.run(&["list", "vhosts"]).ok().contains("queues=1"));
    let vhosts = broker.run(&["list", "vhosts", "--json"]).json();
    assert_eq!((&vhosts[0]["max_queues"], &vhosts[0]["max_bytes"]), (&json!(1), &json!(null)));
    broker.queue("q");
    broker
        .run(&["declare", "queue", "r"])
        .fails(1, &["406 PRECONDITION_FAILED", "queue limit", "max-queues"]);
    broker.run(&["set", "vhost-limits", "/", "--max-queues", "none"]).ok();
    broker.queue("r");
    broker.run(&["set", "user-limits", "guest"]).fails(2, &["--max-connections"]);
    broker.run(&["set", "user-limits", "guest", "--max-channels", "-1"]).fails(2, &["none"]);
    broker.run(&["set", "vhost-limits", "nowhere", "--max-queues", "1"]).fails(1, &["nowhere"]);
}

#[test]
fn a_password_is_one_line_and_must_be_there() {
    let broker = Broker::start();
    let put = ["user", "put", "ada", "--password-stdin", "--vhost", "/"];
    broker.run_with_input(&put, b"").fails(2, &["1 to 1024 bytes", "standard input"]);
    broker.run_with_input(&put, b"\n").fails(2, &["1 to 1024 bytes"]);
    broker.run_with_input(&put, "x".repeat(1025).as_bytes()).fails(2, &["1 to 1024 bytes"]);
    broker.run_with_input(&put, b"first line\r\nsecond line\n").ok();
    run_as(&broker, "ada:first%20line", "", &["list", "queues"]).ok();
    broker.run_with_input(&put, b"first\x1b[Aline\n").fails(2, &["control character", "standard input"]);
    broker.run(&["user", "put", "bob", "--vhost", "/"]).fails(1, &["error: ", "password"]);
}

#[test]
fn vhosts_keep_things_apart() {
    let broker = Broker::start();
    assert_eq!(broker.run(&["vhost", "put", "shop"]).ok(), "vhost 'shop' is there\n");
    broker.run(&["vhost", "put", "shop"]).ok();
    run_as(&broker, "guest:guest", "shop", &["declare", "queue", "orders"]).ok();
    assert_eq!(broker.run(&["list", "queues", "--json"]).json(), json!([]));
    let vhosts = broker.run(&["list", "vhosts", "--json"]).json();
    let shop = vhosts.as_array().unwrap().iter().find(|vhost| vhost["name"] == "shop").unwrap();
    assert_eq!(shop["queues"], 1);
    assert!(broker.run(&["list", "vhosts"]).ok().contains("shop"));

    broker.run_with_input(&["user", "put", "ada", "--password-stdin", "--vhost", "/"], b"pw").ok();
    run_as(&broker, "ada:pw", "shop", &["list", "queues"]).fails(1, &["403", "ada", "shop"]);
    run_as(&broker, "ada:pw", "", &["vhost", "delete", "shop"]).fails(1, &["403"]);
    run_as(&broker, "guest:guest", "nowhere", &["list", "queues"]).fails(1, &["error: ", "nowhere"]);

    broker.run(&["vhost", "delete", "shop"]).fails(1, &["'shop'", "queues (1)", "--yes"]);
    run_as(&broker, "guest:guest", "shop", &["purge", "orders"]).ok();
    let deleted = broker.run(&["vhost", "delete", "shop", "--yes"]).ok();
    assert_eq!(deleted, "there is no vhost 'shop' any more\n");
    run_as(&broker, "guest:guest", "shop", &["list", "queues"]).fails(1, &["shop"]);
}

#[test]
fn a_vhost_with_queues_is_deleted_by_whoever_says_yes_on_a_terminal() {
    let broker = Broker::start();
    let asked = |answer: &str| {
        broker.run(&["vhost", "put", "shop"]).ok();
        run_as(&broker, "guest:guest", "shop", &["declare", "queue", "orders"]).ok();
        let (mut screen, stdin) = terminal();
        screen.write_all(answer.as_bytes()).unwrap();
        let mut delete = broker.leveret(&["vhost", "delete", "shop"]);
        let child = delete.stdin(stdin).spawn().unwrap();
        drop(delete);
        let outcome = finish(child);
        assert!(outcome.stderr.contains("has queues (1), which go with it"), "{outcome:?}");
        assert!(outcome.stderr.contains("Delete it? [y/N] "), "{outcome:?}");
        outcome
    };
    // The last one is the end of the input, as Ctrl-D gives it.
    for answer in ["n\n", "\n", "no\n", "maybe\n", "yesterday\n", "\u{4}"] {
        asked(answer).fails(1, &["vhost 'shop' was not deleted"]);
        run_as(&broker, "guest:guest", "shop", &["purge", "orders"]).ok();
    }
    for answer in ["y\n", "Y\n", "yes\n"] {
        assert_eq!(asked(answer).ok(), "there is no vhost 'shop' any more\n");
        run_as(&broker, "guest:guest", "shop", &["list", "queues"]).fails(1, &["shop"]);
    }
    // Nobody is asked where nothing goes with it, or where the answer is given beforehand.
    broker.run(&["vhost", "put", "shop"]).ok();
    let (_screen, stdin) = terminal();
    let mut delete = broker.leveret(&["vhost", "delete", "shop"]);
    assert_eq!(finish(delete.stdin(stdin).spawn().unwrap()).fails(0, &[]).stderr, "");
}

/// What an open connection may do after something was changed by another.
#[test]
fn changed_rights_hold_at_once() {
    let put = |broker: &Broker, arguments: &[&str]| {
        let arguments = [&["user", "put", "ada", "--password-stdin"], arguments].concat();
        broker.run_with_input(&arguments, b"s3cret\n").ok();
    };
    let changes: [(&[&str], Option<&str>); 5] = [
        (&["user", "delete", "ada"], Some("user 'ada' was deleted")),
        (&["user", "put", "ada", "--vhost", "elsewhere"], Some("ada")),
        (&["vhost", "delete", "here", "--yes"], Some("vhost 'here' was deleted")),
        (&["user", "put", "ada", "--vhost", "here", "--vhost", "elsewhere"], None),
        (&["user", "put", "ada", "--administrator"], None),
    ];
    for (change, reason) in changes {
        let broker = Broker::start();
        ["here", "elsewhere"].iter().for_each(|vhost| drop(broker.run(&["vhost", "put", vhost]).ok()));
        put(&broker, &["--vhost", "here"]);
        let at = |arguments: &[&str]| {
            let mut command = leveret(arguments);
            command.args(["--url", &broker.url_as("ada:s3cret", "here")]);
            command
        };
        run(at(&["declare", "queue", "q"])).ok();
        // It says that it consumes only in its entry: it is there when the list has it.
        let consume = at(&["consume", "q", "--count", "1"]).spawn().unwrap();
        while broker.run(&["list", "connections"]).ok().matches("ada").count() == 0 {
            std::thread::yield_now();
        }
        broker.run(change).ok();
        match reason {
            Some(reason) => drop(finish(consume).fails(1, &[reason])),
            None => {
                run(at(&["publish", "--key", "q", "still here"])).ok();
                assert!(finish(consume).ok().contains("still here"));
            }
        }
    }
}

#[test]
fn what_takes_away_its_own_connection_tells_that_it_was_done() {
    let broker = Broker::start();
    broker.run(&["vhost", "put", "shop"]).ok();
    assert_eq!(broker.run(&["vhost", "delete", "/"]).ok(), "there is no vhost '/' any more\n");
    broker.run(&["list", "queues"]).fails(1, &["'/'"]);

    let as_guest = |arguments: &[&str]| run_as(&broker, "guest:guest", "shop", arguments);
    as_guest(&["vhost", "delete", "shop"]).fails(1, &["406", "'shop'", "last", "another vhost first"]);
    as_guest(&["declare", "queue", "still here"]).ok();

    let mut put = leveret(&["user", "put", "ada", "--password-stdin", "--administrator"]);
    put.args(["--url", &broker.url_as("guest:guest", "shop")]);
    run_with_input(put, b"s3cret\n").ok();
    let deleted = run_as(&broker, "ada:s3cret", "shop", &["user", "delete", "ada"]);
    assert_eq!(deleted.ok(), "there is no user 'ada' any more\n");
    run_as(&broker, "ada:s3cret", "shop", &["list", "queues"]).fails(1, &["403"]);
}

#[test]
fn a_name_that_was_mistyped_is_told_from_a_deletion_that_was_done() {
    let broker = Broker::start();
    broker.queue("here");
    let absent: [(&[&str], &str); 7] = [
        (&["delete", "queue", "hare"], "there is no queue 'hare'"),
        (&["delete", "exchange", "hare"], "there is no exchange 'hare'"),
        (&["unbind", "amq.topic", "here", "--key", "a"], "there is no binding from exchange 'amq.topic'"),
        (&["unbind", "amq.topic", "hare", "--key", "a"], "there is no binding from exchange 'amq.topic'"),
        (&["unbind", "hare", "here"], "there is no binding from exchange 'hare'"),
        (&["user", "delete", "hare"], "there is no user 'hare'"),
        (&["vhost", "delete", "hare"], "there is no vhost 'hare'"),
    ];
    for (command, told) in absent {
        broker.run(command).fails(1, &[told, "leveret list", "--if-exists"]);
        broker.run(&[command, &["--if-exists"]].concat()).ok();
    }
    assert_eq!(broker.messages("here"), (0, 0), "it is there");
}

#[test]
fn whoever_has_the_machine_gets_in_again() {
    let mut broker = Broker::start();
    broker.queue("orders");
    broker
        .run_with_input(&["user", "put", "guest", "--password-stdin", "--administrator"], b"forgotten\n")
        .ok();
    broker.run(&["list", "queues"]).fails(1, &["403"]);

    broker.stop();
    broker.restart_recovering("guest", "remembered");
    run_as(&broker, "guest:forgotten", "", &["list", "queues"]).fails(1, &["403"]);
    assert!(run_as(&broker, "guest:remembered", "", &["list", "queues"]).ok().contains("orders"));

    broker.stop();
    broker.restart_recovering("rescue", "s3cret");
    broker.kill_and_restart();
    let users = run_as(&broker, "rescue:s3cret", "", &["list", "users", "--json"]).json();
    let administrators = users.as_array().unwrap().iter().filter(|user| user["administrator"] == json!(true));
    assert_eq!(administrators.count(), 2, "{users}");
    run_as(&broker, "guest:remembered", "", &["list", "users"]).ok();
}

#[test]
fn nobody_gets_in_again_without_a_name_and_a_password() {
    let serve = |name: &str, input: &[u8]| {
        let command =
            leveret(&["serve", "--memory", "--listen", "127.0.0.1:0", "--recover-administrator", name]);
        run_with_input(command, input)
    };
    serve("guest", b"").fails(2, &["1 to 1024 bytes", "standard input"]);
    serve("", b"s3cret\n").fails(1, &["the name of the user is empty"]);
    serve(&"n".repeat(256), b"s3cret\n").fails(2, &["255 bytes"]);
}

#[test]
fn a_login_from_a_file_or_a_variable_may_end_its_line() {
    let broker =
        Broker::start_in(&[("LEVERET_DEFAULT_USER", "ada\n"), ("LEVERET_DEFAULT_PASSWORD", "s3cret\r\n")]);
    let mut list = leveret(&["list", "queues"]);
    list.env("LEVERET_URL", format!("{}\n", broker.url_as("ada:s3cret", "")));
    run(list).ok();

    let mut serve = leveret(&["serve", "--memory", "--listen", "127.0.0.1:0"]);
    serve.env("LEVERET_DEFAULT_PASSWORD", "s3\ncret");
    run(serve).fails(1, &["LEVERET_DEFAULT_PASSWORD", "without control characters"]);
    run_as(&broker, "ada:s3cret%0A", "", &["list", "queues"]).fails(2, &["password has a control character"]);
    run_as(&broker, "ada:s3cret", "", &["user", "put", "b\nc", "--administrator"])
        .fails(1, &["name of the user has a control character"]);
}
