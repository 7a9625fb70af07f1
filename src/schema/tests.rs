//! Schemas that are taken and refused, and what fits them.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use prost::Message as _;

use super::{CHECKED_BODY_BYTES_MAX, Schema, SchemaFault, SchemaKind};

const ORDER: &str = r##"{
    "type": "object",
    "required": ["id", "items"],
    "properties": {
        "id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "state": {"enum": ["new", "paid"]},
        "items": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/item"}},
        "a b": {"type": "null"}
    },
    "additionalProperties": false,
    "$defs": {
        "item": {"type": "object", "required": ["price"], "properties": {"price": {"type": "number", "exclusiveMinimum": 0}}}
    }
}"##;

fn json(schema: &str) -> Result<Schema, SchemaFault> {
    Schema::compile(SchemaKind::Json, schema.as_bytes(), "")
}

/// Field, expected, got.
#[track_caller]
fn check(schema: &Schema, body: impl AsRef<[u8]>, expect: Option<(&str, &str, &str)>) {
    let misfit = schema.check(body.as_ref()).err();
    let found = misfit.as_ref().map(|misfit| (&*misfit.field, &*misfit.expected, &*misfit.got));
    assert_eq!(found, expect);
}

#[test]
fn a_misfit_names_the_field_and_what_it_should_be() {
    let schema = json(ORDER).unwrap();
    check(&schema, r#"{"id": "o-1", "state": "paid", "items": [{"price": 1.5}]}"#, None);
    for (body, field, expected, got) in [
        (r#"{"id": "o-1"}"#, "body.items", "present", "absent"),
        (r#"{"id": 5, "items": [{"price": 1}]}"#, "body.id", "a string", "5"),
        (r#"{"id": "1", "items": [{"price": 1}]}"#, "body.id", "a text that matches ^o-[0-9]+$", "\"1\""),
        (r#"{"id": "o-1", "items": []}"#, "body.items", "1 items at least", "an array of 0 items"),
        (
            r#"{"id": "o-1", "items": [{"price": 1}, {"price": 0}]}"#,
            "body.items[1].price",
            "more than 0",
            "0",
        ),
        (r#"{"id": "o-1", "items": [{}]}"#, "body.items[0].price", "present", "absent"),
        (
            r#"{"id": "o-1", "items": [{"price": 1}], "state": "gone"}"#,
            "body.state",
            "\"new\" or \"paid\"",
            "\"gone\"",
        ),
        (r#"{"id": "o-1", "items": [{"price": 1}], "a b": 1}"#, "body[\"a b\"]", "null", "1"),
        (
            r#"{"id": "o-1", "items": [{"price": 1}], "idd": 1}"#,
            "body.idd",
            "absent: the schema has no such field, and takes no others",
            "present",
        ),
        ("[]", "body", "an object", "an array of 0 items"),
        ("", "body", "JSON", "EOF while parsing a value at line 1 column 0"),
        ("{\"id\":", "body", "JSON", "EOF while parsing a value at line 1 column 6"),
    ] {
        check(&schema, body, Some((field, expected, got)));
    }
}

#[test]
fn a_misfit_says_where_the_schema_says_so() {
    let schema = json(ORDER).unwrap();
    let misfit = schema.check(br#"{"id": "o-1", "items": [{"price": "1"}]}"#).unwrap_err();
    assert_eq!(misfit.rule, "/$defs/item/properties/price/type");
}

#[track_caller]
fn check_fault(schema: &str, needle: &str) {
    let fault = json(schema).expect_err(schema);
    let words = format!("{fault}: expected {}, got {}", fault.expected, fault.got);
    assert!(words.contains(needle), "{words}");
}

#[test]
fn what_is_no_schema_is_refused_with_the_place() {
    check_fault("{", "is no JSON");
    check_fault(r#"{"properties": {"a": {"type": "strng"}}}"#, "(at /properties/a/type)");
    check_fault(r#"{"pattern": "(a"}"#, "does not compile (at /pattern)");
    check_fault(r#"{"pattern": "(?=a)b"}"#, "does not compile (at /pattern)");
    check_fault(r#"{"pattern": "((a{1000}){1000}){1000}"}"#, "does not compile (at /pattern)");
    check_fault(
        r#"{"$schema": "http://json-schema.org/draft-04/schema#"}"#,
        "of a dialect that is not known",
    );
    check_fault(r##"{"$ref": "#/$defs/absent"}"##, "refers to what is not in it");
}

#[test]
fn nothing_outside_a_schema_is_asked_for() {
    for reference in [
        "https://example.org/x.json",
        "other.json",
        "file:///etc/passwd",
        "urn:x",
        "http://json-schema.org/draft-07/schema#",
    ] {
        check_fault(&format!(r#"{{"$ref": "{reference}"}}"#), "refers to something outside");
    }
    check_fault(
        r##"{"properties": {"a": {"$id": "https://example.org/", "$ref": "#/b"}}}"##,
        "another '$id' inside",
    );
    check_fault(r##"{"$dynamicRef": "#a"}"##, "'$dynamicRef', which is not taken");
    assert!(
        json(r##"{"$id": "https://example.org/a.json", "$ref": "#/$defs/a", "$defs": {"a": {}}}"##).is_ok()
    );
}

#[test]
fn references_within_a_schema_hold() {
    let tree = json(
        r##"{"$ref": "#node", "$defs": {"node": {"$anchor": "node", "type": "object", "properties":
            {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/%24defs/node"}}}}}"##,
    )
    .unwrap();
    check(&tree, r#"{"left": {"left": {}, "right": {}}}"#, None);
    check(&tree, r#"{"left": {"right": 5}}"#, Some(("body.left.right", "an object", "5")));
}

#[test]
fn a_schema_that_would_not_end_is_refused() {
    let ring = "comes back to itself";
    check_fault(r##"{"$ref": "#"}"##, ring);
    check_fault(r##"{"allOf": [{"not": {"$ref": "#"}}]}"##, ring);
    let mut chain = r##"{"$ref": "#/$defs/d0", "$defs": {"##.to_owned();
    (0..600).for_each(|n| write!(chain, r##""d{n}": {{"$ref": "#/$defs/d{}"}},"##, n + 1).unwrap());
    chain.push_str(r#""d600": {}}}"#);
    check_fault(&chain, "32 schemas at most");
    let many = format!(r#"{{"enum": [1], "allOf": [{}true]}}"#, "{},".repeat(5000));
    check_fault(&many, "too large");
    let patterns: String = (0..33).map(|n| format!(r#""p{n}": {{"pattern": "a"}},"#)).collect();
    check_fault(&format!(r#"{{"properties": {{{patterns} "z": {{}}}}}}"#), "32 regular expressions at most");
}

/// A list in a list in a list.
fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_message_that_would_take_too_long_to_check_is_refused() {
    // Twice as many steps with every level.
    let doubling = json(
        r##"{"anyOf": [{"items": {"$ref": "#"}, "minItems": 1}, {"items": {"$ref": "#"}, "minItems": 2}, {"type": "number"}]}"##,
    )
    .unwrap();
    assert_eq!(doubling.check(b"[[1]]"), Ok(()));
    let misfit = doubling.check(deep(60).as_bytes()).unwrap_err();
    assert!(misfit.expected.contains("take too long"), "{misfit:?}");
    let plain = json(r##"{"items": {"$ref": "#"}}"##).unwrap();
    assert_eq!(plain.check(deep(120).as_bytes()), Ok(()));
    let misfit = plain.check(deep(200).as_bytes()).unwrap_err();
    assert_eq!((&*misfit.expected, &misfit.got.contains("recursion limit")), ("JSON", &true), "{misfit:?}");
    let large = vec![b' '; CHECKED_BODY_BYTES_MAX + 1];
    assert!(plain.check(&large).unwrap_err().expected.starts_with("1048576 bytes at most"));
}

#[test]
fn the_deepest_that_is_taken_needs_little_of_the_stack() {
    let beside = |count: usize| {
        let mut schema = r##"{"$ref": "#/$defs/d0", "$defs": {"##.to_owned();
        (0..count).for_each(|n| {
            write!(schema, r##""d{n}": {{"allOf": [{{"$ref": "#/$defs/d{}"}}]}},"##, n + 1).unwrap();
        });
        write!(schema, r##""d{count}": {{"anyOf": [{{"items": {{"$ref": "#"}}}}]}}}}}}"##).unwrap();
        schema
    };
    // A quarter of what a thread of the broker has.
    let checked = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || {
        let mut taken = 0;
        for count in 0..16 {
            let Ok(schema) = json(&beside(count)) else { continue };
            for levels in 1..127 {
                let body = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
                taken += usize::from(schema.check(body.as_bytes()).is_ok());
            }
        }
        taken
    });
    assert!(checked.unwrap().join().unwrap() > 100);
    // To compile, a long way below one another is the worst.
    let mut long = r##"{"$ref": "#/$defs/d0", "$defs": {"##.to_owned();
    (0..1200)
        .for_each(|n| write!(long, r##""d{n}": {{"items": {{"$ref": "#/$defs/d{}"}}}},"##, n + 1).unwrap());
    long.push_str(r#""d1200": {}}}"#);
    let compiled = std::thread::Builder::new().stack_size(512 * 1024).spawn(move || json(&long).is_ok());
    assert!(compiled.unwrap().join().unwrap());
}

const CHORES: &str = r#"
    syntax = "proto3";
    package demo.v1;
    enum State { STATE_UNSPECIFIED = 0; DONE = 1; }
    message Step { string name = 1; repeated sint32 weights = 2; Chore inner = 3; }
    message Chore { string title = 1; uint32 hours = 2; repeated Step steps = 3; State state = 4; double cost = 5;
        map<string, Step> by_name = 6; bytes raw = 7; fixed32 code = 900; }
"#;
const OLD: &str = r#"
    syntax = "proto2";
    package demo.v1;
    message Old { required string id = 2; optional group Part = 3 { required int32 size = 1; } }
"#;

fn descriptor(source: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("demo.proto"), source).unwrap();
    protox::compile(["demo.proto"], [folder.path()]).unwrap().encode_to_vec()
}

fn protobuf(source: &str, message: &str) -> Schema {
    Schema::compile(SchemaKind::Protobuf, &descriptor(source), message).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_message_of_protobuf_fits_its_descriptor() {
    let chore = protobuf(CHORES, "demo.v1.Chore");
    for body in [
        "",
        "0a 03 616263  10 05  20 01  29 0000000000000000",
        "1a 06 0a 01 61 12 01 02",
        "1a 05 0a 01 61 10 02",
        "20 07",
        "32 07 0a 01 6b 12 02 1a 00",
        "a5 38 01020304",
        // Fields that it does not know: a number, a text, a group with one in it.
        "98 06 01  a2 06 01 61  a3 06 08 01 a4 06",
    ] {
        check(&chore, bytes(body), None);
    }
}

#[test]
fn what_does_not_fit_a_descriptor_is_named_by_its_field() {
    let chore = protobuf(CHORES, "demo.v1.Chore");
    let whole = "a whole field";
    for (body, field, expected, got) in [
        ("08 05", "body.title", "string", "a varint"),
        ("0a 01 ff", "body.title", "a text in UTF-8", "1 bytes that are none"),
        ("12 01 61", "body.hours", "uint32", "bytes with their length"),
        ("1a 00 1a 02 08 01", "body.steps[1].name", "string", "a varint"),
        ("1a 00 1a 04 1a 02 08 01", "body.steps[1].inner.title", "string", "a varint"),
        (
            "1a 03 12 01 80",
            "body.steps[0].weights[0]",
            "a whole number",
            "other bytes, or too few, at byte 4",
        ),
        ("0a 05 61", "body.title", whole, "other bytes, or too few, at byte 2"),
        ("a5 38 01", "body.code", whole, "other bytes, or too few, at byte 2"),
        ("0f", "body", "the number of a field", "other bytes, or too few, at byte 0"),
        (
            "0c",
            "body",
            "a field, and not the end of a group that did not begin",
            "other bytes, or too few, at byte 0",
        ),
        ("a3 06 08 01", "body", whole, "other bytes, or too few, at byte 4"),
    ] {
        check(&chore, bytes(body), Some((field, expected, got)));
    }
    check(&chore, r#"{"title": "x"}"#, Some(("body", "a whole field", "other bytes, or too few, at byte 3")));
}

#[test]
fn fields_that_are_required_have_to_be_there() {
    let old = protobuf(OLD, "demo.v1.Old");
    check(&old, bytes("12 01 61"), None);
    check(&old, bytes("12 01 61 1b 08 05 1c"), None);
    check(&old, bytes("12 01 61 12 01 62"), None);
    check(&old, bytes(""), Some(("body.id", "present", "absent")));
    check(&old, bytes("12 01 61 1b 1c"), Some(("body.part.size", "present", "absent")));
}

#[test]
fn messages_in_each_other_have_an_end() {
    let chore = protobuf(CHORES, "demo.v1.Chore");
    let nested = |levels: usize| {
        (0..levels).fold(Vec::new(), |inner, level| {
            let mut out = vec![0x1a];
            prost::encoding::encode_varint(inner.len() as u64, &mut out);
            // A chore's steps and a step's chore have the same number.
            let _ = level;
            out.extend(inner);
            out
        })
    };
    check(&chore, nested(100), None);
    let misfit = chore.check(&nested(102)).unwrap_err();
    assert_eq!(misfit.expected, "100 messages in each other at most");
    let groups = [bytes("a3 06").repeat(5000), bytes("a4 06").repeat(5000)].concat();
    assert!(chore.check(&groups).is_err());
}

#[test]
fn a_descriptor_names_its_message_and_brings_its_imports() {
    let fault = Schema::compile(SchemaKind::Protobuf, &descriptor(CHORES), "demo.v1.Chor").unwrap_err();
    assert_eq!((&*fault.place, &*fault.got), ("message", "demo.v1.Chor"));
    assert!(fault.expected.contains("demo.v1.Chore"), "{}", fault.expected);
    let fault = Schema::compile(SchemaKind::Protobuf, b"syntax = \"proto3\";", "demo.v1.Chore").unwrap_err();
    assert!(fault.expected.contains("--include_imports"), "{fault}");
    let long = CHORES.replace("demo.v1", &"p".repeat(600));
    let fault = Schema::compile(SchemaKind::Protobuf, &descriptor(&long), "Chore").unwrap_err();
    assert!(fault.expected.contains("512 bytes"), "{fault}");
}

/// Every byte of a descriptor and of messages changed: no panic, and no endless work.
#[test]
fn scrambled_bytes_are_refused_or_taken_and_nothing_else() {
    let descriptor = descriptor(CHORES);
    for at in 0..descriptor.len() {
        for change in [1, 0x80, 0xff] {
            let mut scrambled = descriptor.clone();
            scrambled[at] ^= change;
            if let Ok(schema) = Schema::compile(SchemaKind::Protobuf, &scrambled, "demo.v1.Chore") {
                let _ = schema.check(&bytes("0a 03 616263 1a 06 0a 01 61 12 01 02"));
            }
        }
    }
    let chore = protobuf(CHORES, "demo.v1.Chore");
    let body =
        bytes("0a 03 616263 10 05 1a 06 0a 01 61 12 01 02 32 07 0a 01 6b 12 02 1a 00 a3 06 08 01 a4 06");
    for at in 0..body.len() {
        for byte in 0..=255 {
            let mut scrambled = body.clone();
            scrambled[at] = byte;
            let _ = chore.check(&scrambled);
            let _ = chore.check(&scrambled[..at]);
        }
    }
    for at in 0..ORDER.len() {
        for byte in [b'"', b'{', b'0', b'$', b'#'] {
            let mut scrambled = ORDER.as_bytes().to_vec();
            scrambled[at] = byte;
            let _ = Schema::compile(SchemaKind::Json, &scrambled, "");
        }
    }
}
