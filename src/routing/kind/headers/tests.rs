use super::*;
use crate::model::{ExchangeName, QueueName, RoutingKey};
use crate::routing::kind::testing::consider;
use crate::routing::{Destination, ExchangeKind};

type Fields<'a> = &'a [(&'a str, FieldValue)];

fn table(fields: Fields<'_>) -> FieldTable {
    FieldTable(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn text(text: &str) -> FieldValue {
    FieldValue::from(text)
}

fn integer(integer: i64) -> FieldValue {
    FieldValue::Integer(integer)
}

/// A binding under each of the four modes, and which of them match.
#[track_caller]
fn check(arguments: Fields<'_>, headers: Fields<'_>, matching: &[&str]) {
    for mode in ["all", "any", "all-with-x", "any-with-x"] {
        let mut arguments = table(arguments);
        arguments.0.insert(X_MATCH.to_owned(), text(mode));
        let (matched, reason) =
            consider(ExchangeKind::Headers, "", arguments, "ignored", Some(&table(headers)));
        assert_eq!(matched, matching.contains(&mode), "{mode}: {reason}");
    }
}

const ALL: [&str; 2] = ["all", "all-with-x"];
const ANY: [&str; 2] = ["any", "any-with-x"];
const EACH: [&str; 4] = ["all", "all-with-x", "any", "any-with-x"];

#[test]
fn all_want_all_and_any_wants_one() {
    let both = [("a", integer(1)), ("b", integer(2))];
    check(&both, &both, &EACH);
    check(&both, &[("a", integer(1)), ("b", integer(2)), ("c", integer(3))], &EACH);
    check(&both, &[("a", integer(1))], &ANY);
    check(&both, &[("a", integer(1)), ("b", integer(3))], &ANY);
    check(&both, &[("a", integer(2)), ("b", integer(1))], &[]);
    check(&both, &[], &[]);
}

#[test]
fn no_arguments_match_all_or_nothing() {
    check(&[], &[], &ALL);
    check(&[], &[("a", integer(1))], &ALL);
}

#[test]
fn names_that_begin_with_x_count_only_where_it_says_so() {
    let both = [("a", integer(1)), ("x-b", integer(2))];
    check(&both, &[("a", integer(1))], &["all", "any", "any-with-x"]);
    check(&both, &[("x-b", integer(2))], &["any-with-x"]);
    check(&both, &both, &EACH);
    check(&[("x-b", integer(2))], &[], &["all"]);
    check(&[("x-b", integer(2))], &[("x-b", integer(2))], &["all", "all-with-x", "any-with-x"]);
    check(&[("x-", integer(2))], &[], &["all"]);
    check(&[("X-b", integer(2))], &[("X-b", integer(2))], &EACH);
    check(&[("x", integer(2))], &[("x", integer(2))], &EACH);
}

#[test]
fn x_match_itself_never_counts() {
    check(&[], &[(X_MATCH, text("any"))], &ALL);
    check(&[("a", integer(1))], &[(X_MATCH, text("any-with-x"))], &[]);
}

#[test]
fn an_argument_without_a_value_asks_for_presence() {
    let void = [("a", FieldValue::Void)];
    check(&void, &[("a", integer(1))], &EACH);
    check(&void, &[("a", text(""))], &EACH);
    check(&void, &[("a", FieldValue::Table(FieldTable::default()))], &EACH);
    check(&void, &void, &EACH);
    check(&void, &[("b", integer(1))], &[]);
    check(&[("a", integer(1))], &void, &[]);
    check(&[("a", FieldValue::Void), ("b", integer(1))], &[("a", integer(5))], &ANY);
}

#[test]
fn values_are_compared_not_converted() {
    let one = |value: FieldValue| [("a", value)];
    check(&one(integer(1)), &one(text("1")), &[]);
    check(&one(integer(1)), &one(FieldValue::Double(1.0)), &[]);
    check(&one(integer(1)), &one(FieldValue::Boolean(true)), &[]);
    check(&one(integer(1)), &one(FieldValue::TimestampSeconds(1)), &[]);
    check(&one(integer(-1)), &one(FieldValue::Unsigned(u64::MAX)), &[]);
    check(&one(text("a")), &one(text("A")), &[]);
    check(&one(text("")), &one(FieldValue::List(Vec::new())), &[]);
    check(&one(FieldValue::Double(0.5)), &one(FieldValue::Double(0.5)), &EACH);
    check(&one(FieldValue::Boolean(false)), &one(FieldValue::Boolean(false)), &EACH);
    check(&one(FieldValue::Boolean(false)), &one(FieldValue::Boolean(true)), &[]);
}

#[test]
fn how_a_value_is_stored_does_not_matter() {
    let one = |value: FieldValue| [("a", value)];
    check(&one(integer(7)), &one(FieldValue::Unsigned(7)), &EACH);
    check(&one(FieldValue::Bytes(b"zip".to_vec())), &one(text("zip")), &EACH);
    check(&one(FieldValue::Double(0.0)), &one(FieldValue::Double(-0.0)), &EACH);
}

#[test]
fn nested_values_are_compared_throughout() {
    let nested = |number: FieldValue| {
        let table = FieldTable::from([("n", number)]);
        [("a", FieldValue::List(vec![FieldValue::Table(table), text("end")]))]
    };
    check(&nested(integer(1)), &nested(FieldValue::Unsigned(1)), &EACH);
    check(&nested(integer(1)), &nested(integer(2)), &[]);
    check(&nested(integer(1)), &[("a", FieldValue::List(Vec::new()))], &[]);
    let decimal = |scale| [("a", FieldValue::Decimal { scale, value: 10 })];
    check(&decimal(1), &decimal(1), &EACH);
    check(&decimal(1), &decimal(2), &[]);
}

#[test]
fn without_x_match_all_must_agree() {
    let arguments = table(&[("a", integer(1)), ("b", integer(2)), ("x-c", integer(3))]);
    let consider = |headers: Option<Fields<'_>>| {
        let headers = headers.map(table);
        consider(ExchangeKind::Headers, "", arguments.clone(), "", headers.as_ref()).0
    };
    assert!(consider(Some(&[("a", integer(1)), ("b", integer(2))])));
    assert!(!consider(Some(&[("a", integer(1))])));
    assert!(!consider(None));
}

#[track_caller]
fn reason(mode: &str, arguments: Fields<'_>, headers: Fields<'_>, expected: &str) {
    let mut arguments = table(arguments);
    arguments.0.insert(X_MATCH.to_owned(), text(mode));
    let (_, reason) = consider(ExchangeKind::Headers, "", arguments, "", Some(&table(headers)));
    assert_eq!(reason, expected);
}

#[test]
fn the_reason_names_the_header_that_decides() {
    let two = [("format", text("pdf")), ("pages", integer(2))];
    reason("all", &two, &two, "all 2 headers that the binding asks for agree");
    reason("all", &[("format", text("pdf"))], &two, "the one header that the binding asks for agrees");
    reason(
        "all",
        &two,
        &[("format", text("pdf")), ("pages", text("2"))],
        "header `pages` is `2`, the binding wants the integer 2",
    );
    reason("all", &two, &[("pages", integer(2))], "header `format` is absent, the binding wants `pdf`");
    reason(
        "all",
        &[("urgent", FieldValue::Void)],
        &[],
        "header `urgent` is absent, the binding wants it to be there",
    );
    reason("any", &two, &[("pages", integer(2))], "header `pages` is the integer 2");
    reason("any", &[("urgent", FieldValue::Void)], &[("urgent", integer(1))], "header `urgent` is there");
    reason(
        "any",
        &two,
        &[("format", text("zip"))],
        "none of 2 headers agrees, the first: header `format` is `zip`, the binding wants `pdf`",
    );
    reason("all", &[], &[], "the binding asks for no header, so all of them agree");
    reason("any", &[], &two, "the binding asks for no header, so not any of them agrees");
}

#[test]
fn x_match_is_one_of_four() {
    let check = |arguments: Fields<'_>| {
        check_arguments(&Binding {
            source: ExchangeName::default(),
            destination: Destination::Queue(QueueName::default()),
            key: RoutingKey::default(),
            arguments: table(arguments),
        })
    };
    assert_eq!(check(&[]), Ok(()));
    for mode in EACH {
        assert_eq!(check(&[(X_MATCH, text(mode))]), Ok(()));
    }
    let refusal = check(&[(X_MATCH, text("ALL"))]).expect_err("modes are in small letters");
    assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
    assert_eq!(
        refusal.text,
        "Invalid x-match field value 'ALL'; expected all, any, all-with-x, or any-with-x"
    );
    assert_eq!((&*refusal.field, &*refusal.got), (X_MATCH, "ALL"));
    let refusal = check(&[(X_MATCH, integer(1))]).expect_err("a number is no mode");
    assert_eq!(refusal.text, "Invalid x-match field type long (value 1); expected longstr");
    assert!(check(&[(X_MATCH, FieldValue::Void)]).is_err());
}
