//! Published messages as the broker wants to see them.

use crate::broker::Publication;
use crate::message::Items;
use crate::message::MessageRun;

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
