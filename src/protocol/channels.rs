//! The channels of a connection, and which numbers of publishers and consumers are taken on each.

use std::collections::{HashMap, HashSet};

use crate::model::{Entity, Refusal, ReplyCode};

/// Highest number of a publisher or consumer.
const HANDLE_MAX: u32 = 65_535;
/// Publishers of one connection at most.
const PUBLISHERS_MAX: usize = 65_535;
/// Consumers of one connection at most, those included that have ended on channels that are open.
const CONSUMERS_MAX: usize = 65_535;

/// The channels that are open.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: HashMap<u32, Channel, foldhash::fast::RandomState>,
    /// Publishers of all channels.
    publishers: usize,
    /// Consumers of all channels.
    consumers: usize,
}

#[derive(Debug, Default)]
struct Channel {
    publishers: HashSet<u32, foldhash::fast::RandomState>,
    consumers: HashMap<u32, Consumer, foldhash::fast::RandomState>,
}

/// ```text
/// Consume ──▶ Starting ──▶ Live ──▶ Ended ──▶ (channel closed)
///                │                   │ ▲
///                │           Consume │ │ refused
///             refused                ▼ │
///                ▼            Starting again
///            (no number)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consumer {
    /// The broker has not answered.
    Starting {
        /// An earlier consumer has ended under this number, and may have left what is to be settled.
        again: bool,
    },
    /// Deliveries come.
    Live,
    /// None will come, but what came may be settled.
    Ended,
}

impl Channels {
    pub(super) fn contains(&self, channel: u32) -> bool {
        self.open.contains_key(&channel)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Refuses with 504 what names a channel that is not open.
    pub(super) fn check(&self, channel: u32) -> Result<(), Refusal> {
        if self.contains(channel) { Ok(()) } else { Err(not_open(channel)) }
    }

    /// Refuses with 504 a channel that is open.
    pub(super) fn open(&mut self, channel: u32) -> Result<(), Refusal> {
        if self.contains(channel) {
            return Err(Refusal::new(ReplyCode::ChannelError, format!("channel {channel} is open already"))
                .about(Entity::Channel, channel.to_string()));
        }
        self.open.insert(channel, Channel::default());
        Ok(())
    }

    /// Everything that belongs to the channel goes with it.
    pub(super) fn close(&mut self, channel: u32) -> Result<(), Refusal> {
        let closed = self.open.remove(&channel).ok_or_else(|| not_open(channel))?;
        self.publishers -= closed.publishers.len();
        self.consumers -= closed.consumers.len();
        if self.open.is_empty() {
            // Channels that were many leave no memory behind.
            self.open.shrink_to_fit();
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a number for a publisher. Refuses with 530 one that is taken, and one too many.
    pub(super) fn open_publisher(&mut self, channel: u32, publisher: u32) -> Result<(), Refusal> {
        check_handle("publisher", Entity::Publisher, publisher)?;
        let at = self.open.get_mut(&channel).ok_or_else(|| not_open(channel))?;
        if at.publishers.contains(&publisher) {
            let text = format!("publisher {publisher} is open on this channel already");
            return Err(Refusal::new(ReplyCode::NotAllowed, text)
                .about(Entity::Publisher, publisher.to_string())
                .field(
                    "publisher",
                    "a number that no publisher of this channel has",
                    publisher.to_string(),
                ));
        }
        if self.publishers >= PUBLISHERS_MAX {
            let text = format!("a connection may have {PUBLISHERS_MAX} publishers at most");
            return Err(Refusal::new(ReplyCode::NotAllowed, text).about(Entity::Connection, ""));
        }
        self.publishers += 1;
        at.publishers.insert(publisher);
        Ok(())
    }

    /// Gives a publisher's number back; one that nobody has is fine.
    pub(super) fn close_publisher(&mut self, channel: u32, publisher: u32) -> Result<(), Refusal> {
        check_handle("publisher", Entity::Publisher, publisher)?;
        let at = self.open.get_mut(&channel).ok_or_else(|| not_open(channel))?;
        self.publishers -= usize::from(at.publishers.remove(&publisher));
        Ok(())
    }

    /// Takes a number for a consumer that is to start. One whose consumer has ended may be taken again. Refuses with 530 one
    /// whose consumer has not, and one too many.
    pub(super) fn start_consumer(&mut self, channel: u32, consumer: u32) -> Result<(), Refusal> {
        check_handle("consumer", Entity::Consumer, consumer)?;
        let at = self.open.get_mut(&channel).ok_or_else(|| not_open(channel))?;
        match at.consumers.get_mut(&consumer) {
            Some(ended @ Consumer::Ended) => *ended = Consumer::Starting { again: true },
            Some(_) => return Err(in_use(consumer)),
            None if self.consumers >= CONSUMERS_MAX => {
                let text = format!("a connection may have {CONSUMERS_MAX} consumers at most");
                return Err(Refusal::new(ReplyCode::NotAllowed, text).about(Entity::Connection, ""));
            }
            None => {
                self.consumers += 1;
                at.consumers.insert(consumer, Consumer::Starting { again: false });
            }
        }
        Ok(())
    }

    /// The broker has answered to a consumer's start.
    pub(super) fn consumer_started(&mut self, channel: u32, consumer: u32, started: bool) {
        let Some(at) = self.open.get_mut(&channel) else { return };
        let Some(Consumer::Starting { again }) = at.consumers.get(&consumer).copied() else { return };
        if started || again {
            at.consumers.insert(consumer, if started { Consumer::Live } else { Consumer::Ended });
        } else {
            at.consumers.remove(&consumer);
            self.consumers -= 1;
        }
    }

    /// No more deliveries come.
    pub(super) fn consumer_ended(&mut self, channel: u32, consumer: u32) {
        let Some(at) = self.open.get_mut(&channel) else { return };
        if let Some(live @ Consumer::Live) = at.consumers.get_mut(&consumer) {
            *live = Consumer::Ended;
        }
    }
}

/// Refuses a number that no publisher or consumer may have.
pub(super) fn check_handle(field: &str, entity: Entity, handle: u32) -> Result<(), Refusal> {
    if (1..=HANDLE_MAX).contains(&handle) {
        return Ok(());
    }
    Err(Refusal::new(ReplyCode::SyntaxError, format!("no {field} may have the number {handle}"))
        .about(entity, handle.to_string())
        .field(field, format!("1 to {HANDLE_MAX}"), handle.to_string()))
}

fn not_open(channel: u32) -> Refusal {
    let (text, hint) = match channel {
        0 => {
            let hint = "open a channel with OpenChannel on a number from 1 on, and send it there";
            ("this frame belongs on a channel, not on channel 0".to_owned(), hint)
        }
        channel => (format!("channel {channel} is not open"), "open it with OpenChannel first"),
    };
    Refusal::new(ReplyCode::ChannelError, text).about(Entity::Channel, channel.to_string()).hint(hint)
}

fn in_use(consumer: u32) -> Refusal {
    Refusal::new(ReplyCode::NotAllowed, format!("consumer {consumer} is in use on this channel"))
        .about(Entity::Consumer, consumer.to_string())
        .field("consumer", "a number that no consumer of this channel has", consumer.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn code(result: Result<(), Refusal>) -> Option<ReplyCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_consumers_number_is_free_again_when_it_has_ended() {
        let mut channels = Channels::default();
        channels.open(1).unwrap();
        channels.start_consumer(1, 7).unwrap();
        assert_eq!(code(channels.start_consumer(1, 7)), Some(ReplyCode::NotAllowed), "it is starting");
        channels.consumer_started(1, 7, true);
        assert_eq!(code(channels.start_consumer(1, 7)), Some(ReplyCode::NotAllowed), "it is live");
        channels.consumer_ended(1, 7);
        channels.start_consumer(1, 7).unwrap();
        channels.consumer_started(1, 7, false);
        assert_eq!(channels.consumers, 1, "the first one may have left something to settle");
        channels.start_consumer(1, 7).unwrap();
    }

    #[test]
    fn a_consumer_that_was_refused_leaves_its_number() {
        let mut channels = Channels::default();
        channels.open(1).unwrap();
        channels.start_consumer(1, 7).unwrap();
        channels.consumer_started(1, 7, false);
        assert_eq!(channels.consumers, 0);
        channels.start_consumer(1, 7).unwrap();
    }

    #[test]
    fn numbers_go_with_their_channel() {
        let mut channels = Channels::default();
        for channel in [1, 2] {
            channels.open(channel).unwrap();
            channels.open_publisher(channel, 1).unwrap();
            channels.start_consumer(channel, 1).unwrap();
        }
        assert_eq!(code(channels.open_publisher(1, 1)), Some(ReplyCode::NotAllowed));
        channels.close(1).unwrap();
        assert_eq!((channels.publishers, channels.consumers), (1, 1));
        assert_eq!(code(channels.open_publisher(1, 1)), Some(ReplyCode::ChannelError));
        channels.open(1).unwrap();
        channels.open_publisher(1, 1).unwrap();
        channels.close_publisher(1, 1).unwrap();
        channels.close_publisher(1, 1).unwrap();
        assert_eq!((channels.publishers, channels.consumers), (1, 1));
    }

    #[test]
    fn a_connection_has_so_many_and_no_more() {
        let mut channels = Channels::default();
        channels.open(1).unwrap();
        channels.open(2).unwrap();
        for number in 1..=65_535 {
            channels.open_publisher(1, number).unwrap();
            channels.start_consumer(1, number).unwrap();
        }
        assert_eq!(code(channels.open_publisher(2, 1)), Some(ReplyCode::NotAllowed));
        assert_eq!(code(channels.start_consumer(2, 1)), Some(ReplyCode::NotAllowed));
        channels.close_publisher(1, 9).unwrap();
        channels.consumer_started(1, 9, false);
        channels.open_publisher(2, 1).unwrap();
        channels.start_consumer(2, 1).unwrap();
    }
}
