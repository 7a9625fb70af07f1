//! A client that comes back takes the place of its earlier connection.

use leveret::wire::pb::frame::Body as Cold;
use leveret::wire::{Body, pb};

use super::support::{Client, Served, connect};

/// Rounds of a race that the wrong side wins at least now and then.
const ROUNDS: usize = 200;

fn hello(client_id: u8) -> Cold {
    Cold::Connect(pb::Connect { client_id: vec![client_id; 16].into(), ..connect() })
}

/// A connection that is logged in under this number, with channel 1 open.
fn client(served: &Served, client_id: u8) -> Client {
    let mut client = served.connect();
    client.ask(0, hello(client_id));
    client.ask(1, Cold::OpenChannel(pb::OpenChannel {}));
    client
}

fn queue(name: &str) -> Cold {
    Cold::DeclareQueue(pb::DeclareQueue { name: name.to_owned(), auto_delete: true, ..Default::default() })
}

fn consume(queue: &str) -> Cold {
    Cold::Consume(pb::Consume { consumer: 1, queue: queue.to_owned(), ..Default::default() })
}

fn consumers(declared: &Cold) -> u32 {
    let Cold::QueueDeclared(declared) = declared else { panic!("not declared: {declared:?}") };
    declared.consumer_count
}

#[test]
fn an_auto_delete_queue_is_not_deleted_under_the_client_that_is_back() {
    let served = Served::start();
    for round in 0..ROUNDS {
        let mut old = client(&served, 1);
        old.ask(1, queue("q"));
        old.ask(1, consume("q"));
        // Sometimes the broker hears that the old connection is gone, sometimes it does not.
        let kept = (round % 2 == 0).then_some(old);
        let mut new = client(&served, 1);
        let declared = new.ask(1, queue("q"));
        assert_eq!(consumers(&declared), 0, "round {round}");
        new.ask(1, consume("q"));
        if let Some(mut old) = kept {
            let reason = old.closed().expect("a reason");
            assert_eq!((reason.code, reason.retryable), (530, false), "{reason:?}");
        }
        assert_eq!(consumers(&new.ask(1, queue("q"))), 1, "round {round}");
        drop(new);
    }
}

#[test]
fn an_exclusive_queue_is_free_for_the_client_that_is_back() {
    let served = Served::start();
    let mine =
        || Cold::DeclareQueue(pb::DeclareQueue { name: "q".into(), exclusive: true, ..Default::default() });
    let mut clients = vec![client(&served, 1)];
    clients[0].ask(1, mine());
    let stranger = client(&served, 2).refused(1, mine());
    assert_eq!(stranger.code, 405, "another client's queue");
    for _ in 0..20 {
        clients.push(client(&served, 1));
        clients.last_mut().unwrap().ask(1, mine());
    }
    let last = clients.pop().unwrap();
    for mut client in clients {
        assert_eq!(client.closed().unwrap().code, 530);
    }
    drop(last);
}

#[test]
fn the_last_of_many_that_come_together_stays() {
    let served = Served::start();
    let mut first = client(&served, 1);
    first.ask(1, queue("q"));
    first.ask(1, consume("q"));
    let mut all: Vec<Client> = (0..20).map(|_| served.connect()).collect();
    for client in &mut all {
        client.send(0, 1, hello(1));
    }
    // Each is let in or sent away, in any order.
    let answers = all.iter_mut().map(|client| client.next().body);
    let is_refusal = |answer: &Body| matches!(answer, Body::Other(body) if matches!(**body, Cold::Error(_)));
    let refused = answers.filter(is_refusal).count();
    let mut seated = client(&served, 1);
    assert_eq!(consumers(&seated.ask(1, queue("q"))), 0);
    seated.ask(1, consume("q"));
    let displaced =
        all.iter_mut().filter_map(Client::closed).inspect(|reason| assert_eq!(reason.code, 530)).count();
    assert_eq!(refused + displaced, all.len());
    assert_eq!(consumers(&seated.ask(1, queue("q"))), 1);
}

#[test]
fn users_do_not_drive_out_each_other_and_clients_without_a_number_nobody() {
    let served = Served::start();
    let mut admin = client(&served, 1);
    let put = pb::PutUser {
        name: "other".into(),
        password: "secret".into(),
        vhosts: vec!["/".into()],
        ..Default::default()
    };
    admin.ask(1, Cold::PutUser(put));
    let mut other = served.connect();
    let login = pb::Connect {
        client_id: vec![1; 16].into(),
        response: b"\0other\0secret".to_vec().into(),
        ..connect()
    };
    other.ask(0, Cold::Connect(login));
    let (mut nobody, mut nobody_else) = (served.client(), served.client());
    for client in [&mut admin, &mut nobody, &mut nobody_else] {
        client.is_served();
    }
}

#[test]
fn a_number_of_another_length_is_refused() {
    let served = Served::start();
    let wrong = pb::Connect { client_id: vec![1; 15].into(), ..connect() };
    let error = served.connect().refused(0, Cold::Connect(wrong));
    assert_eq!((error.code, error.field.as_str()), (502, "client_id"));
}
