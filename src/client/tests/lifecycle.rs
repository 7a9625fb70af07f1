//! Logging in, keeping alive, closing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::server::{Server, connected, error, soon};
use crate::client::{Backoff, CloseReason, ConnectError, Connection, Event, Refusal, RequestError, Status};
use crate::model::{Durability, ReplyCode};
use crate::wire::pb::{self, frame::Body};

#[tokio::test]
async fn logs_in_with_what_the_options_say_and_learns_what_the_server_offers() {
    let server = Server::start().await;
    let options = server.options().credentials("me", "se:cret").in_vhost("shop").connection_name("till 3");
    let (connection, (_peer, connect)) =
        tokio::join!(soon(Connection::connect(options.heartbeat_seconds(9))), server.login());
    assert_eq!(connect.protocol_version, 1);
    assert_eq!((connect.mechanism.as_str(), &connect.response[..]), ("PLAIN", &b"\0me\0se:cret"[..]));
    assert_eq!((connect.vhost.as_str(), connect.connection_name.as_str()), ("shop", "till 3"));
    assert_eq!(connect.heartbeat_seconds, 9);
    let offer = connection.unwrap().server();
    assert_eq!((offer.durability, offer.connection_id, offer.channel_max), (Durability::Synced, 42, 7));
}

#[tokio::test]
async fn a_refused_login_says_why() {
    let server = Server::start().await;
    for is_close in [false, true] {
        let refuse = async {
            let mut peer = server.accept().await;
            peer.expect().await;
            let error = error(403, "wrong password");
            let body = match is_close {
                true => Body::Close(pb::Close { error: Some(error) }),
                false => Body::Error(error),
            };
            peer.send(0, 1, body).await;
        };
        let (connection, ()) = tokio::join!(soon(Connection::connect(server.options())), refuse);
        match connection {
            Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, ReplyCode::AccessRefused),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_first_connection_that_cannot_be_made_is_not_tried_again() {
    let address = Server::start().await.options().address();
    let error = soon(Connection::open(&format!("leveret://{address}"))).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");
    let error = soon(Connection::open("http://x")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Url(_)), "{error:?}");
}

/// A server that refuses so many logins, then lets the client in.
async fn refuse(server: &Server, times: u32, retryable: bool) {
    for _ in 0..times {
        let mut peer = server.accept().await;
        peer.expect().await;
        let refusal = pb::Error { retryable, ..error(506, "too many connections") };
        peer.send(0, 1, Body::Error(refusal)).await;
    }
}

#[tokio::test]
async fn a_first_connection_is_tried_again_if_the_options_say_so() {
    let server = Server::start().await;
    let backoff = Backoff { delay_first: Duration::from_millis(1), attempts_max: 4, ..Backoff::default() };
    let options = server.options().retry_first(backoff);
    let script = async {
        // Gone before anything is said, then refused.
        drop(server.accept().await);
        refuse(&server, 2, true).await;
        server.login().await
    };
    let (connection, _peer) = tokio::join!(soon(Connection::connect(options.clone())), script);
    assert!(matches!(connection.unwrap().status(), Status::Connected));
    let (failed, ()) = tokio::join!(soon(Connection::connect(options.clone())), refuse(&server, 4, true));
    assert!(matches!(failed, Err(ConnectError::Refused(_))), "that were all attempts");
    let (failed, ()) = tokio::join!(soon(Connection::connect(options)), refuse(&server, 1, false));
    assert!(matches!(failed, Err(ConnectError::Refused(_))), "another attempt changes nothing");
}

#[test]
fn events_are_sentences() {
    let refusal = Arc::new(Refusal::new(ReplyCode::ResourceLocked, "taken"));
    let check = |event: Event, needles: &[&str]| {
        let text = event.to_string();
        assert!(needles.iter().all(|needle| text.contains(needle)), "{event:?}: {text}");
    };
    check(Event::Disconnected(CloseReason::ByServer(None)), &["disconnected", "the server closed"]);
    check(Event::Reconnected { attempts: 3, resent_messages: 7 }, &["3", "7"]);
    check(Event::NotRestored { what: "queue 'q'".into(), refusal: refusal.clone() }, &["queue 'q'", "taken"]);
    check(Event::Restored { what: "queue 'q'".into() }, &["queue 'q'"]);
    check(Event::ChannelError { channel: 9, refusal }, &["9", "taken"]);
    check(Event::Missed(12), &["12"]);
    check(Event::Closed(CloseReason::ByClient), &["closed", "the program"]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start().await;
    let options = server.options().connect_timeout(Duration::from_millis(50));
    let (connection, _peer) = tokio::join!(soon(Connection::connect(options)), server.accept());
    assert!(matches!(connection, Err(ConnectError::TimedOut { timeout_ms: 50, .. })), "{connection:?}");
}

#[tokio::test]
async fn a_server_of_another_version_is_refused() {
    let server = Server::start().await;
    let answer = async {
        let mut peer = server.accept().await;
        peer.expect().await;
        peer.send(0, 1, Body::Connected(pb::Connected { protocol_version: 9, ..connected() })).await;
    };
    let (connection, ()) = tokio::join!(soon(Connection::connect(server.options())), answer);
    let error = connection.unwrap_err().to_string();
    assert!(error.contains("version 9"), "{error}");
}

#[tokio::test]
async fn closing_says_goodbye_and_ends_everything() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let mut events = connection.events();
    let (closed, ()) = tokio::join!(soon(connection.close()), peer.goodbye());
    closed.unwrap();
    assert!(matches!(connection.status(), Status::Closed(CloseReason::ByClient)));
    assert!(matches!(events.next().await, Some(Event::Closed(CloseReason::ByClient))));
    assert!(events.next().await.is_none());
    let refused = channel.check_queue("q").await;
    assert!(matches!(refused, Err(RequestError::Closed(CloseReason::ByClient))), "{refused:?}");
    soon(connection.close()).await.unwrap();
}

#[tokio::test]
async fn dropping_all_handles_closes_channel_and_connection() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    drop(connection);
    drop(channel.clone());
    drop(channel);
    peer.done("CloseChannel").await;
    peer.goodbye().await;
}

#[tokio::test]
async fn a_server_that_closes_is_told_goodbye_and_why_it_did_is_kept() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let asked = async {
        let (_, _, body) = peer.expect().await;
        assert!(matches!(body, Body::DeclareQueue(_)));
        peer.send(0, 0, Body::Close(pb::Close { error: Some(error(501, "bad frame")) })).await;
        let (_, _, body) = peer.expect().await;
        assert!(matches!(body, Body::Close(pb::Close { error: None })), "{body:?}");
        peer.expect_hang_up().await;
    };
    let (refused, ()) = tokio::join!(soon(channel.check_queue("q")), asked);
    let Err(RequestError::Closed(CloseReason::ByServer(Some(refusal)))) = refused else {
        panic!("expected the server's reason, got {refused:?}");
    };
    assert_eq!(refusal.code, ReplyCode::FrameError);
    let closed = soon(connection.close()).await;
    assert!(matches!(closed, Err(CloseReason::ByServer(Some(_)))), "{closed:?}");
}

#[tokio::test]
async fn a_quiet_client_sends_heartbeats_and_a_silent_server_is_left() {
    let server = Server::start().await;
    let accept = async {
        let mut peer = server.accept().await;
        peer.expect().await;
        let connected = pb::Connected { heartbeat_seconds: 1, ..connected() };
        peer.send(0, 1, Body::Connected(connected)).await;
        peer
    };
    let options = server.options().no_reconnect();
    let (connection, mut peer) = tokio::join!(soon(Connection::connect(options)), accept);
    let connection = connection.unwrap();
    let begin = Instant::now();
    for _ in 0..2 {
        let (channel, request, body) = peer.expect().await;
        assert!(matches!((channel, request, &body), (0, 0, Body::Heartbeat(_))), "{body:?}");
    }
    assert!(begin.elapsed() >= Duration::from_millis(900), "two heartbeats in an interval, not more");
    // A sign of life from the server counts from then on.
    let begin = Instant::now();
    peer.send(0, 0, Body::Heartbeat(pb::Heartbeat {})).await;
    let mut events = connection.events();
    let closed = soon(events.next()).await;
    assert!(
        matches!(closed, Some(Event::Closed(CloseReason::HeartbeatMissed { heartbeat_seconds: 1 }))),
        "{closed:?}"
    );
    let waited = begin.elapsed();
    assert!(
        waited >= Duration::from_secs(2),
        "two silent intervals after the last sign of life, not {waited:?}"
    );
}
