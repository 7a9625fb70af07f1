//! What a frame costs, per message: reading and writing the hot kinds.
//!
//! `cargo bench --bench codec`; a whole run takes less than a minute.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret::message::{DeliveredItem, encode_item, encode_redelivered_item};
use leveret::wire::{
    Body, decode_frame, encode_confirm, encode_deliver_head, encode_publish_head, encode_settle, pb,
    split_frame,
};
use prost::Message as _;

const BODY_BYTES: [usize; 2] = [16, 1024];
const MESSAGES: [usize; 2] = [1, 100];

fn run(messages: usize, body_bytes: usize, properties: &[u8]) -> BytesMut {
    let mut run = BytesMut::new();
    for _ in 0..messages {
        encode_item(properties, &vec![b'x'; body_bytes], None, false, &mut run);
    }
    run
}

fn publish_frame(run: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    encode_publish_head(1, 1, 1_000_000, None, run.len(), &mut frame);
    frame.extend_from_slice(run);
    frame
}

fn frame_alone(mut buffer: BytesMut) -> Bytes {
    split_frame(&mut buffer, usize::MAX).expect("a valid length").expect("a whole frame")
}

fn some_properties() -> Vec<u8> {
    let text = pb::FieldValue { kind: Some(pb::field_value::Kind::Text("pdf".into())) };
    let headers = pb::FieldTable { fields: [("format".into(), text)].into() };
    pb::Properties {
        content_type: "application/json".into(),
        headers: Some(headers),
        message_id: "0f7c8a52-9f2e-4b8e".into(),
        ..Default::default()
    }
    .encode_to_vec()
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for (name, properties) in [("plain", Vec::new()), ("properties", some_properties())] {
        for messages in MESSAGES {
            for body_bytes in BODY_BYTES {
                group.throughput(Throughput::Elements(messages as u64));
                let frame = frame_alone(publish_frame(&run(messages, body_bytes, &properties)));
                let id = BenchmarkId::new(format!("decode/{name}/{body_bytes}B"), messages);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| decode_frame(black_box(frame.clone())));
                });
            }
        }
    }
    for body_bytes in BODY_BYTES {
        group.throughput(Throughput::Elements(100));
        let body = vec![b'x'; body_bytes];
        let mut out = BytesMut::with_capacity(1 << 20);
        group.bench_function(BenchmarkId::new(format!("encode/{body_bytes}B"), 100), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..100 {
                    encode_item(&[], black_box(&body), None, false, &mut out);
                }
                out.len()
            });
        });
    }
    let frame = frame_alone(publish_frame(&run(100, 16, &[])));
    group.bench_function("decode by generated code/16B/100", |bencher| {
        bencher.iter(|| pb::Frame::decode(black_box(frame.clone())));
    });
    group.finish();
}

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split");
    let frame = publish_frame(&run(1, 16, &[]));
    let stream = frame.repeat(1000);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("split and decode/16B/1", |bencher| {
        bencher.iter(|| {
            let mut buffer = BytesMut::from(black_box(&stream[..]));
            let mut messages = 0;
            while let Ok(Some(frame)) = split_frame(&mut buffer, usize::MAX) {
                let Ok(frame) = decode_frame(frame) else { break };
                let Body::Publish(publish) = frame.body else { break };
                messages += publish.items.len();
            }
            messages
        });
    });
    group.finish();
}

fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver");
    for messages in MESSAGES {
        for body_bytes in BODY_BYTES {
            group.throughput(Throughput::Elements(messages as u64));
            let run = run(messages, body_bytes, &[]);
            let mut out = BytesMut::with_capacity(1 << 20);
            group.bench_function(BenchmarkId::new(format!("splice/{body_bytes}B"), messages), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encode_deliver_head(1, 1, 1_000_000, "orders", "created", run.len(), &mut out);
                    out.extend_from_slice(black_box(&run));
                    out.len()
                });
            });
            out.clear();
            encode_deliver_head(1, 1, 1_000_000, "orders", "created", run.len(), &mut out);
            out.extend_from_slice(&run);
            let frame = frame_alone(out.clone());
            group.bench_function(BenchmarkId::new(format!("decode/{body_bytes}B"), messages), |bencher| {
                bencher.iter(|| match decode_frame(black_box(frame.clone())) {
                    Ok(leveret::wire::WireFrame { body: Body::Deliver(deliver), .. }) => {
                        deliver.messages().filter(Result::is_ok).count()
                    }
                    _ => 0,
                });
            });
        }
    }
    let item = run(1, 16, &[]).freeze();
    group.throughput(Throughput::Elements(1));
    group.bench_function("item/16B", |bencher| bencher.iter(|| DeliveredItem::decode(black_box(&item))));
    let mut out = BytesMut::with_capacity(1 << 10);
    group.bench_function("redelivered item/16B", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_redelivered_item(black_box(&item), true, 2, &mut out)
        });
    });
    group.finish();
}

fn settle_and_confirm(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outcome");
    group.throughput(Throughput::Elements(1));
    let mut out = BytesMut::with_capacity(1 << 16);
    let settled = [pb::SettleRange { first: 1_000_000, last: 0, outcome: 1, delay_ms: None }];
    group.bench_function("settle/encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_settle(1, 0, 1, black_box(&settled), &mut out);
            out.len()
        });
    });
    out.clear();
    encode_settle(1, 0, 1, &settled, &mut out);
    let frame = frame_alone(out.clone());
    group.bench_function("settle/decode", |bencher| bencher.iter(|| decode_frame(black_box(frame.clone()))));
    group.bench_function("settle/decode by generated code", |bencher| {
        bencher.iter(|| pb::Frame::decode(black_box(frame.clone())));
    });
    let confirmed = [pb::ConfirmRange {
        first: 1_000_000,
        last: 1_000_099,
        level: 3,
        queues: 1,
        refusal: None,
        first_journey: 0,
    }];
    group.bench_function("confirm/encode", |bencher| {
        bencher.iter(|| {
            out.clear();
            encode_confirm(1, 1, black_box(&confirmed), &mut out);
            out.len()
        });
    });
    out.clear();
    encode_confirm(1, 1, &confirmed, &mut out);
    let frame = frame_alone(out.clone());
    group.bench_function("confirm/decode", |bencher| bencher.iter(|| decode_frame(black_box(frame.clone()))));
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .without_plots()
}

criterion_group! {
    name = codec;
    config = quick();
    targets = publish, split, deliver, settle_and_confirm
}
criterion_main!(codec);
