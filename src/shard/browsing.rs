//! Looking at messages: what is ready is shown as it lies in its queue, and nothing is handed out.
//!
//! A look changes no flag, order or count. What is not in memory is read back as it is for consumers, within the same bound; a
//! look waits for one such read at a time, and shows what it has rather than wait for a second one.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::bodies::Missing;
use super::command::{Came, Look, Looked, LookedAt, Which};
use super::halt::Halt;
use super::progress::log_failed;
use super::queues::queue_deleted;
use super::read_back::NotRead;
use super::reading::Waiter;
use super::shard::Shard;
use crate::model::{BodySequence, Refusal};
use crate::queue::{SequenceRun, VisibleMessage};

/// Who gets what is seen.
pub(super) type LookReply = oneshot::Sender<Result<Looked, Box<Refusal>>>;

/// Looks that wait for messages to be read back. Each connection has one at most.
#[derive(Debug, Default)]
pub(super) struct Browsing {
    waiting: BTreeMap<u64, Wait>,
    last_number: u64,
}

#[cfg(test)]
impl Browsing {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[derive(Debug)]
struct Wait {
    look: Look,
    reply: LookReply,
    /// The message that it waits for.
    sequence: u64,
}

/// What a look comes to at once.
enum Seen {
    All(Looked),
    /// Its first message has to be read back.
    Cold(u64),
    Fault(Refusal),
}

impl Shard {
    pub(super) fn browse(&mut self, look: Look, reply: LookReply) {
        if let (Which::DeadLetters(_), Some(failure)) = (look.which, self.commits.failure()) {
            // They could not leave, and would be stored elsewhere again and again. Whoever asked may be gone.
            let _ = reply.send(Err(Box::new(log_failed(self.options.id, failure))));
            return;
        }
        // Messages of this turn get their bytes.
        self.freeze();
        let end = match (look.end, self.queues.get(&look.queue)) {
            (0, Some(slot)) => slot.queue.last_sequence().0 + 1,
            (end, _) => end,
        };
        let Came { since, before } = look.came;
        let from = since.map_or(look.from, |time| look.from.max(self.times.first_since(time)));
        let end = before.map_or(end, |time| end.min(self.times.first_since(time)));
        let newest = look.newest.zip(self.queues.get(&look.queue));
        let from = newest.map_or(from, |(count, slot)| from.max(slot.queue.newest_retained(count).0));
        let look = Look { from, end, came: Came::default(), newest: None, ..look };
        // Whoever asked may be gone.
        match self.look(look) {
            Seen::All(looked) => drop(reply.send(Ok(looked))),
            Seen::Fault(refusal) => drop(reply.send(Err(Box::new(refusal)))),
            Seen::Cold(sequence) => {
                self.browsing.last_number += 1;
                let number = self.browsing.last_number;
                self.browsing.waiting.insert(number, Wait { look, reply, sequence });
                self.reading.wait(Waiter::Browse(number), sequence);
            }
        }
    }

    /// What a look waited for is there, or nobody needs it any more.
    pub(super) fn browse_on(&mut self, number: u64) {
        let Some(Wait { look, reply, sequence }) = self.browsing.waiting.remove(&number) else { return };
        if !reply.is_closed() {
            self.browse(look, reply);
        }
        self.bodies.mark_used(sequence);
    }

    /// What a look waited for cannot be had. Its queue goes on until it gets there itself.
    pub(super) fn refuse_browse(&mut self, number: u64, halt: &Halt) {
        if let Some(Wait { reply, .. }) = self.browsing.waiting.remove(&number) {
            let _ = reply.send(Err(Box::new(self.why(halt))));
        }
    }

    fn look(&mut self, look: Look) -> Seen {
        let Look { queue, from, end, which, count_max, bytes_max, .. } = look;
        let Some(slot) = self.queues.get_mut(&queue) else { return Seen::Fault(queue_deleted()) };
        let counts = slot.queue.counts();
        // One more tells whether there is one.
        let mut visible: Vec<VisibleMessage> = match which {
            Which::Ready => slot.queue.ready_in(from..end).take(count_max + 1).collect(),
            Which::Retained => slot.queue.retained_in(from..end).take(count_max + 1).collect(),
            Which::Delayed => slot.queue.held_in(from..end).take(count_max + 1).collect(),
            Which::DeadLetters(why) => {
                slot.attached.tells_of_dead_letters = false;
                slot.queue.dead_letters_in(why, from..end).take(count_max + 1).collect()
            }
        };
        let mut next = (visible.len() > count_max).then(|| visible[count_max].sequence);
        visible.truncate(count_max);
        let until = match which {
            Which::Delayed => self.delays.times_of(queue, &visible),
            Which::Ready | Which::Retained | Which::DeadLetters(_) => HashMap::default(),
        };
        let mut messages = Vec::with_capacity(visible.len());
        let mut bytes = 0;
        for message in visible {
            if !messages.is_empty() && bytes + message.size_bytes as usize > bytes_max {
                next = Some(message.sequence);
                break;
            }
            let run = SequenceRun { first: BodySequence(message.sequence), count: 1 };
            let found = match self.bodies.look_up(run) {
                Ok(found) => found,
                Err(_) if !messages.is_empty() => {
                    next = Some(message.sequence);
                    break;
                }
                Err(Missing::Cold) => return Seen::Cold(message.sequence),
                Err(Missing::Unknown) => {
                    let halt = Halt::Damaged(NotRead::Lost(BodySequence(message.sequence)));
                    return Seen::Fault(self.why(&halt));
                }
            };
            bytes += found.bytes.len();
            // As with deliveries: what waits for a slow reader keeps no block that it is a small part of.
            let bytes = if found.is_small_part { Bytes::copy_from_slice(&found.bytes) } else { found.bytes };
            let VisibleMessage { sequence, redelivered, delivery_count, .. } = message;
            let origin = found.origin;
            let came_at = self.times.of(sequence);
            let delayed_until = until.get(&sequence).copied();
            messages.push(LookedAt {
                sequence,
                origin,
                bytes,
                redelivered,
                delivery_count,
                came_at,
                delayed_until,
            });
        }
        Seen::All(Looked { messages, next, end, counts })
    }
}
