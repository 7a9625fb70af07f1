//! What became of the messages of a frame, once all shards that got any have answered.

use super::quarantine::Notes;
use super::target::Fate;
use crate::model::{Durability, JourneyNumber, Refusal};

/// Word of what became of the messages of one frame.
#[derive(Debug)]
pub struct Confirmation {
    /// Channel they came on.
    pub channel: u32,
    /// Their publisher.
    pub publisher: u32,
    /// Their fates in order.
    pub runs: Vec<ConfirmedRun>,
}

/// Neighbouring messages with the same fate.
#[derive(Debug)]
pub struct ConfirmedRun {
    /// First sequence.
    pub first: u64,
    /// Last sequence, included.
    pub last: u64,
    /// How safe they are.
    pub durability: Durability,
    /// How many queues each of them reached.
    pub queues: u32,
    /// They were refused.
    pub refusal: Option<Refusal>,
    /// Id of the first of them, the others count up, if the journeys of any are kept.
    pub first_journey: Option<JourneyNumber>,
}

/// Messages that shards have not answered for yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// `None`: the channel was closed, and nobody hears of it.
    pub(super) channel: Option<u32>,
    pub(super) publisher: u32,
    /// 0: no confirm wanted.
    pub(super) first_sequence: u64,
    pub(super) shards: usize,
    pub(super) durability: Durability,
    /// Id of the first message, if the journeys of any are kept.
    pub(super) first_journey: Option<JourneyNumber>,
    pub(super) fates: Vec<(u32, Fate)>,
    pub(super) bytes: usize,
    pub(super) refusal: Option<Refusal>,
    pub(super) part: Part,
}

/// Which of a frame's messages are answered for together. Where what is refused is kept in quarantine, it is answered for by
/// itself, so that others do not wait for it or fail with it.
#[derive(Debug)]
pub(super) enum Part {
    All,
    /// All but those that the exchange refuses.
    Others,
    /// Those that the exchange refuses, and what becomes of them.
    Barred(Notes),
}

impl Part {
    /// What a refused message's publisher is told, if this is its part.
    fn refusal(&self, refusal: &Refusal, number: usize, failure: Option<&Refusal>) -> Option<Refusal> {
        match self {
            Self::All => Some(refusal.clone()),
            Self::Others => None,
            Self::Barred(notes) => Some(notes.add_to(refusal, number, failure)),
        }
    }
}

impl Pending {
    /// Tells nothing if it came on this channel.
    pub(super) fn forget_channel(&mut self, channel: u32) {
        if self.channel == Some(channel) {
            self.channel = None;
        }
    }

    /// What the publisher is told; `None` if it does not want to hear it.
    pub(super) fn confirmation(self) -> Option<Confirmation> {
        let channel = self.channel.filter(|_| self.first_sequence != 0)?;
        let mut first = self.first_sequence;
        let mut barred = 0;
        let mut runs = Vec::with_capacity(self.fates.len());
        for (count, fate) in self.fates {
            let last = first + u64::from(count) - 1;
            let place = first - self.first_sequence;
            let first_journey = self.first_journey.map(|JourneyNumber(number)| JourneyNumber(number + place));
            let refused = |refusal| ConfirmedRun {
                first,
                last,
                durability: Durability::Memory,
                queues: 0,
                refusal: Some(refusal),
                first_journey,
            };
            let run = match fate {
                Fate::NotAllowed(_) | Fate::Unfit(_) => {
                    let refusal = fate
                        .barred()
                        .and_then(|refusal| self.part.refusal(refusal, barred, self.refusal.as_ref()));
                    barred += 1;
                    refusal.map(refused)
                }
                _ if matches!(self.part, Part::Barred(_)) => None,
                Fate::Routed(route) => Some(ConfirmedRun {
                    first,
                    last,
                    durability: if route.queues == 0 { Durability::Memory } else { self.durability },
                    queues: route.queues,
                    refusal: self.refusal.clone().filter(|_| route.queues > 0),
                    first_journey,
                }),
                Fate::Refused(refusal) => Some(refused(*refusal)),
            };
            first = last + 1;
            runs.extend(run);
        }
        (!runs.is_empty()).then_some(Confirmation { channel, publisher: self.publisher, runs })
    }
}
