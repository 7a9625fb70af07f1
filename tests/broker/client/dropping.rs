//! Futures that are dropped at every point where they wait: the broker's books balance all the same.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use leveret::client::{
    Binding, Channel, Connection, DeleteExchange, DeleteQueue, Exchange, ExchangeKind, FieldTable, Get,
    NewUser, Queue,
};

use super::{connect, soon};
use crate::support::Broker;

/// More polls than any of these futures takes.
const POLLS_MAX: usize = 5;

/// Polls a future so many times, each time when it was woken, and drops it; what came of it, if it was ready by then.
async fn polled<T>(future: impl Future<Output = T>, times: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            // This was the last time: nobody waits for the wake-up.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Waits until the broker lists this many channels of the connection, and consumers.
async fn settles(channel: &Channel, channels: u32, consumers: usize) {
    soon(async {
        loop {
            let connections = channel.list_connections().await.unwrap();
            let open: u32 = connections.iter().map(|connection| connection.channels).sum();
            if (open, channel.list_consumers().await.unwrap().len()) == (channels, consumers) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_opened_for_nobody_is_closed() {
    let broker = Broker::start();
    let (connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    for times in 0..POLLS_MAX {
        for _ in 0..20 {
            drop(soon(polled(connection.channel(), times)).await);
            drop(soon(polled(channel.consume("q").start(), times)).await);
            drop(soon(polled(channel.publisher("", "q").open(), times)).await);
        }
    }
    settles(&channel, 1, 0).await;
}

#[tokio::test]
async fn requests_are_carried_out_once_or_not_at_all() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for times in 0..POLLS_MAX {
        let name = format!("polled {times}");
        let declared = soon(polled(channel.declare_queue(Queue::new(&name)), times)).await;
        // Carried out in order: what was asked for before is done now.
        let found = soon(channel.find_queue(&name)).await.unwrap();
        assert_eq!(found.is_some(), times > 0, "polled {times} times: {declared:?}");
        let deleted = soon(polled(channel.delete_queue(&name, DeleteQueue::default()), times)).await;
        let found = soon(channel.find_queue(&name)).await.unwrap();
        assert!(found.is_none(), "polled {times} times: {deleted:?}");
    }
}

#[tokio::test]
async fn a_message_is_published_once_or_not_at_all() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    // Room for one: nearly each of them waits.
    let publisher = channel.publisher("", "q").window_messages(1).open().await.unwrap();
    let mut taken = BTreeSet::new();
    for number in 0..500u32 {
        let times = number as usize % POLLS_MAX;
        let body = number.to_be_bytes().to_vec();
        let is_taken = match number % 2 {
            0 => soon(polled(publisher.send(body), times)).await.map(Result::unwrap).is_some(),
            // The future for the confirm is dropped at once.
            _ => soon(polled(publisher.publish(body), times)).await.map(Result::unwrap).is_some(),
        };
        if is_taken {
            taken.insert(number);
        }
        drop(soon(polled(publisher.wait_for_all(), times)).await);
        drop(soon(polled(publisher.flush(), times)).await);
    }
    soon(publisher.wait_for_all()).await.unwrap();
    assert_eq!(publisher.progress().published, taken.len() as u64);
    assert!(taken.len() > 100, "only {}", taken.len());
    let mut came = Vec::new();
    while let Some(got) = soon(channel.get("q", Get { no_ack: true })).await.unwrap() {
        came.push(u32::from_be_bytes(got.delivery.body()[..].try_into().unwrap()));
    }
    assert!(came.iter().copied().eq(taken), "each once, and in order");
}

#[tokio::test]
async fn a_message_is_handed_out_or_goes_back() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    channel.declare_queue(Queue::new("q")).await.unwrap();
    let publisher = channel.publisher("", "q").open().await.unwrap();
    for number in 0..200u32 {
        publisher.send(number.to_be_bytes().to_vec()).await.unwrap();
    }
    soon(publisher.wait_for_all()).await.unwrap();
    // Got by nobody: each is back.
    for number in 0..100 {
        drop(soon(polled(channel.get("q", Get::default()), number % 2)).await);
    }
    soon(async {
        while broker_counts(&channel).await != (200, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // A reader that stops over and over, and settlements that nobody waits for.
    let mut consumer = channel.consume("q").prefetch(10).start().await.unwrap();
    let mut came = BTreeSet::new();
    let mut round = 0;
    soon(async {
        while came.len() < 200 {
            round += 1;
            let Some(delivery) = polled(consumer.next(), round % 3).await else {
                tokio::task::yield_now().await;
                continue;
            };
            let delivery = delivery.unwrap().unwrap();
            let number = u32::from_be_bytes(delivery.body()[..].try_into().unwrap());
            assert!(came.insert(number), "{number} came twice");
            drop(polled(delivery.accept_stored(), 1).await);
        }
    })
    .await;
    soon(consumer.cancel()).await.unwrap();
    assert_eq!(broker_counts(&channel).await, (0, 0));
}

/// A topic exchange with a queue, and a message in it: what each answer of the requests below is told by.
async fn known(channel: &Channel) {
    channel.declare_exchange(Exchange::new("news", ExchangeKind::Topic)).await.unwrap();
    channel.declare_queue(Queue::new("q")).await.unwrap();
    channel.bind(Binding::to_queue("news", "q", "a.#")).await.unwrap();
    let publisher = channel.publisher("news", "a.b").open().await.unwrap();
    soon(publisher.publish("a message").await.unwrap()).await.unwrap();
}

/// Answers come for what was asked, and not for what somebody stopped waiting for.
async fn nothing_is_mixed_up(channel: &Channel) {
    let explained = soon(channel.explain("news", "a.b", &FieldTable::default())).await.unwrap();
    assert_eq!(explained.queues, ["q"]);
    assert_eq!(soon(channel.check_queue("q")).await.unwrap().name, "q");
    assert!(soon(channel.find_queue("absent")).await.unwrap().is_none());
    let users = soon(channel.list_users()).await.unwrap();
    assert!(users.iter().any(|user| user.name == "guest"));
    let exchanges = soon(channel.list_exchanges()).await.unwrap();
    assert!(exchanges.iter().any(|exchange| exchange.name == "news"));
}

#[tokio::test]
async fn whatever_is_asked_may_be_dropped_and_the_next_answer_is_that_of_the_next_request() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    known(&channel).await;
    let none = FieldTable::default();
    for times in 0..POLLS_MAX {
        // Each with requests behind it, and then all of them in a row.
        macro_rules! dropped {
            ($($request:expr),* $(,)?) => {
                $(
                    drop(soon(polled($request, times)).await);
                    nothing_is_mixed_up(&channel).await;
                )*
                $(drop(soon(polled($request, times)).await);)*
                nothing_is_mixed_up(&channel).await;
            };
        }
        dropped![
            channel.list_exchanges(),
            channel.list_queues(),
            channel.find_queue("q"),
            channel.list_bindings(),
            channel.list_connections(),
            channel.list_consumers(),
            channel.list_users(),
            channel.list_vhosts(),
            channel.explain("news", "a.b", &none),
            channel.explain("nowhere", "a.b", &none),
            channel.check_exchange("news"),
            channel.check_exchange("nowhere"),
            channel.check_queue("nowhere"),
            channel.purge_queue("nowhere"),
            channel.declare_exchange(Exchange::new("news", ExchangeKind::Topic)),
            channel.bind(Binding::to_queue("news", "q", "a.#")),
            channel.unbind(Binding::to_queue("news", "q", "z")),
            channel.delete_exchange("nowhere", DeleteExchange::default()),
            channel.get("nowhere", Get::default()),
        ];
    }
    assert_eq!(broker_counts(&channel).await, (1, 0), "nothing was purged or taken");
}

#[tokio::test]
async fn changes_are_made_once_they_were_asked_for_though_nobody_waits() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    known(&channel).await;
    for times in 0..POLLS_MAX {
        let done = times > 0;
        let name = format!("polled-{times}");
        let user = NewUser {
            name: name.clone(),
            password: "s3cret".to_owned(),
            administrator: false,
            vhosts: vec!["/".to_owned()],
        };
        drop(soon(polled(channel.put_user(user), times)).await);
        drop(soon(polled(channel.put_vhost(&name), times)).await);
        let exchange = Exchange::new(&name, ExchangeKind::Fanout);
        drop(soon(polled(channel.declare_exchange(exchange), times)).await);
        drop(soon(polled(channel.bind(Binding::to_queue("news", "q", &name)), times)).await);
        drop(soon(polled(channel.purge_queue("q"), times)).await);
        nothing_is_mixed_up(&channel).await;
        assert_eq!(there(&channel, &name).await, [done; 4], "polled {times} times");
        assert_eq!(broker_counts(&channel).await, (u64::from(!done), 0), "polled {times} times");

        drop(soon(polled(channel.delete_user(&name), times)).await);
        drop(soon(polled(channel.delete_vhost(&name), times)).await);
        drop(soon(polled(channel.delete_exchange(&name, DeleteExchange::default()), times)).await);
        drop(soon(polled(channel.unbind(Binding::to_queue("news", "q", &name)), times)).await);
        nothing_is_mixed_up(&channel).await;
        assert_eq!(there(&channel, &name).await, [false; 4], "polled {times} times");
        known(&channel).await;
        soon(channel.purge_queue("q")).await.unwrap();
        known(&channel).await;
    }
}

/// Whether user, vhost, exchange and binding of this name are there.
async fn there(channel: &Channel, name: &str) -> [bool; 4] {
    [
        soon(channel.list_users()).await.unwrap().iter().any(|user| user.name == name),
        soon(channel.list_vhosts()).await.unwrap().iter().any(|vhost| vhost.name == name),
        soon(channel.list_exchanges()).await.unwrap().iter().any(|exchange| exchange.name == name),
        soon(channel.list_bindings()).await.unwrap().iter().any(|binding| binding.routing_key == name),
    ]
}

async fn broker_counts(channel: &Channel) -> (u64, u64) {
    let queue = soon(channel.find_queue("q")).await.unwrap().unwrap();
    (queue.messages_ready, queue.messages_unacknowledged)
}

#[tokio::test]
async fn a_connection_that_nobody_waits_for_is_gone() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    for times in 0..POLLS_MAX {
        drop(soon(polled(Connection::open(&broker.url()), times)).await);
        let other = soon(Connection::open(&broker.url())).await.unwrap();
        drop(soon(polled(other.close(), times)).await);
    }
    settles(&channel, 1, 0).await;
    soon(async {
        while channel.list_connections().await.unwrap().len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
