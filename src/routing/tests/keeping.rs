//! Exchanges that keep what comes for what is bound later.

use super::*;

#[test]
fn it_reaches_every_binding_whatever_the_keys_and_tells_where_it_is_kept() {
    let scenario = Scenario::new().exchange("x", ExchangeKind::RecentHistory);
    let mut scenario = scenario.bound("x", "a", "q1").bound("x", "b", "q2").bound("x", "c", "q2");
    let mut no_headers: Option<&FieldTable> = None;
    scenario.table.route("x", "any", &mut no_headers, &mut scenario.routed).unwrap();
    assert_eq!(scenario.routed.queues().len(), 2);
    assert!(scenario.routed.is_keyed());
    let [history] = scenario.routed.histories() else { panic!("not one: {:?}", scenario.routed) };
    let of_exchange = scenario.table.exchange("x").and_then(ExchangeEntry::history).unwrap();
    assert!(Arc::ptr_eq(history, of_exchange), "it is that of the exchange, whatever was bound since");
    let explained = scenario.table.explain("x", "any", &ExplainedMessage::default()).unwrap();
    assert!(explained.exchanges[0].bindings.iter().all(|binding| binding.matched), "{explained:?}");
}

#[test]
fn it_is_kept_by_each_exchange_on_its_way_once() {
    let mut scenario = Scenario::new()
        .exchange("first", ExchangeKind::Fanout)
        .exchange("x", ExchangeKind::RecentHistory)
        .exchange("y", ExchangeKind::RecentHistory)
        .bound("first", "", "x")
        .bound("first", "", "y")
        .bound("x", "", "y")
        .bound("y", "", "x");
    let mut no_headers: Option<&FieldTable> = None;
    scenario.table.route("first", "k", &mut no_headers, &mut scenario.routed).unwrap();
    assert_eq!(scenario.routed.histories().len(), 2);
    scenario.table.route("", "nobody", &mut no_headers, &mut scenario.routed).unwrap();
    assert!(scenario.routed.histories().is_empty());
}

#[test]
fn an_exchange_passes_on_what_a_client_may_not_publish_to_it() {
    let internal = ExchangeDefinition { internal: true, ..definition("internal", ExchangeKind::Fanout) };
    let mut scenario = Scenario::new().defined(internal).bound("internal", "", "q1");
    let mut no_headers: Option<&FieldTable> = None;
    let Scenario { table, routed } = &mut scenario;
    assert_eq!(table.route("internal", "k", &mut no_headers, routed), Err(RouteError::Internal));
    assert_eq!(table.route_on("internal", "k", &mut no_headers, routed), Ok(()));
    assert_eq!(routed.queues().len(), 1);
    assert_eq!(table.route_on("none", "k", &mut no_headers, routed), Err(RouteError::NoSuchExchange));
}
