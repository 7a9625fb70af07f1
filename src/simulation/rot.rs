//! Bits that rot.

use super::books::{Finding, QueueNumber, Stage};
use super::client::{CHANNEL, Pending, number_of};
use super::run::Run;
use super::world::{LIST_MAX, World};
use crate::broker::{BrowseRequest, ConsumeRequest, Which, Word};
use crate::message::{DeliveredView, message_ends};

/// Steps in which there comes something to rot.
const STEPS: usize = 300;
/// Places in which a bit rots.
const PLACES: usize = 3;
/// Rounds that consumers get then.
const ROUNDS: usize = 200;

impl Run {
    /// The last that happens to a broker: bits of its logs' segments rot. What was lost by that is lost, but nothing that is
    /// handed out is anything else than what somebody sent.
    pub(super) fn rot(&mut self) -> Result<(), Finding> {
        for _ in 0..STEPS {
            self.quiet_step()?;
        }
        while !self.clients.is_empty() {
            self.leave(0);
        }
        self.make_peace()?;
        let segments = self.disk.files().into_iter().filter(|(path, length)| {
            *length > 0
                && path.to_string_lossy().contains("/shard-")
                && path.extension().is_some_and(|end| end == "log")
        });
        let segments: Vec<_> = segments.collect();
        for _ in 0..PLACES {
            let Some((path, length)) = self.random.pick(segments.iter().cloned()) else { return Ok(()) };
            let place = self.random.below(length);
            self.trace.note(format_args!("a bit of {} rots at {place}", path.display()));
            self.disk.rot(&path, place, 1 << self.random.below(8)).map_err(|error| error.to_string())?;
            self.counters.rotten += 1;
        }
        if self.random.one_in(2) {
            self.world.halt();
            self.disk.kill_process();
            self.now_ms += 1;
            match World::open(&self.disk, self.now_ms) {
                Ok(world) => self.world = world,
                // It says what is damaged, and waits for its operator.
                Err(_) => return Ok(()),
            }
        }
        self.read_what_is_retained()?;
        self.read_what_is_left()
    }

    /// What is retained is what somebody sent, or said to be damaged.
    fn read_what_is_retained(&mut self) -> Result<(), Finding> {
        let queues: Vec<QueueNumber> = (0..self.books.queues.len()).collect();
        for queue in queues {
            if self.books.queues[queue].stage != Stage::There || self.books.queues[queue].bounds.is_none() {
                continue;
            }
            let request = BrowseRequest { count_max: LIST_MAX, ..self.page_of(queue, Which::Retained) };
            let mut from = Some(0);
            while let Some(next) = from.take() {
                let request = BrowseRequest { from: next, ..request.clone() };
                let (broker, who) = (self.world.broker.clone(), self.world.log_in());
                let looked =
                    self.world.until(async move { broker.browse(&who, request).await }, &mut self.random)?;
                let Ok(page) = looked else {
                    self.counters.rot_told += 1;
                    break;
                };
                for message in &page.messages {
                    let item = DeliveredView::of(&message.bytes);
                    let id = item.and_then(|item| number_of(item.body));
                    let sent = id.and_then(|id| self.books.messages.get(id as usize));
                    if sent.is_none_or(|sent| sent.bytes != message.bytes.len() as u64) {
                        return Err("a rotten message was repeated".to_owned());
                    }
                    self.counters.repeated_beside_rot += 1;
                }
                from = page.next;
            }
        }
        Ok(())
    }

    fn read_what_is_left(&mut self) -> Result<(), Finding> {
        let index = self.arrive();
        let client = &mut self.clients[index];
        for queue in 0..self.books.queues.len() {
            if self.books.queues[queue].stage != Stage::There {
                continue;
            }
            let consumer = client.new_consumer(queue, true);
            let request = client.request(Pending::Consume { consumer });
            client.session.consume(ConsumeRequest {
                queue: self.books.queues[queue].name.to_owned(),
                channel: CHANNEL,
                consumer,
                tag: String::new(),
                prefetch: 0,
                no_ack: true,
                exclusive: false,
                priority: 0,
                credit: None,
                request,
            });
        }
        for _ in 0..ROUNDS {
            self.world.round(&mut self.random);
            let words = self.clients[index].words();
            for word in words {
                let Word::Delivered(delivery) = word else { continue };
                for piece in &delivery.pieces {
                    let mut start = 0;
                    for end in message_ends(&piece.bytes).ok_or("rotten bytes were handed out")? {
                        let item = DeliveredView::of(&piece.bytes[start..end as usize]);
                        let id = item.and_then(|item| number_of(item.body));
                        if id.and_then(|id| self.books.client_of(id)).is_none() {
                            return Err("a rotten message was handed out".to_owned());
                        }
                        start = end as usize;
                    }
                }
            }
        }
        Ok(())
    }
}
