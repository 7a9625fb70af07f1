//! What became of the messages of a frame, once all shards that got any have answered.

use std::ops::Range;

use super::excess::RefusedRuns;
use super::quarantine::Notes;
use super::route::Route;
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
    /// None of them was stored.
    pub(super) refusal: Option<Refusal>,
    /// Queues had no room for these.
    pub(super) excess: RefusedRuns,
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
    /// Whether copies of the messages of this run of refused ones were made.
    fn has_copies(&self, number: usize) -> bool {
        matches!(self, Self::Barred(notes) if notes.are_kept(number))
    }

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

    /// Whether somebody is told what becomes of them.
    pub(super) fn is_confirmed(&self) -> bool {
        self.channel.is_some() && self.first_sequence != 0
    }

    /// What the publisher is told; `None` if it does not want to hear it.
    pub(super) fn confirmation(mut self) -> Option<Confirmation> {
        let channel = self.channel.filter(|_| self.is_confirmed())?;
        self.excess.sort();
        let fates = std::mem::take(&mut self.fates);
        let mut runs = Vec::with_capacity(fates.len());
        let mut next = 0;
        let (mut first, mut barred, mut copies) = (0, 0, 0);
        for (count, fate) in fates {
            let places = first..first + count;
            first += count;
            match fate {
                Fate::NotAllowed(_) | Fate::Unfit(_) => {
                    let number = barred;
                    barred += 1;
                    let Some(refusal) = fate.barred() else { continue };
                    // What queues refuse of this part are its copies.
                    let place = copies;
                    copies += if self.part.has_copies(number) { count } else { 0 };
                    for (of_copies, full) in self.cut(place..place + count, &mut next) {
                        let failure = full.or(self.refusal.as_ref());
                        let of_run = places.start + of_copies.start - place;
                        let places = of_run..of_run + (of_copies.end - of_copies.start);
                        let told = self.part.refusal(refusal, number, failure);
                        runs.extend(told.map(|refusal| self.refused(places, refusal)));
                    }
                }
                _ if matches!(self.part, Part::Barred(_)) => {}
                Fate::Routed(route) if self.excess.is_empty() => runs.push(self.stored(places, &route)),
                Fate::Routed(route) => {
                    for (places, full) in self.cut(places, &mut next) {
                        runs.push(match full {
                            Some(refusal) => self.refused(places, refusal.clone()),
                            None => self.stored(places, &route),
                        });
                    }
                }
                Fate::Refused(refusal) => runs.push(self.refused(places, *refusal)),
            }
        }
        (!runs.is_empty()).then_some(Confirmation { channel, publisher: self.publisher, runs })
    }

    /// Places that queues refused, and those that they did not.
    fn cut(&self, places: Range<u32>, next: &mut usize) -> Vec<(Range<u32>, Option<&Refusal>)> {
        match self.excess.is_empty() {
            true => vec![(places, None)],
            false => self.excess.cut(places, next),
        }
    }

    /// What its queues have, if their shards have it, and whoever waited for it as a reply.
    fn stored(&self, places: Range<u32>, route: &Route) -> ConfirmedRun {
        let durability = if route.queues == 0 { Durability::Memory } else { self.durability };
        let refusal = self.refusal.clone().filter(|_| route.queues > 0);
        ConfirmedRun { durability, queues: route.reached(), refusal, ..self.run(places) }
    }

    fn refused(&self, places: Range<u32>, refusal: Refusal) -> ConfirmedRun {
        ConfirmedRun { refusal: Some(refusal), ..self.run(places) }
    }

    fn run(&self, places: Range<u32>) -> ConfirmedRun {
        let Range { start, end } = places;
        ConfirmedRun {
            first: self.first_sequence + u64::from(start),
            last: self.first_sequence + u64::from(end) - 1,
            durability: Durability::Memory,
            queues: 0,
            refusal: None,
            first_journey: self
                .first_journey
                .map(|JourneyNumber(number)| JourneyNumber(number + u64::from(start))),
        }
    }
}
