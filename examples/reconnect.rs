//! What happens when the broker goes away and comes back: nothing is lost, and this program does hardly anything for it.
//!
//! Start a broker with `leveret serve`, run `cargo run --example reconnect`, and restart the broker meanwhile, as rudely
//! as you like.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use leveret::client::{Backoff, ConnectOptions, Connection, Consumer, Event, Publisher, Queue};

const NUMBERS: u64 = 40;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
    // All of this is so by default; a program that would rather fail asks for `no_reconnect()`.
    let patience = Backoff { give_up_after: Duration::from_secs(600), ..Backoff::default() };
    let options: ConnectOptions = url.parse()?;
    let connection = Connection::connect(options.reconnect(patience)).await?;
    let mut events = connection.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            tell(&event);
        }
    });

    let channel = connection.channel().await?;
    channel.declare_queue(Queue::new("example.numbers")).await?;
    let publisher = channel.publisher("", "example.numbers").open().await?;
    let numbers = channel.consume("example.numbers").start().await?;
    let (_, seen) = tokio::try_join!(publish(&publisher), consume(numbers))?;
    println!("{} different numbers came", seen.len());

    channel.delete_queue("example.numbers", Default::default()).await?;
    connection.close().await?;
    Ok(())
}

/// While there is no connection, `publish` goes on taking messages until its window is full, and confirms take longer:
/// that is all a publisher notices. What had no confirm is sent again.
async fn publish(publisher: &Publisher) -> Result<(), Box<dyn Error>> {
    for number in 1..=NUMBERS {
        publisher.publish(number.to_string()).await?.await?;
        println!("confirmed: {number}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(())
}

/// Each message comes at least once. It may come again if the connection broke before its confirm came back (`resent`),
/// or before the broker knew that it was accepted (`redelivered`): whoever must not do things twice looks at these marks.
async fn consume(mut numbers: Consumer) -> Result<BTreeSet<u64>, Box<dyn Error>> {
    let mut seen = BTreeSet::new();
    while seen.len() < NUMBERS as usize
        && let Some(delivery) = numbers.next().await
    {
        let delivery = delivery?;
        let number = String::from_utf8_lossy(delivery.body()).parse()?;
        if !seen.insert(number) {
            println!(
                "again: {number} (resent: {}, redelivered: {})",
                delivery.resent(),
                delivery.redelivered()
            );
        }
        // Fails only if the delivery came over a connection that is gone; then it comes again.
        if let Err(error) = delivery.accept() {
            println!("not accepted: {number}: {error}");
        }
    }
    Ok(seen)
}

fn tell(event: &Event) {
    match event {
        Event::Disconnected(reason) => println!("disconnected: {reason}"),
        Event::Reconnected { attempts, resent_messages } => {
            println!("connected again: {attempts} attempts, {resent_messages} messages sent again");
        }
        Event::Closed(reason) => println!("closed: {reason}"),
        _ => {}
    }
}
