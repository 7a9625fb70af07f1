//! Field tables to protobuf and back.

use super::fault::ItemFault;
use super::properties::FIELD_DEPTH_MAX;
use crate::model::{FieldTable, FieldValue, NAME_BYTES_MAX};
use crate::pb;
use crate::pb::field_value::Kind;

impl TryFrom<pb::FieldTable> for FieldTable {
    type Error = ItemFault;

    /// Refuses names of more than 255 bytes and more than 16 levels of tables and lists.
    fn try_from(table: pb::FieldTable) -> Result<Self, ItemFault> {
        table_from(table, 1)
    }
}

fn table_from(table: pb::FieldTable, depth: usize) -> Result<FieldTable, ItemFault> {
    check_depth(depth)?;
    let mut fields = FieldTable::default();
    for (name, value) in table.fields {
        if name.len() > NAME_BYTES_MAX {
            return Err(ItemFault::TooLong { field: "the name of a field", bytes: name.len() });
        }
        fields.0.insert(name, value_from(value, depth)?);
    }
    Ok(fields)
}

fn value_from(value: pb::FieldValue, depth: usize) -> Result<FieldValue, ItemFault> {
    Ok(match value.kind {
        None => FieldValue::Void,
        Some(Kind::Boolean(value)) => FieldValue::Boolean(value),
        Some(Kind::Integer(value)) => FieldValue::Integer(value),
        Some(Kind::Unsigned(value)) => FieldValue::Unsigned(value),
        Some(Kind::Double(value)) => FieldValue::Double(value),
        Some(Kind::Text(value)) => FieldValue::Text(value),
        Some(Kind::Bytes(value)) => FieldValue::Bytes(value.into()),
        Some(Kind::TimestampSeconds(value)) => FieldValue::TimestampSeconds(value),
        Some(Kind::Table(table)) => FieldValue::Table(table_from(table, depth + 1)?),
        Some(Kind::List(list)) => {
            check_depth(depth + 1)?;
            let values = list.values.into_iter().map(|value| value_from(value, depth + 1));
            FieldValue::List(values.collect::<Result<_, _>>()?)
        }
        Some(Kind::Decimal(decimal)) => FieldValue::Decimal { scale: decimal.scale, value: decimal.value },
    })
}

fn check_depth(depth: usize) -> Result<(), ItemFault> {
    if depth > FIELD_DEPTH_MAX { Err(ItemFault::TooDeep { max: FIELD_DEPTH_MAX }) } else { Ok(()) }
}

impl From<&FieldTable> for pb::FieldTable {
    /// Depth is not checked here: the side that receives the table checks it.
    fn from(table: &FieldTable) -> Self {
        Self { fields: table.0.iter().map(|(name, value)| (name.clone(), value.into())).collect() }
    }
}

impl From<&FieldValue> for pb::FieldValue {
    fn from(value: &FieldValue) -> Self {
        let kind = match value {
            FieldValue::Void => None,
            FieldValue::Boolean(value) => Some(Kind::Boolean(*value)),
            FieldValue::Integer(value) => Some(Kind::Integer(*value)),
            FieldValue::Unsigned(value) => Some(Kind::Unsigned(*value)),
            FieldValue::Double(value) => Some(Kind::Double(*value)),
            FieldValue::Text(value) => Some(Kind::Text(value.clone())),
            FieldValue::Bytes(value) => Some(Kind::Bytes(value.clone().into())),
            FieldValue::TimestampSeconds(value) => Some(Kind::TimestampSeconds(*value)),
            FieldValue::Table(table) => Some(Kind::Table(table.into())),
            FieldValue::List(values) => {
                Some(Kind::List(pb::FieldList { values: values.iter().map(Into::into).collect() }))
            }
            FieldValue::Decimal { scale, value } => {
                Some(Kind::Decimal(pb::Decimal { scale: *scale, value: *value }))
            }
        };
        Self { kind }
    }
}
