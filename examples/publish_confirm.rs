//! Publishing with confirms: what a confirm says, what a refusal says, and how to have both safety and speed.
//!
//! Start a broker with `leveret serve`, then run `cargo run --example publish_confirm`.

use std::error::Error;

use leveret::client::{ConfirmError, Connection, Message, MessageBatch, Queue};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
    let connection = Connection::open(&url).await?;
    let channel = connection.channel().await?;
    channel.declare_queue(Queue::new("example.orders")).await?;

    // Messages for the default exchange go to the queue that the routing key names. One that reaches no queue comes
    // back, instead of being lost without a word.
    let publisher = channel.publisher("", "example.orders").open().await?;

    // One message. The first await takes it for sending, the second one waits for its confirm: from here on it is on
    // the broker's disk.
    let order = Message::new(r#"{"order": 1}"#).content_type("application/json");
    let confirmed = publisher.publish(order).await?.await?;
    println!("order 1 is {} and in {} queue", confirmed.level, confirmed.queues);

    // Several under way at once: take all, then wait for all. The disk is asked once, not a hundred times.
    let mut pending = Vec::new();
    for order in 2..=100 {
        pending.push(publisher.publish(format!(r#"{{"order": {order}}}"#)).await?);
    }
    for confirm in pending {
        confirm.await?;
    }
    println!("orders 2 to 100 are confirmed");

    // Many: a batch is encoded once and sent with one call.
    let mut batch = MessageBatch::new();
    for order in 101..=10_000 {
        batch.push_body(format!(r#"{{"order": {order}}}"#).as_bytes());
    }
    let outcome = publisher.publish_batch(&mut batch).await?.await?;
    println!("of the rest {} are confirmed and {} failed", outcome.confirmed, outcome.failed);

    // A message may have a routing key of its own. This one leads nowhere.
    let astray = publisher.publish(Message::new("anybody there?").routing_key("example.nowhere")).await?;
    match astray.await {
        Err(ConfirmError::Returned(returned)) => println!("it came back: {}", returned.reason),
        other => println!("unexpected: {other:?}"),
    }

    publisher.close().await?;
    println!("dropped {} orders", channel.delete_queue("example.orders", Default::default()).await?);
    connection.close().await?;
    Ok(())
}
