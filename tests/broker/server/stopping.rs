//! The server stops: what is under way ends well.

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::Served;

#[test]
fn clients_are_told_and_confirms_arrive_first() {
    let mut served = Served::start();
    // Connections are accepted in order, so this one is before the next is logged in.
    let mut idle = served.connect();
    let mut client = served.client();
    client.declare_queue("q");
    client.open_publisher(1, "", "q");
    client.publish(1, 1, &[b"a"]);
    client.confirmed_through(1);
    served.stop();
    let reason = client.closed().unwrap();
    assert_eq!((reason.code, reason.retryable), (320, true));
    assert_eq!(idle.closed().unwrap().code, 320);
    served.join();
}

#[test]
fn a_goodbye_is_answered_by_a_goodbye() {
    let served = Served::start();
    let mut client = served.client();
    client.tell(0, Cold::Close(pb::Close { error: None }));
    assert_eq!(client.closed(), None);
    served.client().is_served();
}
