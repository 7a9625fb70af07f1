//! How many messages a second are held against a schema: JSON Schema and protobuf, small messages and larger ones.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret::schema::{Schema, SchemaKind};
use prost::Message as _;

const ORDER: &str = r#"{
    "type": "object",
    "required": ["id", "price"],
    "properties": {
        "id": {"type": "string", "pattern": "^o-[0-9]+$"},
        "price": {"type": "number", "exclusiveMinimum": 0},
        "items": {"type": "array", "items": {
            "type": "object",
            "required": ["sku"],
            "properties": {"sku": {"type": "string", "maxLength": 20}, "count": {"type": "integer"}},
            "additionalProperties": false
        }}
    },
    "additionalProperties": false
}"#;

/// The same in both languages: a few fields, and so many items.
fn json_order(items: usize) -> Vec<u8> {
    let items: Vec<String> = (0..items).map(|n| format!(r#"{{"sku": "sku-{n}", "count": {n}}}"#)).collect();
    format!(r#"{{"id": "o-17", "price": 12.5, "items": [{}]}}"#, items.join(", ")).into_bytes()
}

const PROTO: &str = r#"
    syntax = "proto3";
    package demo.v1;
    message Item { string sku = 1; int32 count = 2; }
    message Order { string id = 1; double price = 2; repeated Item items = 3; }
"#;

#[derive(Clone, PartialEq, prost::Message)]
struct Item {
    #[prost(string, tag = "1")]
    sku: String,
    #[prost(int32, tag = "2")]
    count: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(double, tag = "2")]
    price: f64,
    #[prost(message, repeated, tag = "3")]
    items: Vec<Item>,
}

fn protobuf_order(items: usize) -> Vec<u8> {
    let item = |n: usize| Item { sku: format!("sku-{n}"), count: n as i32 };
    Order { id: "o-17".to_owned(), price: 12.5, items: (0..items).map(item).collect() }.encode_to_vec()
}

fn descriptor(folder: &Path) -> Vec<u8> {
    std::fs::write(folder.join("order.proto"), PROTO).unwrap();
    protox::compile(["order.proto"], [folder]).unwrap().encode_to_vec()
}

fn checking(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let json = Schema::compile(SchemaKind::Json, ORDER.as_bytes(), "").unwrap();
    let protobuf =
        Schema::compile(SchemaKind::Protobuf, &descriptor(folder.path()), "demo.v1.Order").unwrap();
    let mut group = criterion.benchmark_group("schema");
    group.throughput(Throughput::Elements(1));
    for items in [0, 10, 100] {
        for (schema, body) in [(&json, json_order(items)), (&protobuf, protobuf_order(items))] {
            let name = format!("{}_{}_bytes", schema.kind(), body.len());
            group.bench_function(name, |bencher| bencher.iter(|| schema.check(black_box(&body)).unwrap()));
        }
    }
    let wrong = String::from_utf8(json_order(10)).unwrap().replace("\"count\": 9", "\"count\": \"9\"");
    group.bench_function("json_refused", |bencher| {
        bencher.iter(|| json.check(black_box(wrong.as_bytes())).unwrap_err());
    });
    group.finish();
}

criterion_group!(benches, checking);
criterion_main!(benches);
