//! Parcels: two vendors, a driver, a hub that logs; one vendor is away, comes back, and hears all of it, in order. A misspelt
//! event is refused, and for each event the broker tells who has it. `examples/python/caps.py` tells the same story.
//!
//! Start a broker with `leveret serve`, then run `cargo run --example caps`. Whatever is not as it should be ends it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;

use leveret::client::{
    Channel, ConfirmError, ConnectOptions, Connection, Consumer, DeleteExchange, Exchange, ExchangeKind,
    JourneyRule, JourneyScope, Message, Publisher, Refusal, ReplyCode, Subscription,
};

const EXCHANGE: &str = "example.caps";
const ALLOWED: [&str; 3] = ["pickup.*", "in-transit.*", "delivered.*"];
const ACME: &str = "acme-widgets";
const FLOWERS: &str = "1-800-flowers";
const HUB: &str = "hub-log";
const DRIVERS: &str = "drivers";
const ORDERS: [(&str, &str); 4] = [(ACME, "a-1"), (FLOWERS, "f-1"), (FLOWERS, "f-2"), (FLOWERS, "f-3")];

type Fallible<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    let mut acme = Client::connect(ACME).await?;
    acme.tidy().await?; // what an earlier run left
    acme.lay().await?;
    let mut driver = Client::connect("driver").await?;
    let mut packages = driver.listen(DRIVERS).await?;
    let hub = Client::connect(HUB).await?;
    let mut log = hub.listen(HUB).await?;

    for (store, order) in ORDERS {
        expect("a refusal of an order", acme.publish("pickup", store, order).await?, None)?;
        let heard = hear(&mut packages).await?;
        expect("the driver hears", heard, (format!("pickup.{store}"), order.to_owned()))?;
        for event in ["in-transit", "delivered"] {
            expect("a refusal of an event", driver.publish(event, store, order).await?, None)?;
        }
    }
    println!("{} orders are delivered", ORDERS.len());

    match acme.publish("pikcup", ACME, "a-0").await? {
        Some(refusal)
            if refusal.code == ReplyCode::PreconditionFailed
                && refusal.hint.contains("pickup.acme-widgets") =>
        {
            println!("a misspelt event is refused: {}", refusal.hint);
        }
        other => return Err(format!("a misspelt event was to be refused with a hint, not: {other:?}").into()),
    }

    let mut logged = Vec::new();
    let mut events = Vec::new();
    for (store, order) in ORDERS {
        for event in ["pickup", "in-transit", "delivered"] {
            logged.push(hear(&mut log).await?);
            events.push((format!("{event}.{store}"), order.to_owned()));
        }
    }
    // Three connections have published: between them there is no order.
    logged.sort_unstable();
    events.sort_unstable();
    expect("the hub has logged", &logged, &events)?;
    println!("the hub has logged {} events", logged.len());

    let of_flowers = |event: &str| (format!("{event}.{FLOWERS}"), format!("{EXCHANGE}.{FLOWERS}"));
    let states = acme.receipts("f-2").await?;
    for event in ["in-transit", "delivered"] {
        expect("before: a receipt of f-2", states.get(&of_flowers(event)), Some(&"pending".to_owned()))?;
    }
    // Only now it comes.
    let flowers = Client::connect(FLOWERS).await?;
    let mut missed = flowers.listen(FLOWERS).await?;
    for order in ["f-1", "f-2", "f-3"] {
        for event in ["in-transit", "delivered"] {
            let heard = hear(&mut missed).await?;
            let expected = (format!("{event}.{FLOWERS}"), order.to_owned());
            expect("the vendor that was away hears", heard, expected)?;
        }
    }
    for (whose, state) in acme.receipts("f-2").await? {
        expect(&format!("afterwards: a receipt of f-2, {whose:?}"), state, "accepted".to_owned())?;
    }
    println!("{FLOWERS} was away, and has heard 6 events in order");

    drop((packages, log, missed));
    for client in [driver, hub, flowers] {
        client.connection.close().await?;
    }
    acme.tidy().await?;
    acme.connection.close().await?;
    Ok(())
}

/// Somebody who takes part, with a connection of its own.
struct Client {
    connection: Connection,
    channel: Channel,
    publisher: Option<Publisher>,
}

impl Client {
    async fn connect(name: &str) -> Fallible<Self> {
        let url = std::env::var("LEVERET_URL").unwrap_or("leveret://guest:guest@127.0.0.1:7672/".into());
        let options: ConnectOptions = url.parse()?;
        let connection = Connection::connect(options.connection_name(name)).await?;
        let channel = connection.channel().await?;
        Ok(Self { connection, channel, publisher: None })
    }

    /// Makes what all of them need. Whoever comes first does, so it does not matter who that is.
    async fn lay(&self) -> Fallible<()> {
        let exchange = Exchange::new(EXCHANGE, ExchangeKind::Topic);
        let exchange = ALLOWED.iter().fold(exchange, |exchange, pattern| exchange.allow(pattern));
        self.channel.declare_exchange(exchange).await?;
        for (name, keys) in subscriptions() {
            let subscription = Subscription::new(name);
            let subscription = keys.iter().fold(subscription, |one, key| one.listen(EXCHANGE, key));
            self.channel.declare_subscription(subscription).await?;
        }
        let rule = JourneyRule::new(JourneyScope::Exchange(EXCHANGE.to_owned()));
        self.channel.keep_journeys(&rule).await?;
        Ok(())
    }

    async fn tidy(&self) -> Fallible<()> {
        for (name, _) in subscriptions() {
            self.channel.unsubscribe(&name).await?;
        }
        self.channel.keep_no_journeys(&JourneyScope::Exchange(EXCHANGE.to_owned())).await?;
        self.channel.delete_exchange(EXCHANGE, DeleteExchange::default()).await?;
        Ok(())
    }

    /// Publishes an event and waits for its confirm: the refusal in it, or `None`.
    async fn publish(&mut self, event: &str, store: &str, order: &str) -> Fallible<Option<Refusal>> {
        let publisher = match &self.publisher {
            Some(publisher) => publisher.clone(),
            None => self.channel.publisher(EXCHANGE, "").open().await?,
        };
        self.publisher = Some(publisher.clone());
        let body = format!(r#"{{"store": "{store}", "orderId": "{order}"}}"#);
        let message = Message::new(body).routing_key(format!("{event}.{store}")).message_id(order);
        match publisher.publish(message).await?.await {
            Ok(_) => Ok(None),
            Err(ConfirmError::Refused(refusal)) => Ok(Some(Refusal::clone(&refusal))),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes part in a subscription: what waits there comes first.
    async fn listen(&self, name: &str) -> Fallible<Consumer> {
        let subscription = Subscription::new(format!("{EXCHANGE}.{name}"));
        Ok(self.channel.subscribe(subscription).prefetch(1).start().await?)
    }

    /// Of each event of an order, by key and subscription, how it stands with it. Of an earlier run there may be others: the
    /// newest come first, and stay.
    async fn receipts(&self, order: &str) -> Fallible<BTreeMap<(String, String), String>> {
        let told = self.channel.receipts(order).await?;
        let mut states = BTreeMap::new();
        for journey in &told.journeys {
            for receipt in &journey.receipts {
                let whose = receipt.subscription.clone().unwrap_or_default();
                let state = receipt.state.as_str().to_owned();
                states.entry((journey.routing_key.clone(), whose)).or_insert(state);
            }
        }
        Ok(states)
    }
}

/// Each subscription, and the keys that it listens to.
fn subscriptions() -> Vec<(String, Vec<String>)> {
    let of = |name: &str, keys: &[&str]| {
        (format!("{EXCHANGE}.{name}"), keys.iter().map(|key| (*key).to_owned()).collect())
    };
    let vendor = |store: &str| of(store, &[&format!("in-transit.{store}"), &format!("delivered.{store}")]);
    vec![of(HUB, &["#"]), of(DRIVERS, &["pickup.*"]), vendor(ACME), vendor(FLOWERS)]
}

/// Takes the next event, accepts it, and waits until the broker has taken note: its key and its order.
async fn hear(consumer: &mut Consumer) -> Fallible<(String, String)> {
    let delivery = consumer.next().await.ok_or("nothing more comes")??;
    let heard = (delivery.routing_key().to_owned(), delivery.properties()?.message_id);
    delivery.accept_stored().await?;
    Ok(heard)
}

fn expect<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Fallible<()> {
    if got == expected {
        return Ok(());
    }
    Err(format!("{what}: expected {expected:?}, got {got:?}").into())
}
