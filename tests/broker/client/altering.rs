//! New schemas are held against what waits before they hold for what comes.

use leveret::client::{
    Alteration, Altered, Binding, Channel, ConfirmError, Exchange, ExchangeKind, MessageSchema, Queue,
    Refusal, ReplyCode, RequestError,
};

use super::{connect, soon};
use crate::support::Broker;

const NUMBERS: &str =
    r#"{"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}"#;

fn numbers() -> Alteration {
    Alteration::new().schema("order.*", MessageSchema::json(NUMBERS))
}

async fn publish(channel: &Channel, exchange: &str, key: &str, bodies: &[&str]) {
    let publisher = soon(channel.publisher(exchange, key).open()).await.unwrap();
    for body in bodies {
        soon(publisher.publish((*body).to_owned()).await.unwrap()).await.unwrap();
    }
}

/// Orders wait in `all`, and in `far`, where another exchange leads; of `other` one waits there, too.
async fn orders_wait(channel: &Channel) {
    for name in ["events", "hop", "other"] {
        soon(channel.declare_exchange(Exchange::new(name, ExchangeKind::Topic))).await.unwrap();
    }
    for name in ["all", "far", "apart"] {
        soon(channel.declare_queue(Queue::new(name))).await.unwrap();
    }
    for binding in [
        Binding::to_queue("events", "all", "#"),
        Binding::to_queue("other", "all", "#"),
        Binding::to_exchange("events", "hop", "order.far"),
        Binding::to_exchange("hop", "events", "nothing"),
        Binding::to_queue("hop", "far", "#"),
        Binding::to_queue("other", "apart", "#"),
    ] {
        soon(channel.bind(binding)).await.unwrap();
    }
    publish(channel, "events", "order.paid", &[r#"{"price": 1}"#, r#"{"price": "2"}"#]).await;
    publish(channel, "events", "order.far", &["{}"]).await;
    publish(channel, "events", "else", &["anything"]).await;
    publish(channel, "other", "order.paid", &["of somebody else"]).await;
}

async fn refused(channel: &Channel, alteration: Alteration) -> Refusal {
    match soon(channel.alter_exchange("events", alteration)).await {
        Err(RequestError::Refused(refusal)) => refusal,
        other => panic!("it was to be refused: {other:?}"),
    }
}

async fn takes_anything(channel: &Channel) -> bool {
    let publisher = soon(channel.publisher("events", "order.paid").open()).await.unwrap();
    match soon(publisher.publish("no JSON").await.unwrap()).await {
        Ok(_) => true,
        Err(ConfirmError::Refused(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

fn places(seen: &Altered) -> Vec<(&str, u64, &str, &str)> {
    let mut places: Vec<_> = seen
        .first
        .iter()
        .map(|misfit| (&*misfit.queue, misfit.sequence, &*misfit.routing_key, &*misfit.field))
        .collect();
    places.sort_unstable();
    places
}

#[tokio::test]
async fn a_schema_that_messages_which_wait_do_not_fit_is_refused_and_names_them() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    orders_wait(&channel).await;
    let refusal = refused(&channel, numbers()).await;
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert!(refusal.text.starts_with("of 5 messages that wait"), "{}", refusal.text);
    assert!(refusal.text.contains("3 would not fit, so nothing is changed"), "{}", refusal.text);
    assert!(refusal.text.contains("in queue 'all', body.price: expected a number, got \"2\""), "{refusal:?}");
    assert!(refusal.hint.contains("--force"), "{}", refusal.hint);
    assert!(takes_anything(&channel).await, "nothing was changed");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_not_fit_and_changes_nothing() {
    let mut broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    orders_wait(&channel).await;
    broker.kill_and_restart();
    let (_connection, channel) = connect(&broker).await;
    let seen = soon(channel.alter_exchange("events", numbers().dry_run().force())).await.unwrap();
    assert_eq!((seen.altered, seen.looked_at, seen.misfits), (false, 5, 3), "what is on disk alone, too");
    assert_eq!(seen.not_all, None);
    let places: Vec<_> =
        places(&seen).into_iter().map(|(queue, _, key, field)| (queue, key, field)).collect();
    assert_eq!(
        places,
        [
            ("all", "order.paid", "body.price"),
            ("all", "order.far", "body.price"),
            ("far", "order.far", "body.price")
        ]
    );
    assert_eq!((broker.messages("all"), broker.messages("far")), ((5, 0), (1, 0)));
    assert!(takes_anything(&channel).await);
}

#[tokio::test]
async fn an_alteration_that_is_forced_leaves_what_waits_where_it_is() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    orders_wait(&channel).await;
    let altered = soon(channel.alter_exchange("events", numbers().force())).await.unwrap();
    assert_eq!((altered.altered, altered.misfits), (true, 3));
    assert!(!takes_anything(&channel).await, "the schema holds");
    assert_eq!((broker.messages("all"), broker.messages("far")), ((5, 0), (1, 0)));
    let again = soon(channel.alter_exchange("events", numbers())).await.unwrap();
    assert_eq!((again.altered, again.looked_at), (true, 0), "it has these schemas already");
}

#[tokio::test]
async fn what_fits_what_is_in_quarantine_and_what_others_published_refuse_no_schema() {
    let broker = Broker::start();
    let (_connection, channel) = connect(&broker).await;
    orders_wait(&channel).await;
    for queue in ["far", "all"] {
        soon(channel.purge_queue(queue)).await.unwrap();
    }
    let altered = soon(channel.alter_exchange("events", numbers().quarantine_queue("all"))).await.unwrap();
    assert_eq!((altered.altered, altered.looked_at, altered.misfits), (true, 0, 0));
    assert!(!takes_anything(&channel).await, "and the copy waits in 'all'");
    publish(&channel, "events", "order.far", &[r#"{"price": 3}"#]).await;
    let any = Alteration::new().schema("#", MessageSchema::json(r#"{"required": ["price"]}"#));
    let altered = soon(channel.alter_exchange("events", any)).await.unwrap();
    assert_eq!((altered.altered, altered.looked_at, altered.misfits), (true, 1, 0), "the one in 'far'");
    let without = Alteration::new().without_schemas();
    assert!(soon(channel.alter_exchange("events", without)).await.unwrap().altered);
    assert!(takes_anything(&channel).await);
}
