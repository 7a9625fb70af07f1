//! Frames in every form that protobuf allows: fields in any order, repeated, unknown ones between them, numbers with
//! more bytes than they need.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;

type Encoded = BoxedStrategy<Vec<u8>>;

/// A frame with one of the hot kinds, or now and then several bodies, or none.
pub(super) fn frame() -> Encoded {
    let body = prop_oneof![
        4 => nested(3, publish()),
        2 => nested(4, confirm()),
        4 => nested(6, deliver()),
        2 => nested(7, settle()),
        1 => nested(8, any_of(vec![number(1), number(2)])),
    ]
    .boxed();
    let head = any_of(vec![number(1), number(2)]);
    let bodies = prop_oneof![1 => Just(0usize), 8 => Just(1), 2 => Just(2)];
    let bodies = bodies.prop_flat_map(move |count| vec(body.clone(), count));
    (head.clone(), bodies, head)
        .prop_map(|(before, bodies, after)| [before, bodies.concat(), after].concat())
        .boxed()
}

fn publish() -> Encoded {
    let target = any_of(vec![text(1), text(2), number(3), number(4)]);
    any_of(vec![number(1), number(2), nested(3, target), items(), items(), items()])
}

fn deliver() -> Encoded {
    any_of(vec![number(1), number(2), text(3), text(4), items(), items(), items()])
}

/// Items back to back, as nearly all are, or one in any form.
fn items() -> Encoded {
    prop_oneof![vec(nested(5, regular_item()), 1..4).prop_map(|items| items.concat()), nested(5, item())]
        .boxed()
}

fn regular_item() -> Encoded {
    let message = (maybe(plain(1, properties())), maybe(bytes(2))).prop_map(|(a, b)| [a, b].concat()).boxed();
    (
        plain(1, message),
        maybe(text(2)),
        maybe(Just(vec![0x18, 1]).boxed()),
        maybe(Just(vec![0x20, 1]).boxed()),
    )
        .prop_map(|(message, key, resent, redelivered)| [message, key, resent, redelivered].concat())
        .boxed()
}

fn item() -> Encoded {
    let message = any_of(vec![nested(1, properties()), bytes(2)]);
    any_of(vec![nested(1, message.clone()), nested(1, message), text(2), number(3), number(4), number(5)])
}

fn properties() -> Encoded {
    let mut fields: Vec<Encoded> = [1, 2, 5, 6, 8, 10, 11, 12].map(text).into();
    fields.push(nested(3, table(2)));
    fields.extend([7, 9].map(number));
    fields.extend([small(4, 300), small(13, 4)]);
    any_of(fields)
}

fn table(depth: u32) -> Encoded {
    any_of(vec![nested(1, any_of(vec![text(1), nested(2, value(depth))]))])
}

fn value(depth: u32) -> Encoded {
    let decimal = any_of(vec![number(1), number(2)]);
    let mut kinds =
        vec![number(1), number(2), number(3), fixed64(4), text(5), bytes(6), number(7), nested(10, decimal)];
    if depth > 0 {
        kinds.push(nested(8, table(depth - 1)));
        kinds.push(nested(9, any_of(vec![nested(1, value(depth - 1))])));
    }
    any_of(kinds)
}

fn confirm() -> Encoded {
    let refusal = any_of(vec![number(1), text(2), text(3), number(9)]);
    let range = any_of(vec![number(1), number(2), small(3, 6), number(4), nested(5, refusal)]);
    any_of(vec![number(1), nested(2, range)])
}

fn settle() -> Encoded {
    any_of(vec![number(1), nested(2, any_of(vec![number(1), number(2), small(3, 6)]))])
}

/// Any number of these fields in any order, with unknown ones and rare nonsense between them.
fn any_of(fields: Vec<Encoded>) -> Encoded {
    let known = proptest::strategy::Union::new(fields).boxed();
    let field = prop_oneof![60 => known, 6 => unknown(), 1 => nonsense()];
    vec(field, 0..5).prop_map(|fields| fields.concat()).boxed()
}

fn unknown() -> Encoded {
    let inner =
        (900u32..1000, any::<u8>()).prop_map(|(field, value)| [key(field, 0), vec![value & 0x7f]].concat());
    let field = prop_oneof![Just(14u32), Just(15), 60u32..70, Just((1 << 29) - 1)];
    (field, 0u32..5, vec(any::<u8>(), 0..10), inner)
        .prop_map(|(field, form, bytes, inner)| match form {
            0 => {
                [key(field, 0), varint(u64::from(bytes.first().copied().unwrap_or(0)), bytes.len())].concat()
            }
            1 => [key(field, 1), vec![7; 8]].concat(),
            2 => [key(field, 2), varint(bytes.len() as u64, 0), bytes].concat(),
            3 => [key(field, 3), inner, key(field, 4)].concat(),
            _ => [key(field, 5), vec![7; 4]].concat(),
        })
        .boxed()
}

/// Bytes that may or may not continue a message: wrong wire types, cut values, ends of groups.
fn nonsense() -> Encoded {
    vec(any::<u8>(), 0..4).boxed()
}

fn number(field: u32) -> Encoded {
    let value = prop_oneof![Just(0u64), 1u64..200, any::<u64>(), any::<u32>().prop_map(u64::from)];
    (value, padding(), padding())
        .prop_map(move |(value, a, b)| [padded_key(field, 0, a), varint(value, b)].concat())
        .boxed()
}

fn small(field: u32, end: u64) -> Encoded {
    (0..end, padding()).prop_map(move |(value, a)| [key(field, 0), varint(value, a)].concat()).boxed()
}

fn fixed64(field: u32) -> Encoded {
    any::<f64>().prop_map(move |value| [key(field, 1), value.to_le_bytes().to_vec()].concat()).boxed()
}

fn text(field: u32) -> Encoded {
    let text = prop_oneof![
        20 => "[a-zé]{0,12}".prop_map(String::into_bytes),
        1 => (250usize..260).prop_map(|length| vec![b'x'; length]),
        1 => Just(vec![0xff, 0xfe]),
    ];
    nested(field, text.boxed())
}

fn bytes(field: u32) -> Encoded {
    nested(field, vec(any::<u8>(), 0..40).boxed())
}

fn nested(field: u32, contents: Encoded) -> Encoded {
    (contents, padding(), padding())
        .prop_map(move |(contents, a, b)| {
            [padded_key(field, 2, a), varint(contents.len() as u64, b), contents].concat()
        })
        .boxed()
}

/// A length-delimited field in the shortest form.
fn plain(field: u32, contents: Encoded) -> Encoded {
    contents
        .prop_map(move |contents| [key(field, 2), varint(contents.len() as u64, 0), contents].concat())
        .boxed()
}

fn maybe(field: Encoded) -> Encoded {
    prop_oneof![Just(Vec::new()), field].boxed()
}

/// Needless bytes of a number; nearly always none.
fn padding() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![40 => Just(0usize), 1 => 1usize..4]
}

fn key(field: u32, wire_type: u32) -> Vec<u8> {
    padded_key(field, wire_type, 0)
}

fn padded_key(field: u32, wire_type: u32, padding: usize) -> Vec<u8> {
    varint(u64::from(field << 3 | wire_type), padding)
}

/// A varint with up to `padding` bytes more than it needs, as far as ten bytes allow.
fn varint(mut value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    for _ in 0..padding.min(10 - bytes.len()) {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    }
    bytes
}
