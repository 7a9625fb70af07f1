//! Seeing messages again that consumers are done with, as far as their queue retains them.

use std::collections::vec_deque::VecDeque;

use super::browse::{Browse, BrowsedMessage, Browser};
use super::channel::Channel;
use super::error::RequestError;
use crate::model::Timestamp;

/// What is to be seen again: all that the queue retains, unless it is told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    browse: Browse,
}

impl Replay {
    /// Of a queue, which was declared to retain messages ([`Queue::retain`](super::Queue::retain)).
    pub fn of_queue(name: impl Into<String>) -> Self {
        Self { browse: Browse { retained: true, ..Browse::new(name) } }
    }

    /// Of a subscription all members of which share a queue; with `member` of the one that this member has.
    pub fn of_subscription(name: &str, member: Option<&str>) -> Self {
        Self::of_queue(match member {
            Some(member) => format!("sub:{name}:{member}"),
            None => format!("sub:{name}"),
        })
    }

    /// Only what came at this time or later, to the second: some that came within the second before are seen, too; of what is
    /// older than a quarter of an hour, to a thousandth of its age.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.browse.came_since = Some(time);
        self
    }

    /// Only what came before this time, to the second.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.browse.came_before = Some(time);
        self
    }

    /// Only the newest so many.
    pub fn last(mut self, messages: u64) -> Self {
        self.browse.newest = Some(messages);
        self
    }

    /// Only what comes behind the message with this sequence: to go on where an earlier replay ended.
    pub fn after(mut self, sequence: u64) -> Self {
        self.browse.after = Some(sequence);
        self
    }

    /// Only messages whose routing key matches this pattern, as in a binding of a topic exchange.
    pub fn routing_key(mut self, pattern: impl Into<String>) -> Self {
        self.browse.routing_key = Some(pattern.into());
        self
    }

    /// Only messages with a header of this name that has this value, as it is written as text.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.browse.header = Some((name.into(), value.into()));
        self
    }
}

/// Messages that are seen again, in the order in which they were published. Each is
/// [`replayed`](BrowsedMessage::replayed); there is nothing to settle, and nobody else notices.
///
/// It ends with the newest message that the queue had when it began. It is read in pages: how far it is held back by whoever
/// takes the messages is how slowly it goes, and 4,096 messages of 2 MiB together, or a single one, are in memory at most.
#[derive(Debug)]
pub struct Replayer {
    browser: Browser,
    page: VecDeque<BrowsedMessage>,
    retained: u64,
}

impl Channel {
    /// Shows messages again that consumers of a queue are done with.
    pub fn replay(&self, what: Replay) -> Replayer {
        Replayer { browser: self.browse(what.browse), page: VecDeque::new(), retained: 0 }
    }
}

impl Replayer {
    /// The next message; `None`: that was all.
    ///
    /// # Errors
    /// If the server refuses; 404 if the queue is gone, or another one has its name. It can be called again.
    ///
    /// # Cancel safety
    /// No message is lost by it.
    pub async fn next(&mut self) -> Option<Result<BrowsedMessage, RequestError>> {
        loop {
            if let Some(message) = self.page.pop_front() {
                return Some(Ok(message));
            }
            match self.browser.next_page().await {
                Ok(Some(page)) => {
                    self.retained = page.messages_retained;
                    self.page = page.messages.into();
                }
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Messages that the queue retained when the last page was made; 0 before the first.
    pub fn messages_retained(&self) -> u64 {
        self.retained
    }
}
