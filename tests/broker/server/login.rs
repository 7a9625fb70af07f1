//! Who comes in.

use std::time::Instant;

use leveret::wire::pb;
use leveret::wire::pb::frame::Body as Cold;

use super::support::{Served, Settings, connect};

fn refused(connect: pb::Connect) -> pb::Error {
    let served = Served::start();
    let mut client = served.connect();
    let error = client.refused(0, Cold::Connect(connect));
    assert_eq!(client.closed(), None, "the error has said why");
    error
}

#[test]
fn a_client_learns_what_was_agreed_on() {
    let served = Served::start_with(Settings { heartbeat_seconds: 60, ..Settings::default() });
    let mut client = served.connect();
    let wishes = pb::Connect { heartbeat_seconds: 7, channel_max: 16, frame_max: 16 << 20, ..connect() };
    let Cold::Connected(connected) = client.ask(0, Cold::Connect(wishes)) else { panic!("not connected") };
    assert_eq!(connected.protocol_version, 1);
    assert_eq!((connected.heartbeat_seconds, connected.channel_max), (7, 16));
    assert_eq!(connected.frame_max, (1 << 20) + 64 * 1024, "the server's, which is smaller");
    assert_eq!(connected.message_size_max, 1 << 20);
    assert_eq!(connected.durability(), pb::DurabilityLevel::Memory);
    assert!(connected.connection_id > 0);
    assert_eq!(connected.server["product"], "leveret");
}

#[test]
fn who_is_not_known_stays_outside() {
    let wrong = refused(pb::Connect { response: b"\0guest\0wrong".to_vec().into(), ..connect() });
    let unknown = refused(pb::Connect { response: b"\0nobody\0guest".to_vec().into(), ..connect() });
    assert_eq!((wrong.code, unknown.code), (403, 403));
    assert_eq!(wrong.text.replace("guest", "X"), unknown.text.replace("nobody", "X"), "both sound the same");
}

#[test]
fn what_cannot_be_understood_is_refused_with_advice() {
    let error = refused(pb::Connect { response: b"guest".to_vec().into(), ..connect() });
    assert_eq!((error.code, error.field.as_str()), (502, "response"));
    let error = refused(pb::Connect { mechanism: "EXTERNAL".to_owned(), ..connect() });
    assert_eq!((error.code, error.expected.as_str()), (540, "PLAIN"));
    let error = refused(pb::Connect { protocol_version: 0, ..connect() });
    assert_eq!((error.code, error.field.as_str()), (540, "protocol_version"));
    let error = refused(pb::Connect { vhost: "nowhere".to_owned(), ..connect() });
    assert!(error.text.contains("nowhere"), "{error:?}");
    let error = refused(pb::Connect { frame_max: 4096, ..connect() });
    assert_eq!((error.code, error.field.as_str()), (530, "frame_max"));
    let error = refused(pb::Connect { connection_name: "x".repeat(256), ..connect() });
    assert_eq!((error.code, error.field.as_str()), (502, "connection_name"));
}

#[test]
fn a_later_protocol_version_comes_down_to_this_one() {
    let served = Served::start();
    let mut client = served.connect();
    let connected = client.ask(0, Cold::Connect(pb::Connect { protocol_version: 9, ..connect() }));
    assert!(matches!(connected, Cold::Connected(pb::Connected { protocol_version: 1, .. })), "{connected:?}");
}

#[test]
fn the_first_frame_must_be_a_connect() {
    let served = Served::start();
    for (channel, request, body) in [
        (1, 1, Cold::OpenChannel(pb::OpenChannel {})),
        (0, 0, Cold::Connect(connect())),
        (1, 1, Cold::Connect(connect())),
        (0, 1, Cold::Heartbeat(pb::Heartbeat {})),
    ] {
        let mut client = served.connect();
        client.send(channel, request, body);
        assert_eq!(client.closed().unwrap().code, 503);
    }
}

#[test]
fn a_second_connect_is_refused_and_the_connection_goes_on() {
    let served = Served::start();
    let mut client = served.client();
    assert_eq!(client.refused(0, Cold::Connect(connect())).code, 503);
    client.is_served();
}

#[test]
fn frames_that_follow_the_login_at_once_are_carried_out() {
    let served = Served::start();
    let mut client = served.connect();
    client.send(0, 1, Cold::Connect(connect()));
    client.send(3, 2, Cold::OpenChannel(pb::OpenChannel {}));
    client.send(3, 3, Cold::DeclareQueue(pb::DeclareQueue { name: "q".to_owned(), ..Default::default() }));
    assert!(matches!(client.answer(0, 1), Cold::Connected(_)));
    assert!(matches!(client.answer(3, 2), Cold::Done(_)));
    assert!(matches!(client.answer(3, 3), Cold::QueueDeclared(_)));
}

/// After a restart of the broker everybody comes back at once, often as one user. The password is checked for the first
/// of them; the others find it remembered when it is their turn.
#[test]
fn many_logins_of_one_user_at_once_cost_as_much_as_a_few() {
    const CLIENTS: usize = 60;
    let served = Served::start();
    let one_check = (0..3)
        .map(|_| {
            let mut client = served.connect();
            let start = Instant::now();
            client.refused(
                0,
                Cold::Connect(pb::Connect { response: b"\0guest\0wrong".to_vec().into(), ..connect() }),
            );
            start.elapsed()
        })
        .min()
        .unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| served.connect()).collect();
    let start = Instant::now();
    clients.iter_mut().for_each(|client| client.send(0, 1, Cold::Connect(connect())));
    for client in &mut clients {
        let answer = client.answer(0, 1);
        assert!(matches!(answer, Cold::Connected(_)), "{answer:?}");
    }
    let all = start.elapsed();
    assert!(all < one_check * CLIENTS as u32 / 4, "one check takes {one_check:?}, {CLIENTS} logins {all:?}");
}

#[test]
fn lists_show_what_the_user_may_see_now() {
    let served = Served::start();
    let mut guest = served.client();
    let ada = |administrator| {
        let (name, password, vhosts) = ("ada".to_owned(), "s3cret".to_owned(), vec!["/".to_owned()]);
        Cold::PutUser(pb::PutUser { name, password, administrator, vhosts })
    };
    guest.done(1, Cold::PutVhost(pb::PutVhost { name: "shop".to_owned(), ..Default::default() }));
    guest.done(1, ada(true));
    let mut client = served.connect();
    client.ask(0, Cold::Connect(pb::Connect { response: b"\0ada\0s3cret".to_vec().into(), ..connect() }));
    client.done(1, Cold::OpenChannel(pb::OpenChannel {}));
    let mut seen = || {
        let [connections, vhosts] =
            [pb::ListKind::Connections, pb::ListKind::Vhosts].map(|kind| {
                match client.ask(1, Cold::List(pb::List { kind: kind.into(), ..Default::default() })) {
                    Cold::Listing(listing) => listing.connections.len() + listing.vhosts.len(),
                    other => panic!("{other:?}"),
                }
            });
        (connections, vhosts)
    };
    assert_eq!(seen(), (2, 2));
    guest.done(1, ada(false));
    assert_eq!(seen(), (1, 1));
}
