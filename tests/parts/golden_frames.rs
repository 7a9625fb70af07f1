//! Golden frames: the bytes of the protocol, which never change again.
//!
//! `tests/golden/NAME.txt` is a frame in protobuf's text format, `NAME.hex` the same frame as bytes, annotated. Texts,
//! bytes, generated code and the hand-written codec must agree, and so must what `docs/PROTOCOL.md` shows. To add a
//! frame, write its text; the test then fails and prints the bytes to put beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use leveret::message::{FIELD_DEPTH_MAX, encode_item, encode_redelivered_item};
use leveret::model;
use leveret::wire::{
    Body, CONTROL_FRAME_BYTES_MAX, LENGTH_PREFIX_BYTES, Side, WireError, decode_frame, decode_frame_from,
    encode_confirm, encode_deliver_head, encode_frame, encode_publish_head, encode_settle, pb, split_frame,
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

struct Golden {
    name: String,
    text: String,
    /// As in the file, annotations included.
    dump: String,
    bytes: Vec<u8>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn frame_descriptor() -> MessageDescriptor {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile([proto.join("leveret/v1/frame.proto")], [proto]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    pool.get_message_by_name("leveret.v1.Frame").unwrap()
}

fn golden_frames() -> Vec<Golden> {
    let mut texts: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    texts.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    texts.sort();
    assert!(!texts.is_empty());
    texts.iter().map(|path| read_golden(path)).collect()
}

fn read_golden(text_path: &Path) -> Golden {
    let text = fs::read_to_string(text_path).unwrap();
    let name = text_path.file_stem().unwrap().to_str().unwrap().to_owned();
    let dump_path = text_path.with_extension("hex");
    let Ok(dump) = fs::read_to_string(&dump_path) else {
        let descriptor = frame_descriptor();
        let bytes = with_prefix(&DynamicMessage::parse_text_format(descriptor.clone(), &text).unwrap());
        panic!("{} is missing; it should be\n{}", dump_path.display(), annotate(&bytes, &descriptor));
    };
    let hex = dump.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    let bytes = hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Golden { name, text, dump, bytes }
}

fn with_prefix(message: &impl prost::Message) -> Vec<u8> {
    [&(message.encoded_len() as u32).to_be_bytes()[..], &message.encode_to_vec()].concat()
}

#[test]
fn texts_and_bytes_say_the_same() {
    let descriptor = frame_descriptor();
    for Golden { name, text, dump, bytes } in golden_frames() {
        let message = DynamicMessage::parse_text_format(descriptor.clone(), &text).unwrap();
        assert_eq!(with_prefix(&message), bytes, "{name}");
        assert_eq!(annotate(&bytes, &descriptor), dump, "{name}");
        let decoded = DynamicMessage::decode(descriptor.clone(), &bytes[LENGTH_PREFIX_BYTES..]).unwrap();
        assert_eq!(decoded, message, "{name}");
    }
}

#[test]
fn the_codec_reads_and_writes_them() {
    for Golden { name, bytes, .. } in golden_frames() {
        let mut stream = BytesMut::from(&bytes[..]);
        let frame = split_frame(&mut stream, bytes.len()).unwrap().unwrap();
        assert!(stream.is_empty(), "{name}");
        let expected = pb::Frame::decode(frame.clone()).unwrap();

        let mut generic = BytesMut::new();
        let body = expected.body.as_ref().unwrap();
        encode_frame(expected.channel, expected.request, body, &mut generic);
        assert_eq!(generic, bytes, "{name}");

        let read = decode_frame(frame).unwrap();
        assert_eq!((read.channel, read.request), (expected.channel, expected.request), "{name}");
        let written = match &read.body {
            Body::Other(other) => {
                assert_eq!(**other, *body, "{name}");
                continue;
            }
            Body::Publish(publish) => {
                let mut out = BytesMut::new();
                let run = publish.items.run.bytes();
                let (publisher, first) = (publish.publisher, publish.first_sequence);
                encode_publish_head(
                    read.channel,
                    publisher,
                    first,
                    publish.target.as_ref(),
                    run.len(),
                    &mut out,
                );
                out.extend_from_slice(run);
                out
            }
            Body::Deliver(deliver) => {
                let mut out = BytesMut::new();
                let (exchange, key) = (deliver.exchange.as_str(), deliver.routing_key.as_str());
                let run = deliver.items.bytes();
                let (consumer, tag) = (deliver.consumer, deliver.first_tag);
                encode_deliver_head(read.channel, consumer, tag, exchange, key, run.len(), &mut out);
                out.extend_from_slice(run);
                out
            }
            Body::Confirm(confirm) => {
                let mut out = BytesMut::new();
                encode_confirm(read.channel, confirm.publisher, &confirm.ranges, &mut out);
                out
            }
            Body::Settle(settle) => {
                let mut out = BytesMut::new();
                encode_settle(read.channel, read.request, settle.consumer, &settle.ranges, &mut out);
                out
            }
        };
        assert_eq!(written, bytes, "{name}");
    }
}

#[test]
fn messages_are_written_by_hand_alike() {
    for Golden { name, bytes, .. } in golden_frames() {
        let frame = pb::Frame::decode(&bytes[LENGTH_PREFIX_BYTES..]).unwrap();
        let mut run = BytesMut::new();
        let mut write = |item: &pb::DeliverItem| {
            let message = item.message.as_ref().unwrap();
            let properties = message.properties.as_ref().map(|properties| properties.encode_to_vec());
            let mut stored = BytesMut::new();
            let key = item.routing_key.as_deref();
            encode_item(&properties.unwrap_or_default(), &message.body, key, item.resent, &mut stored);
            encode_redelivered_item(&stored, item.redelivered, item.delivery_count, &mut run).unwrap();
        };
        match frame.body.unwrap() {
            pb::frame::Body::Deliver(deliver) => deliver.items.iter().for_each(&mut write),
            pb::frame::Body::Publish(publish) => publish.items.into_iter().for_each(|item| {
                let pb::PublishItem { message, routing_key, resent } = item;
                write(&pb::DeliverItem { message, routing_key, resent, ..Default::default() });
            }),
            _ => continue,
        }
        assert!(bytes.ends_with(&run) && !run.is_empty(), "{name}");
    }
}

#[test]
fn every_kind_of_frame_is_here() {
    let descriptor = frame_descriptor();
    let body = descriptor.oneofs().next().unwrap();
    let kinds = body.fields().map(|field| field.name().to_owned());
    let shown = golden_frames().into_iter().map(|golden| {
        let message = DynamicMessage::parse_text_format(descriptor.clone(), &golden.text).unwrap();
        message.fields().map(|(field, _)| field.name().to_owned()).last().unwrap()
    });
    assert_eq!(shown.collect::<BTreeSet<_>>(), kinds.collect::<BTreeSet<_>>());
}

#[test]
fn the_protocol_page_shows_them_as_they_are() {
    const MARK: &str = "<!-- golden: ";

    let page = protocol_page();
    let frames = golden_frames();
    let mut shown = 0;
    for block in page.split(MARK).skip(1) {
        let (name, rest) = block.split_once(" -->\n```text\n").expect("a dump follows its mark");
        let (dump, _) = rest.split_once("```").unwrap();
        let golden = frames.iter().find(|golden| golden.name == name).expect(name);
        assert_eq!(dump, golden.dump, "{name}");
        shown += 1;
    }
    assert!(shown >= 30, "only {shown} dumps are shown");
    assert_eq!(page.matches("```text").count(), shown, "a dump has no mark");
    assert!(page.contains(&format!("{} frames to test your\nclient with", frames.len())));
}

#[test]
fn the_protocol_page_lists_every_kind() {
    let page = protocol_page();
    let (_, table) = page.split_once("## All frames").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let listed = table.lines().filter(|line| line.starts_with("| ") && !line.contains("Number"));
    let listed = listed.map(|line| line.split(" | ").take(3).collect::<Vec<_>>().join(" | "));

    let descriptor = frame_descriptor();
    let body = descriptor.oneofs().next().unwrap();
    let known = body.fields().map(|field| {
        let Kind::Message(message) = field.kind() else { panic!("a body that is no message") };
        let sender = match (may_send(Side::Client, field.number()), may_send(Side::Server, field.number())) {
            (true, true) => "both",
            (true, false) => "client",
            (false, true) => "server",
            (false, false) => panic!("nobody sends {}", field.name()),
        };
        format!("| {} | `{}` | {sender}", field.number(), message.name())
    });
    assert_eq!(listed.collect::<Vec<_>>(), known.collect::<Vec<_>>());
}

fn may_send(side: Side, number: u32) -> bool {
    let mut frame = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut frame);
    frame.push(0);
    !matches!(decode_frame_from(side, frame.into()), Err(WireError::WrongSide { .. }))
}

#[test]
fn the_protocol_page_states_the_limits() {
    let page = protocol_page();
    let thousands = |number: usize| {
        let digits = number.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
        groups.join(",")
    };
    for (row, limit) in [
        ("| frame, before `Connected` | ", model::FRAME_BYTES_MAX_BEFORE_LOGIN),
        ("| frame from a client other than `Publish` | ", CONTROL_FRAME_BYTES_MAX),
        ("names of headers | ", model::NAME_BYTES_MAX),
        ("tables and lists nested ", FIELD_DEPTH_MAX),
        ("must have arrived within ", model::HANDSHAKE_MS as usize / 1000),
    ] {
        assert!(page.contains(&format!("{row}{} ", thousands(limit))), "{row}{limit}");
    }
}

#[test]
fn the_protocol_page_lists_the_reply_codes() {
    let page = protocol_page();
    let (_, table) = page.split_once("| Code | Name | Meaning |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let mut listed = 0;
    for line in table.lines().filter(|line| line.contains('_')) {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (code, name) = (cells.next().unwrap().parse().unwrap(), cells.next().unwrap());
        let error = pb::Error { code, ..Default::default() };
        assert_eq!(model::Refusal::try_from(error).unwrap().code.name(), name);
        listed += 1;
    }
    let known =
        (0..1000).filter(|&code| model::Refusal::try_from(pb::Error { code, ..Default::default() }).is_ok());
    assert_eq!(listed, known.count());
}

fn protocol_page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md")).unwrap()
}

/// A frame as lines of hex with what they mean: the form of the `.hex` files.
fn annotate(bytes: &[u8], descriptor: &MessageDescriptor) -> String {
    let (prefix, frame) = bytes.split_at(LENGTH_PREFIX_BYTES);
    let mut out = String::new();
    line(prefix, 0, &format!("length: {}", frame.len()), &mut out);
    annotate_message(frame, descriptor, 0, &mut out);
    out
}

fn annotate_message(mut bytes: &[u8], descriptor: &MessageDescriptor, depth: usize, out: &mut String) {
    while !bytes.is_empty() {
        let whole = bytes;
        let key = varint(&mut bytes);
        let field = descriptor.get_field((key >> 3) as u32).unwrap();
        let length = match key & 7 {
            0 => {
                let value = varint(&mut bytes);
                let read = &whole[..whole.len() - bytes.len()];
                line(read, depth, &format!("{}: {}", field.name(), number(value, &field)), out);
                continue;
            }
            2 => varint(&mut bytes) as usize,
            other => panic!("no golden frame has a field of wire type {other}"),
        };
        let head = &whole[..whole.len() - bytes.len()];
        let value = bytes.split_off(..length).unwrap();
        match field.kind() {
            Kind::Message(inner) => {
                let plural = if length == 1 { "byte" } else { "bytes" };
                line(head, depth, &format!("{}, {length} {plural}:", field.name()), out);
                annotate_message(value, &inner, depth + 1, out);
            }
            _ => {
                let value_text = value.escape_ascii();
                line(&[head, value].concat(), depth, &format!("{}: \"{value_text}\"", field.name()), out);
            }
        }
    }
}

fn number(value: u64, field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Enum(values) => values.get_value(value as i32).unwrap().name().to_owned(),
        Kind::Bool => (value != 0).to_string(),
        Kind::Sint64 => ((value >> 1) as i64 ^ -((value & 1) as i64)).to_string(),
        _ => value.to_string(),
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// Bytes of a field, 12 a line, with its meaning beside the first of them.
fn line(bytes: &[u8], depth: usize, meaning: &str, out: &mut String) {
    for (index, chunk) in bytes.chunks(12).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.join(" ");
        if index == 0 {
            writeln!(out, "{hex:<36}# {}{meaning}", "  ".repeat(depth)).unwrap();
        } else {
            writeln!(out, "{hex}").unwrap();
        }
    }
}
