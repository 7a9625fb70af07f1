//! Who waits for replies that wait in no queue: `amq.rabbitmq.reply-to`.
//!
//! A requester is a consumer of nothing that is stored. What is published to its address goes straight to its connection, or nowhere.
//! An address is known to whoever got it with a message, and cannot be guessed: it ends with 128 random bits.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::catalog::DeclaredQueue;
use super::platform::{NoRandomness, Platform};
use crate::model::{
    DeliveryTag, Entity, FieldTable, QueueId, QueueName, REPLY_ADDRESS_PREFIX, REPLY_TO, Refusal, ReplyCode,
    RoutingKey, VhostName, is_reply_address,
};
use crate::routing::{Binding, Destination, ExplainedBinding, Explanation};
use crate::shard::{ConsumerKey, Delivery, Event, Origin, Outlet, Piece};

/// Bytes of replies that wait for one requester's socket, unless a single one has more.
const REPLIES_BYTES_MAX: u64 = 1024 * 1024;
/// What a reply takes beside its own bytes while it waits.
const BYTES_AROUND_REPLY: u64 = 256;
/// Numbers of queues from here on stand for requesters: the catalog counts its own from 1.
const FIRST_REQUESTER: u64 = 1 << 63;

/// Who waits for replies.
#[derive(Debug)]
pub(super) struct Requester {
    address: String,
    pub(super) key: ConsumerKey,
    /// Stands where deliveries name their queue.
    pub(super) queue: QueueId,
    outlet: Outlet,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of replies on their way to the socket.
    bytes: u64,
    /// Replies that are still wanted; `None`: all.
    credit: Option<u32>,
    next_tag: u64,
}

/// Why a reply did not go to its requester.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// Too much waits for its socket.
    Slow,
    /// It has not asked for more.
    NoCredit,
}

/// A requester to be.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) key: ConsumerKey,
    /// Replies that are wanted at first; `None`: all.
    pub(super) credit: Option<u32>,
    pub(super) outlet: Outlet,
}

impl Requester {
    /// Under which replies come.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Hands a reply to its connection.
    pub(super) fn offer(&self, origin: &Arc<Origin>, item: &[u8]) -> Result<(), NotTaken> {
        let bytes = item.len() as u64 + BYTES_AROUND_REPLY;
        let mut state = self.state();
        if state.bytes > 0 && state.bytes + bytes > REPLIES_BYTES_MAX {
            return Err(NotTaken::Slow);
        }
        match &mut state.credit {
            Some(0) => return Err(NotTaken::NoCredit),
            Some(credit) => *credit -= 1,
            None => {}
        }
        state.bytes += bytes;
        let tag = DeliveryTag(state.next_tag);
        state.next_tag += 1;
        let delivery = Delivery {
            queue: self.queue,
            consumer: self.key,
            first_tag: tag,
            count: 1,
            origin: Arc::clone(origin),
            // A copy, so that it does not hold the frame that it came in.
            pieces: vec![Piece { bytes: Bytes::copy_from_slice(item), count: 1 }],
            redelivered: false,
            delivery_count: 0,
            window_bytes: bytes,
        };
        // Under the lock, so that tags come in order. A connection that has closed its outlet is about to be gone.
        let _ = self.outlet.push(Event::Delivery(delivery));
        Ok(())
    }

    /// Replies of so many bytes reached the socket.
    pub(super) fn written(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// So many more replies are wanted.
    pub(super) fn add_credit(&self, add: u32) {
        if let Some(credit) = &mut self.state().credit {
            *credit = credit.saturating_add(add);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NotTaken {
    /// What whoever replies is told.
    pub(super) fn refusal(self, address: &str) -> Refusal {
        let (text, field) = match self {
            Self::Slow => ("has not read the replies before it", "replies waiting"),
            Self::NoCredit => ("wants no more replies now", "credit"),
        };
        Refusal::new(ReplyCode::ResourceError, format!("the reply was dropped: its requester {text}"))
            .about(Entity::Consumer, address)
            .field(
                field,
                match self {
                    Self::Slow => format!("at most {REPLIES_BYTES_MAX} bytes"),
                    Self::NoCredit => "1 or more".to_owned(),
                },
                match self {
                    Self::Slow => "more",
                    Self::NoCredit => "0",
                },
            )
            .hint("replies wait in no queue: who asks has to read, or to ask again")
            .retryable()
    }
}

/// The requesters of a vhost.
#[derive(Debug, Default)]
pub(super) struct Requesters {
    by_address: Mutex<HashMap<String, Arc<Requester>>>,
    /// Replies that were dropped since their requesters were slow or wanted none.
    dropped: AtomicU64,
    next: AtomicU64,
}

impl Requesters {
    /// Gives somebody an address under which replies come from now on.
    pub(super) fn add(&self, platform: &Platform, waiting: Waiting) -> Result<Arc<Requester>, NoRandomness> {
        let Waiting { key, credit, outlet } = waiting;
        let token = Token(platform.random()?);
        let requester = Arc::new(Requester {
            address: format!("{REPLY_ADDRESS_PREFIX}{token}"),
            key,
            queue: QueueId(FIRST_REQUESTER + self.next.fetch_add(1, Ordering::Relaxed)),
            outlet,
            state: Mutex::new(State { bytes: 0, credit, next_tag: 1 }),
        });
        self.by_address().insert(requester.address.clone(), Arc::clone(&requester));
        Ok(requester)
    }

    /// Nothing goes to it any more.
    pub(super) fn remove(&self, requester: &Requester) {
        self.by_address().remove(requester.address());
    }

    /// Who waits for replies under a routing key, if it is such an address and somebody does.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Requester>> {
        match is_reply_address(key) {
            true => self.by_address().get(key).cloned(),
            false => None,
        }
    }

    /// Whether somebody waits for replies, as a declaration of such a queue wants to know; `None`: the name is that of a queue.
    pub(super) fn look(&self, name: &str, vhost: &VhostName) -> Option<Result<DeclaredQueue, Refusal>> {
        if name != REPLY_TO && !is_reply_address(name) {
            return None;
        }
        let declared = |name| DeclaredQueue { name, messages_ready: 0, consumers: 1 };
        Some(match QueueName::new(name) {
            Ok(name) if name.as_str() == REPLY_TO || self.find(&name).is_some() => Ok(declared(name)),
            _ => Err(nobody_waits(name, vhost)),
        })
    }

    /// Says what comes of a message to the default exchange under keys that may be addresses of requesters.
    pub(super) fn explain<'k>(&self, keys: impl Iterator<Item = &'k str>, explanation: &mut Explanation) {
        let Some(first) = explanation.exchanges.first_mut() else { return };
        for key in keys.filter(|key| is_reply_address(key)) {
            // A routing key is no longer than a name may be.
            let (Ok(address), Ok(key)) = (QueueName::new(key), RoutingKey::new(key)) else { continue };
            let (matched, reason) = match self.find(&key) {
                Some(_) => (
                    true,
                    "somebody waits for replies under this address: it goes straight there, and nothing is stored",
                ),
                None => (false, "nobody waits for replies under this address any more"),
            };
            let binding = Binding {
                source: first.name.clone(),
                destination: Destination::Queue(address),
                key,
                arguments: FieldTable::default(),
            };
            let reason = reason.to_owned();
            first.bindings.push(ExplainedBinding { binding: Arc::new(binding), matched, reason });
            if matched {
                first.alternate_note = "not needed: somebody waits for it as a reply".to_owned();
            }
        }
    }

    pub(super) fn note_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Replies that were dropped since their requesters were slow or wanted none.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<String, Arc<Requester>>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What cannot be guessed of an address.
struct Token([u8; 16]);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Nothing is bound to the address of a requester: 403.
pub(super) fn check_no_requester(binding: &Binding) -> Result<(), Refusal> {
    match &binding.destination {
        Destination::Queue(name) if is_reply_address(name) => {
            let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
            Err(Refusal::new(ReplyCode::AccessRefused, text)
                .about(Entity::Queue, name.as_str())
                .hint("only the default exchange leads to who waits for replies"))
        }
        _ => Ok(()),
    }
}

/// 406 for what a requester cannot be.
pub(super) fn cannot_wait(text: &str, hint: &str) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Queue, REPLY_TO).hint(hint)
}

/// Nobody waits for replies under an address.
pub(super) fn nobody_waits(address: &str, vhost: &VhostName) -> Refusal {
    Refusal::new(
        ReplyCode::NotFound,
        format!("no queue '{address}' in vhost '{vhost}': nobody waits for replies under this address"),
    )
    .about(Entity::Queue, address)
    .hint("the requester has gone, or has cancelled its consumer")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{ConnectionId, ExchangeName};
    use crate::shard::Mailbox;

    fn requester(requesters: &Requesters, credit: Option<u32>) -> (Arc<Requester>, Outlet) {
        let outlet = Outlet::new(Mailbox::default());
        let key = ConsumerKey::consumer(ConnectionId(1), 1, 1);
        let waiting = Waiting { key, credit, outlet: Arc::clone(&outlet) };
        (requesters.add(&Platform::of_system(), waiting).unwrap(), outlet)
    }

    fn offer(requester: &Requester, bytes: usize) -> Result<(), NotTaken> {
        let exchange = ExchangeName::new("").unwrap();
        let origin = Arc::new(Origin { exchange, routing_key: RoutingKey::default() });
        requester.offer(&origin, &vec![b'x'; bytes])
    }

    fn tags(outlet: &Outlet) -> Vec<u64> {
        let mut events = Vec::new();
        outlet.take_more(&mut events);
        let tag = |event| match event {
            Event::Delivery(delivery) => delivery.first_tag.0,
            other => panic!("no delivery: {other:?}"),
        };
        events.into_iter().map(tag).collect()
    }

    #[test]
    fn what_waits_for_a_socket_is_bounded_and_one_reply_always_fits() {
        let (requester, outlet) = requester(&Requesters::default(), None);
        assert_eq!(offer(&requester, 3 * REPLIES_BYTES_MAX as usize), Ok(()));
        assert_eq!(offer(&requester, 1), Err(NotTaken::Slow));
        requester.written(3 * REPLIES_BYTES_MAX + BYTES_AROUND_REPLY);
        let each = REPLIES_BYTES_MAX as usize / 4 - BYTES_AROUND_REPLY as usize;
        assert_eq!([(); 5].map(|()| offer(&requester, each).is_ok()), [true, true, true, true, false]);
        assert_eq!(tags(&outlet), [1, 2, 3, 4, 5], "what was dropped has no tag");
    }

    #[test]
    fn no_more_replies_go_than_are_wanted() {
        let (requester, outlet) = requester(&Requesters::default(), Some(1));
        assert_eq!((offer(&requester, 1), offer(&requester, 1)), (Ok(()), Err(NotTaken::NoCredit)));
        requester.add_credit(2);
        assert_eq!([(); 3].map(|()| offer(&requester, 1).is_ok()), [true, true, false]);
        assert_eq!(tags(&outlet), [1, 2, 3]);
    }

    #[test]
    fn an_address_is_known_as_long_as_its_requester_is() {
        let (here, there) = (Requesters::default(), Requesters::default());
        let (requester, _outlet) = requester(&here, None);
        assert!(here.find(requester.address()).is_some_and(|found| Arc::ptr_eq(&found, &requester)));
        assert!(there.find(requester.address()).is_none(), "another vhost knows nothing of it");
        assert!(here.find(REPLY_TO).is_none() && here.find(REPLY_ADDRESS_PREFIX).is_none());
        let vhost = VhostName::new("/").unwrap();
        assert!(here.look(requester.address(), &vhost).unwrap().is_ok());
        assert!(here.look("queue", &vhost).is_none());
        here.remove(&requester);
        let refusal = here.look(requester.address(), &vhost).unwrap().unwrap_err();
        assert_eq!(refusal.code, ReplyCode::NotFound);
    }
}
