//! Publish and subscribe: log lines go to everybody who asked for their kind, by patterns over `service.severity`.
//!
//! Start a broker with `leveret serve`, then run `cargo run --example topic_logs`.

use std::error::Error;

use leveret::client::{Binding, Channel, Connection, Consumer, Exchange, ExchangeKind, MessageBatch, Queue};
use leveret::model::FieldTable;

const EXCHANGE: &str = "example.logs";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
    let connection = Connection::open(&url).await?;
    let channel = connection.channel().await?;
    channel.declare_exchange(Exchange::new(EXCHANGE, ExchangeKind::Topic).transient()).await?;

    let mut errors = subscribe(&channel, "*.error").await?;
    let mut shop = subscribe(&channel, "shop.#").await?;

    // Where would this go? Asking publishes nothing.
    let explanation = channel.explain(EXCHANGE, "shop.error", &FieldTable::default()).await?;
    for binding in &explanation.exchanges[0].bindings {
        println!("pattern '{}': {}", binding.binding.routing_key, binding.reason);
    }

    // A line that nobody subscribes to may go; without `not_mandatory` it would come back.
    let publisher = channel.publisher(EXCHANGE, "").not_mandatory().open().await?;
    let mut lines = MessageBatch::new();
    lines.push_routed("shop.info", None, b"a customer came in")?;
    lines.push_routed("shop.error", None, b"the till is stuck")?;
    lines.push_routed("stock.info", None, b"100 hats arrived")?;
    lines.push_routed("stock.error", None, b"the roof leaks")?;
    let outcome = publisher.publish_batch(&mut lines).await?.await?;
    println!("{} lines confirmed", outcome.confirmed);

    for _ in 0..2 {
        print("errors", &mut errors).await?;
        print("shop", &mut shop).await?;
    }

    channel.delete_exchange(EXCHANGE, Default::default()).await?;
    connection.close().await?;
    Ok(())
}

/// A queue of one's own, gone with the connection, that gets what a pattern fits: `*` is one word, `#` any number.
async fn subscribe(channel: &Channel, pattern: &str) -> Result<Consumer, Box<dyn Error>> {
    let queue = channel.declare_queue(Queue::private()).await?.name;
    channel.bind(Binding::to_queue(EXCHANGE, &queue, pattern)).await?;
    Ok(channel.consume(&queue).no_ack().start().await?)
}

async fn print(subscriber: &str, lines: &mut Consumer) -> Result<(), Box<dyn Error>> {
    if let Some(line) = lines.next().await {
        let line = line?;
        println!("{subscriber}: [{}] {}", line.routing_key(), String::from_utf8_lossy(line.body()));
    }
    Ok(())
}
