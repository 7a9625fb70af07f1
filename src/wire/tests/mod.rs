//! Hand-written reading and writing against generated code, faults one by one, and bytes from hell.
#![allow(clippy::unwrap_used)]

mod against_generated;
mod conversions;
mod faults;
mod hostile;
mod items;
mod scrambled;
mod stream;

use crate::message::ItemFault;
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Body, Deliver, Publish, WireFrame, pb};

/// A frame as generated code would hold it, so that both readings can be compared.
fn generated(frame: &WireFrame) -> Result<pb::Frame, ItemFault> {
    let body = match &frame.body {
        Body::Publish(publish) => pb::frame::Body::Publish(generated_publish(publish)),
        Body::Confirm(confirm) => pb::frame::Body::Confirm(confirm.clone()),
        Body::Deliver(deliver) => pb::frame::Body::Deliver(generated_deliver(deliver)?),
        Body::Settle(settle) => pb::frame::Body::Settle(settle.clone()),
        Body::Other(body) => (**body).clone(),
    };
    Ok(pb::Frame { channel: frame.channel, request: frame.request, body: Some(body) })
}

fn generated_publish(publish: &Publish) -> pb::Publish {
    let items = pb::Publish::decode(publish.items.run.bytes().clone()).unwrap().items;
    assert_eq!(items.len(), publish.items.len());
    let bodies: Vec<usize> = items.iter().map(|item| item.message.as_ref().unwrap().body.len()).collect();
    assert_eq!(publish.items.body_bytes, bodies.iter().sum::<usize>());
    assert_eq!(publish.items.body_bytes_max, bodies.into_iter().max().unwrap_or(0));
    for (index, item) in items.iter().enumerate() {
        assert_eq!(publish.items.key(index), item.routing_key.as_deref());
        let alone = pb::Publish::decode(publish.items.run.item(index)).unwrap().items;
        assert_eq!(alone.as_slice(), std::slice::from_ref(item));
    }
    pb::Publish {
        publisher: publish.publisher,
        first_sequence: publish.first_sequence,
        target: publish.target.clone(),
        items,
    }
}

fn generated_deliver(deliver: &Deliver) -> Result<pb::Deliver, ItemFault> {
    let mut items = Vec::new();
    for item in deliver.messages() {
        let item = item?;
        let properties = item.properties.as_ref().map(|_| item.decode_properties().unwrap());
        items.push(pb::DeliverItem {
            message: Some(pb::Message { properties, body: item.body }),
            routing_key: item.routing_key.map(|key| key.as_str().to_owned()),
            resent: item.resent,
            redelivered: item.redelivered,
            delivery_count: item.delivery_count,
        });
    }
    Ok(pb::Deliver {
        consumer: deliver.consumer,
        first_tag: deliver.first_tag,
        exchange: deliver.exchange.as_str().to_owned(),
        routing_key: deliver.routing_key.as_str().to_owned(),
        items,
    })
}

/// The frame as generated code writes it, without length prefix.
fn encoded(frame: &pb::Frame) -> Bytes {
    frame.encode_to_vec().into()
}

/// The frame as generated code writes it, behind its length prefix.
fn with_prefix(frame: &pb::Frame) -> BytesMut {
    let mut out = BytesMut::new();
    out.extend_from_slice(&(frame.encoded_len() as u32).to_be_bytes());
    frame.encode(&mut out).unwrap();
    out
}
