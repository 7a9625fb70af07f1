//! Exclusive consumers whose connection breaks: they come back, past what is left of it, and wait while another has the queue.

use std::net::SocketAddr;
use std::time::Duration;

use leveret::client::{Backoff, ConnectOptions, Connection, Event, Queue, RequestError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cuts::{Cut, Proxy, Way};
use super::{connect, soon};
use crate::support::Broker;

/// Cuts of which the broker does not hear: its end of the connection stays open.
const CUTS: usize = 50;

fn options(broker: &Broker, port: u16) -> ConnectOptions {
    let quick = Backoff {
        delay_first: Duration::from_millis(1),
        delay_max: Duration::from_millis(10),
        ..Backoff::default()
    };
    broker.url().parse::<ConnectOptions>().unwrap().port(port).reconnect(quick)
}

fn address(broker: &Broker) -> SocketAddr {
    broker.url().parse::<ConnectOptions>().unwrap().address().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_consumer_comes_back_while_its_old_connection_is_half_open() {
    let broker = Broker::start();
    let (_direct, sender) = connect(&broker).await;
    sender.declare_queue(Queue::new("mine")).await.unwrap();
    let publisher = sender.publisher("", "mine").open().await.unwrap();
    let cut = Cut { way: Way::ToClient, after: 2_000, deaf: true };
    let mut proxy = Proxy::start(address(&broker), vec![Some(cut); CUTS]).await;
    let connection = soon(Connection::connect(options(&broker, proxy.address.port()))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let mut consumer = soon(channel.consume("mine").exclusive().start()).await.unwrap();
    let mut next = 0u64;
    let mut seen = 0;
    while *proxy.made.borrow_and_update() < CUTS {
        soon(publisher.publish(next.to_be_bytes().to_vec()).await.unwrap()).await.unwrap();
        next += 1;
        while seen < next {
            let delivery = soon(consumer.next()).await.expect("it stands").expect("it stands");
            let number = u64::from_be_bytes(delivery.body()[..].try_into().unwrap());
            assert!(number <= seen, "message {seen} is lost");
            seen = seen.max(number + 1);
            // What came over a connection that is gone comes again.
            let _ = delivery.accept();
        }
    }
    let entry = soon(sender.find_queue("mine")).await.unwrap().unwrap();
    assert_eq!(entry.consumers, 1);
}

/// A way to the broker that can be shut: what is on it is cut, and what comes waits.
async fn gate(broker: SocketAddr) -> (u16, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, open) = watch::channel(true);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut open = open.clone();
            tokio::spawn(async move {
                if open.wait_for(|open| *open).await.is_err() {
                    return;
                }
                let mut server = TcpStream::connect(broker).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = open.wait_for(|open| !*open) => {}
                }
            });
        }
    });
    (port, sender)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exclusive_consumer_waits_while_another_one_has_its_queue() {
    let broker = Broker::start();
    let (_direct, rival) = connect(&broker).await;
    rival.declare_queue(Queue::new("mine")).await.unwrap();
    let (port, open) = gate(address(&broker)).await;
    let connection = soon(Connection::connect(options(&broker, port))).await.unwrap();
    let mut events = connection.events();
    let channel = soon(connection.channel()).await.unwrap();
    let mut consumer = soon(channel.consume("mine").exclusive().start()).await.unwrap();
    open.send(false).unwrap();
    // The broker sees the connection end, and the other one is there first.
    let taken = soon(async {
        loop {
            match rival.consume("mine").exclusive().start().await {
                Ok(consumer) => break consumer,
                Err(RequestError::Refused(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    open.send(true).unwrap();
    loop {
        match soon(events.next()).await.expect("the connection is not closed") {
            Event::NotRestored { what, .. } => break assert_eq!(what, "consumer of queue 'mine'"),
            Event::Disconnected(_) | Event::Reconnected { .. } | Event::AttemptFailed { .. } => {}
            other => panic!("{other}"),
        }
    }
    soon(taken.cancel()).await.unwrap();
    assert!(matches!(soon(events.next()).await, Some(Event::Restored { .. })));
    let publisher = rival.publisher("", "mine").open().await.unwrap();
    soon(publisher.publish("mine again").await.unwrap()).await.unwrap();
    assert_eq!(soon(consumer.next()).await.unwrap().unwrap().body(), "mine again");
}
