//! What an exchange of type `x-recent-history` keeps for what is bound to it later: its newest messages, in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::values;
use crate::model::{
    ExchangeName, FieldTable, FieldValue, RECENT_HISTORY_LENGTH, RECENT_HISTORY_NO_STORE, RoutingKey,
};

/// Messages that an exchange keeps that does not say how many.
pub const HISTORY_MESSAGES_DEFAULT: usize = 20;
/// Messages that an exchange may keep.
pub const HISTORY_MESSAGES_MAX: usize = 10_000;
/// Bytes that one exchange keeps, with what stands around its messages.
pub const HISTORY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that all exchanges of a broker keep together.
pub const HISTORIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a kept message takes beside its own bytes, about.
const BYTES_AROUND_MESSAGE: usize = 256;

/// A message that an exchange keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The exchange it was published to.
    pub exchange: ExchangeName,
    /// The routing key of its publisher.
    pub routing_key: RoutingKey,
    /// Its own routing key, if it has one.
    pub own_key: Option<Box<str>>,
    /// The message as it was published.
    pub item: Bytes,
    /// Its expiration, in milliseconds from when it comes to a queue.
    pub expiration_ms: Option<u64>,
    /// Its delay, in milliseconds from when it comes to a queue.
    pub delay_ms: Option<u64>,
    /// When it is to be delivered, in milliseconds since 1970-01-01T00:00:00Z.
    pub deliver_at_ms: Option<u64>,
}

impl Kept {
    /// The routing key by which it goes.
    pub fn key(&self) -> &str {
        self.own_key.as_deref().unwrap_or(&self.routing_key)
    }

    fn bytes(&self) -> usize {
        self.item.len() + BYTES_AROUND_MESSAGE
    }
}

/// The room that all histories of a broker share.
#[derive(Debug)]
pub struct HistoryRoom {
    used: AtomicUsize,
    bytes_max: usize,
}

impl Default for HistoryRoom {
    fn default() -> Self {
        Self::new(HISTORIES_BYTES_MAX)
    }
}

impl HistoryRoom {
    /// Room for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { used: AtomicUsize::new(0), bytes_max }
    }

    /// Bytes that are kept now.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The newest messages of an exchange: it is the same one as long as the exchange is.
#[derive(Debug)]
pub struct History {
    messages_max: usize,
    kept: Mutex<KeptMessages>,
}

#[derive(Debug, Default)]
struct KeptMessages {
    /// The oldest first.
    messages: VecDeque<Arc<Kept>>,
    bytes: usize,
    /// Messages that were too large, or for which others left no room.
    left_out: u64,
    /// Where the bytes are counted, once there were any.
    room: Option<Arc<HistoryRoom>>,
}

/// What a history has, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryCounts {
    /// Messages that are kept.
    pub messages: u64,
    /// Their bytes, with what stands around them.
    pub bytes: u64,
    /// Messages that were not kept since there was no room for them.
    pub left_out: u64,
}

impl History {
    /// An empty one for so many messages.
    pub(super) fn new(messages_max: usize) -> Self {
        Self { messages_max, kept: Mutex::default() }
    }

    /// Messages that are kept at most.
    pub fn messages_max(&self) -> usize {
        self.messages_max
    }

    /// Keeps a message. The oldest of this history make room for it, those of others do not: if they leave none, it is left out.
    pub fn push(&self, message: Arc<Kept>, room: &Arc<HistoryRoom>) {
        let bytes = message.bytes();
        let mut kept = self.lock();
        if bytes > HISTORY_BYTES_MAX {
            kept.left_out += 1;
            return;
        }
        let room = Arc::clone(kept.room.get_or_insert_with(|| Arc::clone(room)));
        while kept.messages.len() >= self.messages_max || kept.bytes + bytes > HISTORY_BYTES_MAX {
            kept.drop_oldest(&room);
        }
        while !room.take(bytes) {
            if !kept.drop_oldest(&room) {
                kept.left_out += 1;
                return;
            }
        }
        kept.bytes += bytes;
        kept.messages.push_back(message);
    }

    /// The messages that are kept, the oldest first.
    pub fn messages(&self) -> Vec<Arc<Kept>> {
        self.lock().messages.iter().cloned().collect()
    }

    /// How much is kept.
    pub fn counts(&self) -> HistoryCounts {
        let kept = self.lock();
        HistoryCounts {
            messages: kept.messages.len() as u64,
            bytes: kept.bytes as u64,
            left_out: kept.left_out,
        }
    }

    fn lock(&self) -> MutexGuard<'_, KeptMessages> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptMessages {
    /// Whether there was one.
    fn drop_oldest(&mut self, room: &HistoryRoom) -> bool {
        let Some(oldest) = self.messages.pop_front() else { return false };
        self.bytes -= oldest.bytes();
        room.give_back(oldest.bytes());
        true
    }
}

impl Drop for KeptMessages {
    fn drop(&mut self) {
        if let Some(room) = &self.room {
            room.give_back(self.bytes);
        }
    }
}

/// Whether a message with these headers stays out of histories.
pub fn is_not_kept(headers: &FieldTable) -> bool {
    headers.value(RECENT_HISTORY_NO_STORE) == Some(&FieldValue::Boolean(true))
}

/// Why an argument says no length.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LengthFault {
    pub(super) got: String,
}

/// How many messages an exchange keeps that has these arguments.
pub(super) fn length_of(arguments: &FieldTable) -> Result<usize, LengthFault> {
    let value = match arguments.value(RECENT_HISTORY_LENGTH) {
        None => return Ok(HISTORY_MESSAGES_DEFAULT),
        Some(value) => value,
    };
    let number = match value {
        FieldValue::Integer(number) => usize::try_from(*number).map_err(|_| number.to_string()),
        FieldValue::Unsigned(number) => usize::try_from(*number).map_err(|_| number.to_string()),
        other => Err(values::type_name(other).to_owned()),
    };
    match number {
        Ok(number) if (1..=HISTORY_MESSAGES_MAX).contains(&number) => Ok(number),
        Ok(number) => Err(LengthFault { got: number.to_string() }),
        Err(got) => Err(LengthFault { got }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(text: &str) -> Arc<Kept> {
        Arc::new(Kept {
            exchange: ExchangeName::new("x").unwrap(),
            routing_key: RoutingKey::default(),
            own_key: None,
            item: Bytes::copy_from_slice(text.as_bytes()),
            expiration_ms: None,
            delay_ms: None,
            deliver_at_ms: None,
        })
    }

    fn texts(history: &History) -> Vec<String> {
        history.messages().iter().map(|kept| String::from_utf8(kept.item.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_newest_stay_in_order() {
        let room = Arc::new(HistoryRoom::default());
        let history = History::new(3);
        ["a", "b", "c", "d", "e"].iter().for_each(|text| history.push(message(text), &room));
        assert_eq!(texts(&history), ["c", "d", "e"]);
        let bytes = 3 * (1 + BYTES_AROUND_MESSAGE);
        assert_eq!(history.counts(), HistoryCounts { messages: 3, bytes: bytes as u64, left_out: 0 });
        assert_eq!(room.used_bytes(), bytes);
        drop(history);
        assert_eq!(room.used_bytes(), 0, "with its exchange a history gives its room back");
    }

    #[test]
    fn what_is_too_large_is_left_out_and_what_is_large_drops_others() {
        let room = Arc::new(HistoryRoom::default());
        let history = History::new(10);
        let half = "x".repeat(HISTORY_BYTES_MAX / 2);
        history.push(message("small"), &room);
        history.push(message(&half), &room);
        history.push(message(&"y".repeat(HISTORY_BYTES_MAX)), &room);
        assert_eq!(texts(&history), ["small", &half]);
        assert_eq!(history.counts().left_out, 1);
        history.push(message(&half), &room);
        assert_eq!(texts(&history), [&*half]);
    }

    #[test]
    fn one_history_takes_no_room_from_another() {
        let each = 1 + BYTES_AROUND_MESSAGE;
        let room = Arc::new(HistoryRoom::new(2 * each));
        let (first, second) = (History::new(10), History::new(10));
        first.push(message("a"), &room);
        first.push(message("b"), &room);
        second.push(message("c"), &room);
        assert_eq!((texts(&first), texts(&second)), (vec!["a".to_owned(), "b".to_owned()], vec![]));
        assert_eq!(second.counts().left_out, 1);
        first.push(message("d"), &room);
        assert_eq!(texts(&first), ["b", "d"]);
        drop(first);
        second.push(message("e"), &room);
        assert_eq!(texts(&second), ["e"]);
    }

    #[test]
    fn a_length_is_a_positive_number_with_a_bound() {
        let of = |value: FieldValue| {
            length_of(&FieldTable::from([(RECENT_HISTORY_LENGTH, value)])).map_err(|fault| fault.got)
        };
        assert_eq!(length_of(&FieldTable::default()), Ok(HISTORY_MESSAGES_DEFAULT));
        assert_eq!(of(FieldValue::Integer(1)), Ok(1));
        assert_eq!(of(FieldValue::Unsigned(10_000)), Ok(10_000));
        assert_eq!(of(FieldValue::Integer(10_001)), Err("10001".to_owned()));
        assert_eq!(of(FieldValue::Integer(0)), Err("0".to_owned()));
        assert_eq!(of(FieldValue::Integer(-3)), Err("-3".to_owned()));
        assert_eq!(of("5".into()), Err("longstr".to_owned()));
    }
}
