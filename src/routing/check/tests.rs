#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{ExchangeName, FieldTable, QueueName, RoutingKey};
use crate::routing::Destination;

fn vhost() -> VhostName {
    VhostName::new("shop").unwrap()
}

fn definition(name: &str) -> ExchangeDefinition {
    ExchangeDefinition {
        name: ExchangeName::new(name).unwrap(),
        kind: ExchangeKind::Direct,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
    }
}

fn with_alternate(value: FieldValue) -> ExchangeDefinition {
    ExchangeDefinition { arguments: FieldTable::from([(ALTERNATE_EXCHANGE, value)]), ..definition("x") }
}

#[track_caller]
fn check(result: Result<(), Refusal>, code: ReplyCode, text: &str) {
    let refusal = result.unwrap_err();
    assert_eq!((refusal.code, &*refusal.text), (code, text));
}

#[test]
fn reserved_names_are_the_servers() {
    assert_eq!(check_declare(&definition("amqp"), &vhost()), Ok(()));
    check(
        check_declare(&definition("amq.mine"), &vhost()),
        ReplyCode::AccessRefused,
        "exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    );
    check(
        check_delete("amq.topic", &vhost()),
        ReplyCode::AccessRefused,
        "deletion of system exchange 'amq.topic' in vhost 'shop' not allowed",
    );
    assert_eq!(check_delete("x", &vhost()), Ok(()));
}

#[test]
fn the_default_exchange_is_untouchable() {
    let text = "operation not permitted on the default exchange";
    let binding = |source: &str, destination: &str| Binding {
        source: ExchangeName::new(source).unwrap(),
        destination: Destination::Exchange(ExchangeName::new(destination).unwrap()),
        key: RoutingKey::default(),
        arguments: FieldTable::default(),
    };
    for refused in [
        check_declare(&definition(""), &vhost()),
        check_equivalent(&definition(""), &definition(""), &vhost()),
        check_delete("", &vhost()),
        check_binding(&binding("", "x"), ExchangeKind::Direct),
        check_binding(&binding("x", ""), ExchangeKind::Direct),
    ] {
        check(refused, ReplyCode::AccessRefused, text);
    }
    let to_queue =
        Binding { destination: Destination::Queue(QueueName::new("q").unwrap()), ..binding("x", "y") };
    assert_eq!(check_binding(&to_queue, ExchangeKind::Direct), Ok(()));
}

#[test]
fn an_alternate_exchange_is_a_name() {
    assert_eq!(check_declare(&with_alternate(FieldValue::from("y")), &vhost()), Ok(()));
    check(
        check_declare(&with_alternate(FieldValue::Integer(5)), &vhost()),
        ReplyCode::PreconditionFailed,
        "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost 'shop'",
    );
    check(
        check_declare(&with_alternate(FieldValue::Text("y".repeat(256))), &vhost()),
        ReplyCode::PreconditionFailed,
        "invalid arg 'alternate-exchange' for exchange 'x' in vhost 'shop': the name is too long",
    );
}

#[test]
fn a_redeclare_agrees_or_names_the_first_difference() {
    let current = definition("x");
    let text = |field: &str, received: &str, is: &str| {
        format!(
            "inequivalent arg '{field}' for exchange 'x' in vhost 'shop': received {received} but current is {is}"
        )
    };
    for (requested, field, received, is) in [
        (
            ExchangeDefinition { kind: ExchangeKind::Fanout, ..definition("x") },
            "type",
            "'fanout'",
            "'direct'",
        ),
        (ExchangeDefinition { durable: false, ..definition("x") }, "durable", "'false'", "'true'"),
        (ExchangeDefinition { auto_delete: true, ..definition("x") }, "auto_delete", "'true'", "'false'"),
        (ExchangeDefinition { internal: true, ..definition("x") }, "internal", "'true'", "'false'"),
        (
            with_alternate(FieldValue::from("y")),
            "alternate-exchange",
            "the value 'y' of type 'longstr'",
            "none",
        ),
    ] {
        let refusal = check_equivalent(&current, &requested, &vhost()).unwrap_err();
        assert_eq!((refusal.code, refusal.text), (ReplyCode::PreconditionFailed, text(field, received, is)));
        assert_eq!(refusal.field, field);
        assert!(received.contains(&refusal.got) && is.contains(&refusal.expected));
    }
    let other = ExchangeDefinition { durable: false, internal: true, ..definition("x") };
    check(
        check_equivalent(&current, &other, &vhost()),
        ReplyCode::PreconditionFailed,
        &text("durable", "'false'", "'true'"),
    );
}

fn with_allowed(patterns: &[&str]) -> ExchangeDefinition {
    let patterns = patterns.iter().map(|pattern| FieldValue::from(*pattern)).collect();
    let arguments = FieldTable::from([(ALLOWED_KEYS, FieldValue::List(patterns))]);
    ExchangeDefinition { arguments, ..definition("x") }
}

#[test]
fn a_list_of_keys_makes_sense_or_is_refused() {
    assert_eq!(check_declare(&with_allowed(&["order.*", "chore.#"]), &vhost()), Ok(()));
    check(
        check_declare(&with_allowed(&["#.#.#"]), &vhost()),
        ReplyCode::PreconditionFailed,
        "invalid arg 'x-allowed-keys' for exchange 'x' in vhost 'shop': the list has the pattern '#.#.#' with too many '#'",
    );
    let internal = ExchangeDefinition { internal: true, ..with_allowed(&["a"]) };
    assert_eq!(check_declare(&internal, &vhost()).unwrap_err().field, ALLOWED_KEYS);
    check(
        check_declare(
            &ExchangeDefinition { name: ExchangeName::default(), ..with_allowed(&["a"]) },
            &vhost(),
        ),
        ReplyCode::AccessRefused,
        "operation not permitted on the default exchange",
    );
}

#[test]
fn a_redeclare_has_the_same_list_of_keys_in_any_order() {
    let current = with_allowed(&["a", "b"]);
    assert_eq!(check_equivalent(&current, &with_allowed(&["b", "a"]), &vhost()), Ok(()));
    for (other, differs) in [
        (with_allowed(&["a"]), "received 'a' but current is 'b' or 'a'"),
        (definition("x"), "received none but current is 'a' or 'b'"),
    ] {
        let refusal = check_equivalent(&current, &other, &vhost()).unwrap_err();
        assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, ALLOWED_KEYS));
        assert!(refusal.text.ends_with(differs), "{}", refusal.text);
    }
}

#[test]
fn a_redeclare_compares_no_other_arguments() {
    let other = ExchangeDefinition {
        arguments: FieldTable::from([("x-mine", FieldValue::from(1))]),
        ..definition("x")
    };
    assert_eq!(check_equivalent(&definition("x"), &other, &vhost()), Ok(()));
    let alternate = || with_alternate(FieldValue::from("y"));
    assert_eq!(check_equivalent(&alternate(), &alternate(), &vhost()), Ok(()));
    let long = |end: &str| with_alternate(FieldValue::Text("y".repeat(200) + end));
    assert!(check_equivalent(&long("1"), &long("2"), &vhost()).is_err(), "they differ behind what is shown");
    let another = with_alternate(FieldValue::from("z"));
    let refusal = check_equivalent(&alternate(), &another, &vhost()).unwrap_err();
    assert!(refusal.text.ends_with("received 'z' but current is 'y'"), "{}", refusal.text);
}

#[test]
fn types_are_seven() {
    let known = ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-modulus-hash", "x-random"];
    for kind in known {
        assert_eq!(ExchangeKind::parse(kind).map(ExchangeKind::as_str), Ok(kind));
    }
    for (kind, meant) in [
        ("", None),
        ("Direct", Some("direct")),
        ("x-consistent-hsh", Some("x-consistent-hash")),
        ("match", None),
        ("x-delayed-message", None),
    ] {
        let refusal = ExchangeKind::parse(kind).unwrap_err();
        assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
        assert_eq!(refusal.text, format!("unknown exchange type '{kind}'"));
        let hint = meant.map_or(String::new(), |meant| format!("did you mean '{meant}'?"));
        assert_eq!((refusal.hint, &*refusal.got), (hint, kind));
    }
}

#[test]
fn what_is_hashed_makes_sense_or_is_refused() {
    let hashing = |arguments: &[(&str, FieldValue)]| ExchangeDefinition {
        kind: ExchangeKind::ConsistentHash,
        arguments: FieldTable(
            arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        ),
        ..definition("x")
    };
    let header = || (HASH_HEADER, FieldValue::from("user"));
    let property = |name: &str| (HASH_PROPERTY, FieldValue::from(name));
    for good in [
        vec![],
        vec![header()],
        vec![property("message_id")],
        vec![property("correlation_id")],
        vec![property("timestamp")],
    ] {
        assert_eq!(check_declare(&hashing(&good), &vhost()), Ok(()));
    }
    for (bad, field, text) in [
        (
            vec![header(), property("message_id")],
            HASH_PROPERTY,
            "hash-header and hash-property are mutually exclusive",
        ),
        (vec![property("app_id")], HASH_PROPERTY, "Unsupported property: app_id"),
        (vec![(HASH_PROPERTY, FieldValue::from(1))], HASH_PROPERTY, "Unsupported property: long"),
        (vec![(HASH_HEADER, FieldValue::from(1))], HASH_HEADER, "invalid value for 'hash-header'"),
    ] {
        let refusal = check_declare(&hashing(&bad), &vhost()).unwrap_err();
        assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, field));
        assert_eq!(refusal.text, format!("{text} in exchange 'x' in vhost 'shop'"));
        let other_kind = ExchangeDefinition { kind: ExchangeKind::Topic, ..hashing(&bad) };
        assert_eq!(check_declare(&other_kind, &vhost()), Ok(()));
    }
    let current = hashing(&[header()]);
    assert_eq!(check_equivalent(&current, &current, &vhost()), Ok(()));
    for (other, field) in [
        (hashing(&[]), HASH_HEADER),
        (hashing(&[property("message_id")]), HASH_PROPERTY),
        (hashing(&[(HASH_HEADER, FieldValue::from("other"))]), HASH_HEADER),
    ] {
        let refusal = check_equivalent(&current, &other, &vhost()).unwrap_err();
        assert_eq!((refusal.code, &*refusal.field), (ReplyCode::PreconditionFailed, field));
        assert!(refusal.text.ends_with("but current is the header `user`"), "{}", refusal.text);
    }
}

#[test]
fn a_weight_is_a_number_above_zero() {
    let check = |key: &str| {
        let binding = Binding {
            source: ExchangeName::new("x").unwrap(),
            destination: Destination::Queue(QueueName::new("q").unwrap()),
            key: RoutingKey::new(key).unwrap(),
            arguments: FieldTable::default(),
        };
        check_binding(&binding, ExchangeKind::ConsistentHash).map_err(|refusal| refusal.text)
    };
    for good in ["1", "10", "1000000", "007", "+3"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in ["0", "-1"] {
        assert_eq!(check(bad), Err("The binding key must be greater than 0".to_owned()));
    }
    for bad in ["", "1.5", "one", " 1", "#"] {
        assert_eq!(check(bad), Err(format!("The binding key must be an integer: '{bad}'")));
    }
    assert_eq!(check("1000001"), Err("The binding key must be 1000000 at most".to_owned()));
}

#[test]
fn binding_keys_and_arguments_are_checked_where_they_mean_something() {
    let binding = Binding {
        source: ExchangeName::new("x").unwrap(),
        destination: Destination::Queue(QueueName::new("q").unwrap()),
        key: RoutingKey::new("#.#.#").unwrap(),
        arguments: FieldTable::from([("x-match", FieldValue::from("some"))]),
    };
    let code = |kind| check_binding(&binding, kind).map_err(|refusal| (refusal.code, refusal.field));
    assert_eq!(code(ExchangeKind::Direct), Ok(()));
    assert_eq!(code(ExchangeKind::Fanout), Ok(()));
    let refused = |field: &str| Err((ReplyCode::PreconditionFailed, field.to_owned()));
    assert_eq!(code(ExchangeKind::Topic), refused("routing_key"));
    assert_eq!(code(ExchangeKind::Headers), refused("x-match"));
}

#[test]
fn what_is_missing_or_in_use_is_named() {
    let text = |refusal: Refusal| (refusal.code.number(), refusal.text);
    assert_eq!(text(no_such_exchange("x", &vhost())), (404, "no exchange 'x' in vhost 'shop'".to_owned()));
    assert_eq!(text(no_such_queue("q", &vhost())), (404, "no queue 'q' in vhost 'shop'".to_owned()));
    assert_eq!(text(exchange_in_use("x", &vhost())), (406, "exchange 'x' in vhost 'shop' in use".to_owned()));
}
