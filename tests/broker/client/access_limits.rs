//! Limits of users and virtual hosts: what is refused beyond them, and what counts.

use leveret::client::{
    Channel, ConfirmError, ConnectError, ConnectOptions, Connection, DeleteQueue, NewUser, Queue, Refusal,
    ReplyCode, RequestError, Subscription, UserLimits, UserLimitsChange, VhostLimits, VhostLimitsChange,
};

use super::{connect, soon};
use crate::support::Broker;

async fn make_ada(guest: &Channel) {
    let (name, password) = ("ada".to_owned(), "s3cret".to_owned());
    let ada = NewUser { name, password, administrator: false, vhosts: vec!["/".to_owned()] };
    soon(guest.put_user(ada)).await.unwrap();
}

async fn as_ada(broker: &Broker) -> Result<Connection, ConnectError> {
    let options: ConnectOptions = broker.url_as("ada:s3cret", "").parse().unwrap();
    soon(Connection::connect(options.no_reconnect())).await
}

async fn turned_away(broker: &Broker) -> Refusal {
    match as_ada(broker).await {
        Err(ConnectError::Refused(refusal)) if refusal.code == ReplyCode::NotAllowed => refusal,
        other => panic!("{other:?}"),
    }
}

async fn limit_ada(guest: &Channel, max_connections: Option<u64>, max_channels: Option<u64>) {
    let change =
        UserLimitsChange { max_connections: Some(max_connections), max_channels: Some(max_channels) };
    soon(guest.limit_user("ada", change)).await.unwrap();
}

async fn limit_home(guest: &Channel, change: VhostLimitsChange) {
    soon(guest.limit_vhost("/", change)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_user_count_until_they_are_closed() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest).await;
    limit_ada(&guest, Some(2), None).await;
    let first = as_ada(&broker).await.unwrap();
    let _second = as_ada(&broker).await.unwrap();
    for _ in 0..3 {
        let refusal = turned_away(&broker).await;
        assert_eq!(refusal.text, "connection refused for user 'ada': user connection limit (2) is reached");
        assert_eq!((&*refusal.field, &*refusal.expected), ("max-connections", "2 at most"));
        assert!(refusal.hint.contains("leveret set user-limits"), "{refusal}");
    }
    // Whose password is wrong does not count, and does not learn of limits.
    let wrong: ConnectOptions = broker.url_as("ada:wrong", "").parse().unwrap();
    match soon(Connection::connect(wrong.no_reconnect())).await {
        Err(ConnectError::Refused(refusal)) => assert_eq!(refusal.code, ReplyCode::AccessRefused),
        other => panic!("{other:?}"),
    }
    soon(first.close()).await.unwrap();
    let third = as_ada(&broker).await.unwrap();
    limit_ada(&guest, Some(0), None).await;
    soon(third.channel()).await.unwrap();
    turned_away(&broker).await;
    limit_ada(&guest, None, None).await;
    as_ada(&broker).await.unwrap();
    as_ada(&broker).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_a_user_count_over_all_its_connections() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest).await;
    limit_ada(&guest, None, Some(3)).await;
    let (first, second) = (as_ada(&broker).await.unwrap(), as_ada(&broker).await.unwrap());
    let channel = soon(first.channel()).await.unwrap();
    let _more = [soon(first.channel()).await.unwrap(), soon(second.channel()).await.unwrap()];
    for connection in [&first, &second] {
        match soon(connection.channel()).await {
            Err(RequestError::Refused(refusal)) => {
                let told = "number of channels opened for user 'ada' has reached the maximum allowed user limit of 3";
                assert_eq!((refusal.code, &*refusal.text), (ReplyCode::NotAllowed, told));
            }
            other => panic!("{other:?}"),
        }
    }
    soon(channel.declare_queue(Queue::new("q"))).await.unwrap();
    soon(channel.close()).await.unwrap();
    let _again = soon(second.channel()).await.unwrap();
    assert!(soon(first.channel()).await.is_err());
    soon(second.close()).await.unwrap();
    let _last = [soon(first.channel()).await.unwrap(), soon(first.channel()).await.unwrap()];
    assert!(soon(first.channel()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_gets_into_a_vhost_that_is_full() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    make_ada(&guest).await;
    limit_home(&guest, VhostLimitsChange { max_connections: Some(Some(2)), ..Default::default() }).await;
    let ada = as_ada(&broker).await.unwrap();
    let refusal = turned_away(&broker).await;
    assert_eq!(refusal.text, "access to vhost '/' refused for user 'ada': connection limit (2) is reached");
    let (_other, again) = connect(&broker).await;
    limit_home(&again, VhostLimitsChange { max_connections: Some(Some(4)), ..Default::default() }).await;
    as_ada(&broker).await.unwrap();
    drop(ada);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vhost_takes_so_many_queues_and_no_more() {
    let mut broker = Broker::start();
    {
        let (connection, guest) = connect(&broker).await;
        soon(guest.declare_queue(Queue::new("first"))).await.unwrap();
        limit_home(&guest, VhostLimitsChange { max_queues: Some(Some(2)), ..Default::default() }).await;
        soon(connection.close()).await.unwrap();
    }
    broker.kill_and_restart();
    let (_connection, guest) = connect(&broker).await;
    soon(guest.declare_queue(Queue::new("first"))).await.unwrap();
    soon(guest.declare_subscription(Subscription::new("s").listen("amq.fanout", ""))).await.unwrap();
    let subscription = Subscription::new("t").listen("amq.fanout", "");
    let refused = [
        soon(guest.declare_queue(Queue::new("second"))).await.map(drop),
        soon(guest.declare_subscription(subscription)).await.map(drop),
    ];
    for (outcome, queue) in refused.into_iter().zip(["second", "sub:t"]) {
        match outcome {
            Err(RequestError::Refused(refusal)) => {
                let told = format!("cannot declare queue '{queue}': queue limit in vhost '/' (2) is reached");
                assert_eq!((refusal.code, refusal.text), (ReplyCode::PreconditionFailed, told));
            }
            other => panic!("{other:?}"),
        }
    }
    soon(guest.delete_queue("first", DeleteQueue::default())).await.unwrap();
    soon(guest.declare_queue(Queue::new("second"))).await.unwrap();
}

/// What is published while nobody has looked yet is taken: so it is published until it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vhost_that_holds_its_bytes_takes_nothing_until_there_is_room() {
    let broker = Broker::start();
    let (_connection, guest) = connect(&broker).await;
    soon(guest.declare_queue(Queue::new("q"))).await.unwrap();
    limit_home(&guest, VhostLimitsChange { max_bytes: Some(Some(10_000)), ..Default::default() }).await;
    let publisher = soon(guest.publisher("", "q").open()).await.unwrap();
    let publish = async || soon(publisher.publish(vec![b'm'; 1_000]).await.unwrap()).await;
    let mut taken = 0;
    let refusal = loop {
        match publish().await {
            Ok(_) => taken += 1,
            Err(ConfirmError::Refused(refusal)) => break refusal,
            other => panic!("{other:?}"),
        }
    };
    assert!(taken >= 9, "{taken}: it was not full yet");
    assert_eq!(refusal.code, ReplyCode::ResourceError);
    assert!(refusal.text.starts_with("vhost '/' holds "), "{refusal}");
    assert!(refusal.text.ends_with("byte limit (10000) is reached") && refusal.retryable, "{refusal}");
    assert_eq!(soon(guest.find_queue("q")).await.unwrap().unwrap().messages_ready, taken);
    soon(guest.purge_queue("q")).await.unwrap();
    soon(async { while publish().await.is_err() {} }).await;
    let change = VhostLimitsChange { max_bytes: Some(Some(0)), ..Default::default() };
    limit_home(&guest, change).await;
    soon(async { while publish().await.is_ok() {} }).await;
    limit_home(&guest, VhostLimitsChange { max_bytes: Some(None), ..Default::default() }).await;
    soon(async { while publish().await.is_err() {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_listed_kept_and_changed_one_by_one() {
    let mut broker = Broker::start();
    let of_ada = UserLimits { max_connections: Some(5), max_channels: Some(0) };
    let of_home = VhostLimits { max_connections: None, max_queues: Some(7), max_bytes: Some(1 << 40) };
    {
        let (_connection, guest) = connect(&broker).await;
        make_ada(&guest).await;
        let nothing = soon(guest.list_users()).await.unwrap();
        assert!(nothing.iter().all(|user| user.limits == UserLimits::default()));
        limit_ada(&guest, Some(5), Some(0)).await;
        // A change of the user is none of them.
        make_ada(&guest).await;
        for (max_queues, max_bytes) in [(Some(Some(7)), None), (None, Some(Some(1 << 40)))] {
            limit_home(&guest, VhostLimitsChange { max_queues, max_bytes, ..Default::default() }).await;
        }
        let too_many = UserLimitsChange { max_channels: Some(Some(1 << 32)), ..Default::default() };
        for (outcome, code) in [
            (soon(guest.limit_user("nobody", UserLimitsChange::default())).await, 404),
            (soon(guest.limit_vhost("nowhere", VhostLimitsChange::default())).await, 530),
            (soon(guest.limit_user("ada", too_many)).await, 406),
        ] {
            match outcome {
                Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code.number(), code, "{refusal}"),
                other => panic!("{other:?}"),
            }
        }
        let ada = as_ada(&broker).await.unwrap();
        assert!(soon(ada.channel()).await.is_err());
    }
    broker.kill_and_restart();
    let (_connection, guest) = connect(&broker).await;
    let users = soon(guest.list_users()).await.unwrap();
    assert_eq!(users.iter().find(|user| user.name == "ada").unwrap().limits, of_ada);
    assert_eq!(soon(guest.list_vhosts()).await.unwrap()[0].limits, of_home);
    limit_ada(&guest, Some(5), None).await;
    let ada = as_ada(&broker).await.unwrap();
    let channel = soon(ada.channel()).await.unwrap();
    match soon(channel.limit_user("ada", UserLimitsChange::default())).await {
        Err(RequestError::Refused(refusal)) => assert_eq!(refusal.code, ReplyCode::AccessRefused),
        other => panic!("{other:?}"),
    }
}
