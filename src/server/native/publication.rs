//! Published messages as the broker wants to see them.

use crate::broker::{HashedProperties, Publication};
use crate::message::MessageRun;
use crate::message::{DeliveredItem, Items, headers_of, message_id_of, properties_of};
use crate::model::{FieldTable, Refusal};

impl Publication for Items {
    fn run(&self) -> &MessageRun {
        &self.run
    }

    fn has_keys(&self) -> bool {
        self.has_keys()
    }

    fn key(&self, index: usize) -> Option<&str> {
        self.key(index)
    }

    fn message_id(&self, index: usize) -> Option<&str> {
        message_id_of(self.run.item(index))
    }

    fn headers(&self, index: usize) -> Result<Option<FieldTable>, Box<Refusal>> {
        headers_of(self.run.item(index)).map_err(|fault| Box::new(fault.refusal()))
    }

    fn hashed_properties(&self, index: usize) -> Result<HashedProperties, Box<Refusal>> {
        let item = self.run.item(index);
        let properties = properties_of(item).map_err(|fault| Box::new(fault.refusal()))?;
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(HashedProperties {
            message_id: given(properties.message_id),
            correlation_id: given(properties.correlation_id),
            timestamp_ms: properties.timestamp_ms,
        })
    }

    fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    fn body_bytes(&self, index: usize) -> usize {
        let range = self.run.start(index)..self.run.start(index) + self.run.item(index).len();
        // An item was checked when its frame was decoded.
        DeliveredItem::decode(&self.run.bytes().slice(range)).map_or(0, |item| item.body.len())
    }
}
