//! A client: what it has under way, and what it holds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Waker};

use bytes::BytesMut;

use super::books::{MessageId, QueueNumber};
use super::delays::delays_of;
use super::limits::expirations_of;
use super::looking::Reading;
use super::moving::{Move, Places};
use super::order::priority_of;
use super::world::World;
use crate::broker::{BrowsedPage, FrontEnd, Introduction, Publication, Session, Word};
use crate::message::{Delay, Expiration, MessageRun, MessageRunBuilder, encode_item, encode_priority};

/// The one channel that a client has.
pub(super) const CHANNEL: u32 = 1;

/// The front end's side of a session.
#[derive(Debug)]
pub(super) struct Simulated;

impl FrontEnd for Simulated {
    type Messages = Messages;
    type Answer = Answer;
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Declared,
    Deleted,
    Bound,
    Unbound,
    Purged,
    Browsed(Box<BrowsedPage>),
    /// Sequences that were not ready.
    Removed(Vec<u64>),
}

/// Messages of one frame.
#[derive(Debug)]
pub(super) struct Messages {
    run: MessageRun,
    bodies_bytes: Vec<usize>,
    expirations: Vec<Expiration>,
    delays: Vec<Delay>,
}

impl Messages {
    /// Messages that carry their numbers, padded to so many bytes.
    pub(super) fn numbered(ids: impl IntoIterator<Item = (MessageId, usize)>) -> Self {
        let mut builder = MessageRunBuilder::default();
        let (mut bodies_bytes, mut numbers) = (Vec::new(), Vec::new());
        for (id, padding) in ids {
            builder.push(&item(id, padding));
            bodies_bytes.push(NUMBER_BYTES + padding);
            numbers.push(id);
        }
        let (expirations, delays) = (expirations_of(&numbers), delays_of(&numbers));
        Self { run: builder.finish(), bodies_bytes, expirations, delays }
    }
}

/// Bytes of a body's number.
const NUMBER_BYTES: usize = size_of::<MessageId>();

fn item(id: MessageId, padding: usize) -> BytesMut {
    let mut body = id.to_le_bytes().to_vec();
    // What a message holds follows from its number, so that others' bytes in it are seen.
    body.resize(NUMBER_BYTES + padding, pad(id));
    let mut item = BytesMut::new();
    encode_item(&encode_priority(priority_of(id)), &body, None, false, &mut item);
    item
}

/// Bytes of the message of this number, with a body that is padded to so many.
pub(super) fn message_bytes(id: MessageId, padding: usize) -> u64 {
    item(id, padding).len() as u64
}

/// What a body of so many bytes is padded with.
pub(super) fn padding_of(body_bytes: usize) -> usize {
    body_bytes.saturating_sub(NUMBER_BYTES)
}

fn pad(id: MessageId) -> u8 {
    (id % 251) as u8
}

/// The number in a body, if it is whole.
pub(super) fn number_of(body: &[u8]) -> Option<MessageId> {
    let (number, padding) = body.split_first_chunk::<8>()?;
    let id = MessageId::from_le_bytes(*number);
    padding.iter().all(|byte| *byte == pad(id)).then_some(id)
}

impl Publication for Messages {
    fn run(&self) -> &MessageRun {
        &self.run
    }

    fn has_keys(&self) -> bool {
        false
    }

    fn key(&self, _: usize) -> Option<&str> {
        None
    }

    fn expirations(&self) -> &[Expiration] {
        &self.expirations
    }

    fn delays(&self) -> &[Delay] {
        &self.delays
    }

    fn body_bytes_max(&self) -> usize {
        self.bodies_bytes.iter().copied().max().unwrap_or_default()
    }

    fn body_bytes(&self, index: usize) -> usize {
        self.bodies_bytes[index]
    }
}

/// A consumer, from its start to the end of the last message that it holds.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: QueueNumber,
    pub(super) no_ack: bool,
    pub(super) is_live: bool,
    /// Nobody else took anything from the queue since it started: then order holds, and with others it may get what came
    /// back from them.
    pub(super) is_alone: bool,
    /// Newest message of each publisher, and of each priority, that came and had not been delivered before.
    pub(super) newest: BTreeMap<(u32, u8), MessageId>,
}

/// What a request was for.
#[derive(Debug)]
pub(super) enum Pending {
    Topology,
    Consume {
        consumer: u32,
    },
    Cancel,
    Get {
        queue: QueueNumber,
        no_ack: bool,
    },
    Settle {
        messages: Vec<(MessageId, QueueNumber)>,
    },
    Purge,
    Read(Reading),
    /// A look at what is to be moved.
    MovePage {
        from: QueueNumber,
        to: QueueNumber,
    },
    /// What was published elsewhere is to be taken out.
    Remove {
        from: QueueNumber,
        messages: Places,
    },
}

#[derive(Debug)]
pub(super) struct Client {
    /// Never used twice.
    pub(super) number: u32,
    pub(super) session: Session<Simulated>,
    pub(super) consumers: BTreeMap<u32, Consumer>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Messages that it has, by consumer and tag; consumer 0: got one by one.
    pub(super) held: BTreeMap<(u32, u64), (MessageId, QueueNumber)>,
    /// Messages that were sent with this confirm sequence.
    pub(super) sent: BTreeMap<u64, MessageId>,
    pub(super) next_sequence: u64,
    /// Messages that it is moving.
    pub(super) moving: Option<Move>,
    next_request: u64,
    next_consumer: u32,
}

impl Client {
    pub(super) fn connect(world: &World, number: u32) -> Self {
        let introduction = Introduction {
            name: format!("client {number}"),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            client: BTreeMap::new(),
            connected_at_ms: 0,
        };
        let session = world.enter(|| Session::open(world.broker.clone(), world.log_in(), None, introduction));
        Self {
            number,
            session,
            consumers: BTreeMap::new(),
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_sequence: 1,
            moving: None,
            next_request: 1,
            next_consumer: 1,
        }
    }

    /// Notes a request, and gives it a number.
    pub(super) fn request(&mut self, pending: Pending) -> u64 {
        self.next_request += 1;
        self.pending.insert(self.next_request, pending);
        self.next_request
    }

    pub(super) fn new_consumer(&mut self, queue: QueueNumber, no_ack: bool) -> u32 {
        self.next_consumer += 1;
        let newest = BTreeMap::new();
        let consumer = Consumer { queue, no_ack, is_live: true, is_alone: true, newest };
        self.consumers.insert(self.next_consumer, consumer);
        self.next_consumer
    }

    /// What the broker has to say.
    pub(super) fn words(&mut self) -> Vec<Word<Simulated>> {
        let mut context = Context::from_waker(Waker::noop());
        let mut words = Vec::new();
        if self.session.poll_words(&mut context, true).is_ready() {
            while let Some(word) = self.session.next_word(true) {
                words.push(word);
            }
        }
        words
    }
}
