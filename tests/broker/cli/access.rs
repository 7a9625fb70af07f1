//! Users and virtual hosts.

use serde_json::json;

use crate::support::{Broker, Outcome, finish, leveret, run};

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
    assert!(
        users
            .as_array()
            .unwrap()
            .contains(&json!({ "name": "ada", "administrator": false, "vhosts": ["/"] }))
    );
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
    broker.run(&["user", "delete", "ada"]).ok();
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

    assert_eq!(broker.run(&["vhost", "delete", "shop"]).ok(), "there is no vhost 'shop' any more\n");
    run_as(&broker, "guest:guest", "shop", &["list", "queues"]).fails(1, &["shop"]);
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
        (&["vhost", "delete", "here"], Some("vhost 'here' was deleted")),
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
