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

    fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }
}
