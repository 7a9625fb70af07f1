//! Whether a queue has a single active consumer, as the arguments of its declaration say it.

use crate::model::{FieldTable, FieldValue, SINGLE_ACTIVE_CONSUMER};

/// What the argument says if it is neither true nor false.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NeitherWay(pub(super) FieldValue);

/// Whether a queue with these arguments has a single active consumer.
///
/// # Errors
/// The argument, if it is neither true nor false.
pub(super) fn single_active_of(arguments: &FieldTable) -> Result<bool, NeitherWay> {
    match arguments.value(SINGLE_ACTIVE_CONSUMER) {
        None => Ok(false),
        Some(FieldValue::Boolean(is_single)) => Ok(*is_single),
        Some(other) => Err(NeitherWay(other.clone())),
    }
}
