//! Consuming with acknowledgements: accept what is done, give back what failed, reject what makes no sense.
//!
//! Start a broker with `leveret serve`, then run `cargo run --example consume_ack`.

use std::error::Error;

use leveret::client::{Connection, Queue};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
    let connection = Connection::open(&url).await?;
    let channel = connection.channel().await?;
    channel.declare_queue(Queue::new("example.payments")).await?;

    let publisher = channel.publisher("", "example.payments").open().await?;
    for amount in ["10", "20", "many", "40"] {
        publisher.send(amount).await?;
    }
    publisher.wait_for_all().await?;

    // The broker sends up to 10 deliveries ahead; one that is not settled when this program ends, however it ends,
    // goes to somebody else.
    let mut payments = channel.consume("example.payments").prefetch(10).start().await?;
    let mut total = 0;
    let mut settled = 0;
    while settled < 4 {
        let Some(delivery) = payments.next().await else { break };
        let delivery = delivery?;
        let text = String::from_utf8_lossy(delivery.body()).into_owned();
        match text.parse::<u32>() {
            Err(_) => {
                // It would fail again and again: out of the queue with it.
                println!("rejected: {text}");
                delivery.reject()?;
                settled += 1;
            }
            Ok(20) if !delivery.redelivered() => {
                // Perhaps it works next time: back to its place in the queue, and it comes again, marked.
                println!("given back: {text}");
                delivery.requeue()?;
            }
            Ok(amount) => {
                total += amount;
                println!("accepted: {text}{}", if delivery.redelivered() { ", the second time" } else { "" });
                // Sent together with others, in a moment. `accept_stored().await` waits until the broker's disk has it.
                delivery.accept()?;
                settled += 1;
            }
        }
    }
    println!("total: {total}");

    payments.cancel().await?;
    channel.delete_queue("example.payments", Default::default()).await?;
    connection.close().await?;
    Ok(())
}
