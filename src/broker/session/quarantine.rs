//! What an exchange refuses, kept in a queue with the reason.

use bytes::BytesMut;
use std::sync::Arc;

use super::super::catalog::FIRST_VOLATILE_SHARD;
use super::super::vhost::Vhost;
use super::target::{Fate, Publication};
use crate::message::{MessageRun, MessageRunBuilder, encode_annotated_item, encode_headers};
use crate::model::{FieldTable, FieldValue, QueueName, Refusal, ShardId};
use crate::routing::{Quarantine, QueueTarget};
use crate::shard::{Origin, Segment};

/// Bytes of one frame's messages that go to quarantine: a refused message is longer than what was published.
const QUARANTINED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Each text about a reason, in bytes, so that a message with them still fits into the frames of consumers.
const REASON_TEXT_BYTES_MAX: usize = 512;

/// Copies of refused messages on their way to their queue.
#[derive(Debug)]
pub(super) struct Quarantined {
    /// Where they go, and what.
    pub(super) copies: Option<(ShardId, MessageRun, Vec<Segment>)>,
    pub(super) notes: Notes,
}

/// What became of refused messages, run by run.
#[derive(Debug)]
pub(super) struct Notes {
    queue: QueueName,
    notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Kept,
    NoQueue,
    TooMuch,
}

impl Notes {
    /// Whether copies of this run of refused messages are on their way to the queue.
    pub(super) fn are_kept(&self, number: usize) -> bool {
        self.notes.get(number) == Some(&Note::Kept)
    }

    /// A refusal with what became of the message; `number` counts the runs of refused messages.
    pub(super) fn add_to(&self, refusal: &Refusal, number: usize, failure: Option<&Refusal>) -> Refusal {
        let queue = &self.queue;
        let note = match (self.notes.get(number), failure) {
            (Some(Note::Kept), None) => format!("it is kept in queue '{queue}'"),
            (Some(Note::Kept), Some(failure)) => {
                format!("it is not kept in queue '{queue}': {}", failure.text)
            }
            (Some(Note::NoQueue) | None, _) => format!("it is not kept, since there is no queue '{queue}'"),
            (Some(Note::TooMuch), _) => {
                format!("it is not kept in queue '{queue}', since too much was refused at once")
            }
        };
        Refusal { text: format!("{}; {note}", refusal.text), ..refusal.clone() }
    }
}

/// Whether refused messages would be written to a log.
pub(super) fn reaches_disk(vhost: &Vhost, exchange: &str, fates: &[(u32, Fate)]) -> bool {
    let barred = fates.iter().any(|(_, fate)| fate.barred().is_some());
    let target = || find(vhost, exchange).and_then(|(_, target)| target);
    barred && target().is_some_and(|target| target.shard.0 < FIRST_VOLATILE_SHARD)
}

/// Copies of those messages that an exchange refuses by its list or schemas; `None` if it keeps none.
pub(super) fn quarantine(
    vhost: &Vhost,
    origin: &Origin,
    messages: &impl Publication,
    fates: &[(u32, Fate)],
) -> Option<Quarantined> {
    let (kept_by, target) = find(vhost, &origin.exchange)?;
    let mut homeless = 0;
    let mut copies = Copies { builder: MessageRunBuilder::default(), count: 0, bytes: 0 };
    let mut notes = Vec::new();
    let mut first = 0usize;
    for (count, fate) in fates {
        let range = first..first + *count as usize;
        first = range.end;
        let Some(refusal) = fate.barred() else { continue };
        notes.push(match target {
            None => {
                homeless += u64::from(*count);
                Note::NoQueue
            }
            Some(_) => copies.add(refusal, origin, messages, range),
        });
    }
    match target {
        Some(_) => kept_by.note_found(),
        None if homeless > 0 && kept_by.count_homeless(homeless) => tracing::warn!(
            vhost = %vhost.name,
            exchange = %origin.exchange,
            queue = %kept_by.queue(),
            "an exchange's quarantine queue does not exist: what it refuses is not kept"
        ),
        None => {}
    }
    let queue = kept_by.queue().clone();
    let Copies { builder, count, .. } = copies;
    let copies = target.filter(|_| count > 0).map(|target| {
        let segment = Segment { first: 0, end: count, queues: Arc::from([target.id]) };
        (target.shard, builder.finish(), vec![segment])
    });
    Some(Quarantined { copies, notes: Notes { queue, notes } })
}

fn find(vhost: &Vhost, exchange: &str) -> Option<(Arc<Quarantine>, Option<QueueTarget>)> {
    let table = vhost.routing();
    let own = table.exchange(exchange)?.quarantine().map(Arc::clone);
    let quarantine = own.or_else(|| vhost.quarantine())?;
    let target = table.queue(quarantine.queue());
    Some((quarantine, target))
}

struct Copies {
    builder: MessageRunBuilder,
    count: u32,
    bytes: usize,
}

impl Copies {
    /// Adds neighbouring messages that were refused for one reason: all of them or none.
    fn add(
        &mut self,
        refusal: &Refusal,
        origin: &Origin,
        messages: &impl Publication,
        range: std::ops::Range<usize>,
    ) -> Note {
        let run = messages.run();
        let published = run.range_bytes(range.start, range.end).len();
        let key = messages.key(range.start).unwrap_or(&origin.routing_key);
        let reason = reason(refusal, &origin.exchange, key);
        let bytes = published + range.len() * (reason.len() + 16);
        if self.bytes + bytes > QUARANTINED_BYTES_MAX {
            return Note::TooMuch;
        }
        let mut item = BytesMut::new();
        for index in range.clone() {
            item.clear();
            // What is in a run was checked when its frame was decoded.
            if encode_annotated_item(run.item(index), &reason, &mut item).is_ok() {
                self.builder.push(&item);
                self.count += 1;
            }
        }
        self.bytes += bytes;
        Note::Kept
    }
}

/// The reason as properties that are merged with those of the message.
fn reason(refusal: &Refusal, exchange: &str, key: &str) -> Vec<u8> {
    let fields = [
        ("x-refused-reason", &*refusal.text),
        ("x-refused-exchange", exchange),
        ("x-refused-key", key),
        ("x-refused-field", &refusal.field),
        ("x-refused-expected", &refusal.expected),
        ("x-refused-got", &refusal.got),
    ];
    let fields = fields.map(|(name, text)| (name, FieldValue::Text(cut(text).to_owned())));
    encode_headers(&FieldTable::from(fields))
}

fn cut(text: &str) -> &str {
    let end = (0..=REASON_TEXT_BYTES_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    &text[..end]
}
