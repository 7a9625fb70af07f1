//! Generated types and the words of `model`.

use crate::message::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message as _;

use super::super::*;
use crate::model::{Durability, Entity, FieldTable, FieldValue, Refusal, ReplyCode};

fn value() -> impl Strategy<Value = FieldValue> {
    let leaf = prop_oneof![
        Just(FieldValue::Void),
        any::<bool>().prop_map(FieldValue::Boolean),
        any::<i64>().prop_map(FieldValue::Integer),
        any::<u64>().prop_map(FieldValue::Unsigned),
        proptest::num::f64::NORMAL.prop_map(FieldValue::Double),
        ".{0,10}".prop_map(FieldValue::Text),
        vec(any::<u8>(), 0..10).prop_map(FieldValue::Bytes),
        any::<i64>().prop_map(FieldValue::TimestampSeconds),
        (any::<u32>(), any::<i64>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
    ];
    leaf.prop_recursive(6, 30, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(FieldValue::List),
            btree_map(".{0,5}", inner, 0..4).prop_map(|fields| FieldValue::Table(FieldTable(fields))),
        ]
    })
}

proptest! {
    #[test]
    fn tables_go_both_ways(fields in btree_map(".{0,10}", value(), 0..5)) {
        let table = FieldTable(fields);
        let encoded = pb::FieldTable::from(&table).encode_to_vec();
        let decoded = pb::FieldTable::decode(&encoded[..]).unwrap();
        prop_assert_eq!(FieldTable::try_from(decoded), Ok(table));
    }

    #[test]
    fn depth_is_judged_alike_everywhere(levels in 1usize..24, is_list in any::<bool>()) {
        let mut table = FieldTable::default();
        for _ in 1..levels {
            let inner = if is_list {
                let inner = table.0.remove("x").unwrap_or(FieldValue::Void);
                FieldValue::List(vec![inner])
            } else {
                FieldValue::Table(table)
            };
            table = FieldTable::from([("x", inner)]);
        }
        let wire = pb::FieldTable::from(&table);
        let properties = pb::Properties { headers: Some(wire.clone()), ..Default::default() }.encode_to_vec();
        let mut item = bytes::BytesMut::new();
        encode_item(&properties, b"", None, false, &mut item);
        let is_fine = levels <= FIELD_DEPTH_MAX;
        prop_assert_eq!(FieldTable::try_from(wire).is_ok(), is_fine);
        prop_assert_eq!(DeliveredItem::decode(&item.clone().freeze()).is_ok(), is_fine);
        prop_assert_eq!(headers_of(&item).is_ok(), is_fine);
    }
}

#[test]
fn long_names_are_refused() {
    let table = FieldTable([("x".repeat(256), FieldValue::Void)].into());
    let fault = FieldTable::try_from(pb::FieldTable::from(&table)).unwrap_err();
    assert_eq!(fault, ItemFault::TooLong { field: "the name of a field", bytes: 256 });
}

#[test]
fn refusals_go_both_ways() {
    let refusal = Refusal::new(ReplyCode::PreconditionFailed, "it differs")
        .about(Entity::Queue, "orders")
        .field("durable", "true", "false")
        .hint("declare it as it is")
        .retryable();
    let error = pb::Error::from(&refusal);
    assert_eq!((error.code, error.name.as_str()), (406, "PRECONDITION_FAILED"));
    assert_eq!(Refusal::try_from(error), Ok(refusal));

    let bare = Refusal::new(ReplyCode::InternalError, "");
    assert_eq!(Refusal::try_from(pb::Error::from(&bare)), Ok(bare));
}

#[test]
fn every_reply_code_and_entity_is_read_back() {
    for code in [
        ReplyCode::ContentTooLarge,
        ReplyCode::NoRoute,
        ReplyCode::ConnectionForced,
        ReplyCode::AccessRefused,
        ReplyCode::NotFound,
        ReplyCode::ResourceLocked,
        ReplyCode::PreconditionFailed,
        ReplyCode::FrameError,
        ReplyCode::SyntaxError,
        ReplyCode::CommandInvalid,
        ReplyCode::ChannelError,
        ReplyCode::ResourceError,
        ReplyCode::NotAllowed,
        ReplyCode::NotImplemented,
        ReplyCode::InternalError,
    ] {
        let error = pb::Error::from(&Refusal::new(code, "text"));
        assert_eq!(Refusal::try_from(error).unwrap().code, code);
    }
    for entity in [
        Entity::Connection,
        Entity::Channel,
        Entity::Frame,
        Entity::Exchange,
        Entity::Queue,
        Entity::Binding,
        Entity::Publisher,
        Entity::Consumer,
        Entity::Message,
        Entity::User,
        Entity::Vhost,
        Entity::Subscription,
    ] {
        let error = pb::Error::from(&Refusal::new(ReplyCode::NotFound, "").about(entity, "name"));
        assert_eq!(Refusal::try_from(error).unwrap().entity, Some((entity, "name".to_owned())));
    }
}

#[test]
fn an_unknown_reply_code_keeps_what_was_said() {
    let error =
        pb::Error { code: 999, name: "FROM_THE_FUTURE".into(), text: "no".into(), ..Default::default() };
    let unknown = Refusal::try_from(error.clone()).unwrap_err();
    assert_eq!(*unknown.0, error);
    assert_eq!(unknown.to_string(), "999 FROM_THE_FUTURE: no");
}

#[test]
fn durability_goes_both_ways() {
    for durability in [Durability::Memory, Durability::Written, Durability::Synced, Durability::Quorum] {
        assert_eq!(Durability::try_from(pb::DurabilityLevel::from(durability)), Ok(durability));
    }
    assert_eq!(Durability::try_from(pb::DurabilityLevel::Unspecified), Err(UnknownDurability(0)));
}
