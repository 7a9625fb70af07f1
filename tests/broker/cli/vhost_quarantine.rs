//! A queue that keeps what all exchanges of a virtual host refuse.

use crate::support::Broker;

#[test]
fn what_exchanges_refuse_goes_to_the_queue_of_their_vhost_unless_they_have_their_own() {
    let mut broker = Broker::start();
    let declare = |broker: &Broker, name: &str, more: &[&str]| {
        let exchange = ["declare", "exchange", name, "--type", "topic", "--allow", "order.*"];
        broker.run(&[&exchange, more].concat()).ok();
    };
    declare(&broker, "plain", &[]);
    declare(&broker, "own", &["--quarantine", "own-odd"]);
    broker.queue("odd");
    broker.queue("own-odd");
    let refused = |broker: &Broker, exchange: &str, told: &str| {
        broker.run(&["publish", "--exchange", exchange, "--key", "ordr.1", "x"]).fails(1, &["406", told]);
    };
    refused(&broker, "plain", "is not allowed on exchange 'plain'");
    assert_eq!(broker.messages("odd"), (0, 0), "nobody said so yet");

    broker.run(&["vhost", "put", "/", "--quarantine-queue", "odd"]).ok();
    for _ in 0..2 {
        refused(&broker, "plain", "it is kept in queue 'odd'");
        refused(&broker, "own", "it is kept in queue 'own-odd'");
        broker.kill_and_restart();
    }
    assert_eq!((broker.messages("odd"), broker.messages("own-odd")), ((2, 0), (2, 0)));
    // Said again without it, it stays.
    broker.run(&["vhost", "put", "/"]).ok();
    let vhosts = broker.run(&["list", "vhosts", "--json"]).json();
    assert_eq!((&vhosts[0]["quarantine_queue"], &vhosts[0]["unkept_total"]), (&"odd".into(), &0.into()));

    broker.run(&["delete", "queue", "odd"]).ok();
    refused(&broker, "plain", "it is not kept, since there is no queue 'odd'");
    let table = broker.run(&["list", "vhosts"]).ok();
    assert!(table.contains("no quarantine queue 'odd': 1"), "{table}");

    broker.run(&["vhost", "put", "/", "--no-quarantine-queue"]).ok();
    broker.queue("odd");
    refused(&broker, "plain", "is not allowed on exchange 'plain'");
    assert_eq!(broker.messages("odd"), (0, 0));
    broker.kill_and_restart();
    assert!(broker.run(&["list", "vhosts", "--json"]).json()[0]["quarantine_queue"].is_null());
}
