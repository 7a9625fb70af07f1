//! Published messages as the broker wants to see them.

use crate::broker::Publication;
use crate::message::{Delay, Expiration, Items, MessageRun};

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

    fn expirations(&self) -> &[Expiration] {
        self.expirations()
    }

    fn delays(&self) -> &[Delay] {
        self.delays()
    }

    fn with_further_keys(&self) -> &[u32] {
        self.with_further_keys()
    }

    fn asking_for_replies(&self) -> &[u32] {
        self.asking_for_replies()
    }

    fn set_reply_to(&mut self, address: &str, of: &[u32]) {
        // Messages of a frame were checked when it was decoded.
        if let Ok(others) = self.with_reply_to(address, of) {
            *self = others;
        }
    }

    fn remove_header(&mut self, name: &str, of: &[u32]) {
        // Messages of a frame were checked when it was decoded.
        if let Ok(others) = self.without_header(name, of) {
            *self = others;
        }
    }

    fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }
}
