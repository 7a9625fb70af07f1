//! Requests and their answers.

use super::server::{Server, error, soon};
use crate::client::{Binding, DeleteQueue, Event, Exchange, ExchangeKind, Get, Queue, RequestError};
use crate::model::{FieldTable, ReplyCode};
use crate::wire::pb::{self, frame::Body};

#[tokio::test]
async fn requests_under_way_together_each_get_their_answer() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let script = async {
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(peer.expect().await);
        }
        let kinds: Vec<_> =
            requests.iter().map(|(_, _, body)| crate::client::convert::kind_name(body)).collect();
        assert_eq!(kinds, ["DeclareExchange", "DeclareQueue", "Bind"], "in the order of asking");
        let answers = [
            Body::Done(pb::Done {}),
            Body::QueueDeclared(pb::QueueDeclared {
                name: "q".to_owned(),
                message_count: 3,
                consumer_count: 1,
            }),
            Body::Error(error(404, "no exchange 'x'")),
        ];
        for ((channel, request, _), answer) in requests.into_iter().zip(answers) {
            peer.send(channel, request, answer).await;
        }
        peer
    };
    let (exchange, queue, bound, _peer) = soon(async {
        tokio::join!(
            channel.declare_exchange(Exchange::new("x", ExchangeKind::Topic)),
            channel.declare_queue(Queue::new("q")),
            channel.bind(Binding::to_queue("x", "q", "k")),
            script
        )
    })
    .await;
    exchange.unwrap();
    let queue = queue.unwrap();
    assert_eq!((queue.name.as_str(), queue.messages, queue.consumers), ("q", 3, 1));
    match bound {
        Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code, ReplyCode::NotFound),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_leaves_the_channel_open_and_keeps_all_it_said() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let full = pb::Error {
        code: 406,
        name: "PRECONDITION_FAILED".to_owned(),
        text: "queue 'q' is durable".to_owned(),
        entity_kind: "queue".to_owned(),
        entity: "q".to_owned(),
        field: "durable".to_owned(),
        expected: "true".to_owned(),
        got: "false".to_owned(),
        retryable: false,
        hint: "declare it durable".to_owned(),
        differences: vec![pb::Difference {
            field: "durable".to_owned(),
            declared: "true".to_owned(),
            asked: "false".to_owned(),
            reason: "it is in a log".to_owned(),
        }],
    };
    let (declared, _) = tokio::join!(
        soon(channel.declare_queue(Queue::new("q").transient())),
        peer.answer("DeclareQueue", Body::Error(full.clone()))
    );
    let Err(RequestError::Refused(refusal)) = declared else {
        panic!("expected a refusal, got {declared:?}")
    };
    assert_eq!(pb::Error::from(&refusal), full);
    let answer = Body::MessageCount(pb::MessageCount { count: 5 });
    let (deleted, _) = tokio::join!(
        soon(channel.delete_queue("q", DeleteQueue::default())),
        peer.answer("DeleteQueue", answer)
    );
    assert_eq!(deleted.unwrap(), 5);
}

#[tokio::test]
async fn a_reply_code_of_a_newer_server_stays_readable() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (refused, _) = tokio::join!(
        soon(channel.purge_queue("q")),
        peer.answer("PurgeQueue", Body::Error(error(999, "the moon is full")))
    );
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("999") && text.contains("the moon is full"), "{text}");
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_an_error_of_that_request() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let (counted, _) = tokio::join!(soon(channel.purge_queue("q")), peer.done("PurgeQueue"));
    assert!(matches!(counted, Err(RequestError::UnexpectedAnswer { got: "Done" })), "{counted:?}");
}

#[tokio::test]
async fn listings_are_read_page_by_page() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let script = async {
        for (token, names, next) in [("", ["a", "b"], "b"), ("b", ["c", "d"], "")] {
            let (number, request, body) = peer.expect().await;
            let Body::List(list) = body else { panic!("expected a List, got {body:?}") };
            assert_eq!((list.kind(), list.page_token.as_str()), (pb::ListKind::Queues, token));
            let queues = names.map(|name| pb::QueueEntry { name: name.to_owned(), ..Default::default() });
            let listing = pb::Listing {
                queues: queues.to_vec(),
                next_page_token: next.to_owned(),
                ..Default::default()
            };
            peer.send(number, request, Body::Listing(listing)).await;
        }
    };
    let (queues, ()) = tokio::join!(soon(channel.list_queues()), script);
    let names: Vec<_> = queues.unwrap().into_iter().map(|queue| queue.name).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn explaining_keeps_every_binding_and_its_reason() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let binding = pb::Binding {
        source: "x".to_owned(),
        destination: "q".to_owned(),
        destination_kind: pb::DestinationKind::Queue.into(),
        routing_key: "a.*".to_owned(),
        arguments: None,
    };
    let bindings =
        vec![pb::ExplainedBinding { binding: Some(binding), matched: true, reason: "* is 'b'".to_owned() }];
    let exchange = pb::ExplainedExchange {
        name: "x".to_owned(),
        r#type: "topic".to_owned(),
        bindings,
        ..Default::default()
    };
    let explanation =
        pb::Explanation { exchanges: vec![exchange], queues: vec!["q".to_owned()], ..Default::default() };
    let headers = FieldTable::from([("h", 1.into())]);
    let (explained, asked) = tokio::join!(
        soon(channel.explain("x", "a.b", &headers)),
        peer.answer("Explain", Body::Explanation(explanation))
    );
    let Body::Explain(asked) = asked else { panic!("checked by the peer") };
    assert_eq!(
        (asked.routing_key.as_str(), asked.headers.map(|headers| headers.fields.len())),
        ("a.b", Some(1))
    );
    let explained = explained.unwrap();
    let binding = &explained.exchanges[0].bindings[0];
    assert_eq!(binding.binding, Binding::to_queue("x", "q", "a.*"));
    assert!(binding.matched && binding.reason == "* is 'b'");
    assert_eq!(explained.queues, ["q"]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_here() {
    let server = Server::start().await;
    let (connection, channel, mut peer) = server.channel().await;
    let long = "n".repeat(256);
    let refused = [
        channel.declare_queue(Queue::new(&long)).await.map(drop),
        channel.bind(Binding::to_queue("x", "q", &long)).await,
        channel.publisher(&long, "").open().await.map(drop),
        channel.consume(&long).start().await.map(drop),
        channel.declare_queue(Queue::new("q").argument("x", "y".repeat(2 << 20).as_str())).await.map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(RequestError::Invalid(_))), "{refused:?}");
    }
    let mut channels = vec![channel];
    for _ in 2..=7 {
        channels.push(peer.open_channel(&connection).await);
    }
    let refused = connection.channel().await;
    assert!(
        matches!(&refused, Err(RequestError::Invalid(text)) if text.contains("all 7 channels")),
        "{refused:?}"
    );
    channels.remove(3);
    peer.done("CloseChannel").await;
    let answer = Body::MessageCount(pb::MessageCount { count: 0 });
    // Once this is answered, so is what was sent before.
    let (purged, _) = tokio::join!(soon(channels[0].purge_queue("q")), peer.answer("PurgeQueue", answer));
    purged.unwrap();
    assert_eq!(format!("{:?}", peer.open_channel(&connection).await), "Channel { number: 4, .. }");
}

#[tokio::test]
async fn trouble_on_a_channel_without_a_request_is_an_event() {
    let server = Server::start().await;
    let (connection, _channel, mut peer) = server.channel().await;
    let mut events = connection.events();
    peer.send(1, 0, Body::Error(error(406, "tag 9 is unknown"))).await;
    match soon(events.next()).await {
        Some(Event::ChannelError { channel: 1, refusal }) => {
            assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
        }
        other => panic!("expected the error, got {other:?}"),
    }
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_nothing_open() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    {
        let opening = channel.publisher("x", "k").open();
        let given_up = tokio::time::timeout(std::time::Duration::ZERO, opening).await;
        assert!(given_up.is_err(), "no answer came");
    }
    let (number, request, body) = peer.expect().await;
    assert!(matches!(body, Body::OpenPublisher(_)), "{body:?}");
    peer.send(number, request, Body::Done(pb::Done {})).await;
    peer.done("ClosePublisher").await;
}

#[tokio::test]
async fn a_message_that_nobody_waits_for_any_more_goes_back() {
    let server = Server::start().await;
    let (_connection, channel, mut peer) = server.channel().await;
    let asked = {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let getting = async {
            tokio::select! {
                got = channel.get("q", Get::default()) => panic!("it was not answered: {got:?}"),
                _ = stopped => {}
            }
        };
        let script = async {
            let (number, request, body) = peer.expect().await;
            assert!(matches!(body, Body::Get(_)), "{body:?}");
            stop.send(()).unwrap();
            (number, request)
        };
        tokio::join!(soon(getting), script).1
    };
    let got = pb::Got { tag: 5, item: Some(pb::DeliverItem::default()), ..Default::default() };
    peer.send(asked.0, asked.1, Body::Got(got)).await;
    assert_eq!(soon(peer.settled()).await, (0, 0, vec![(5, 0, pb::Outcome::Requeued)]));
}
