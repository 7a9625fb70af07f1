//! Dead letters: messages that left a queue for a reason that is to be told elsewhere. They are kept here until they are stored there.

use std::collections::BTreeMap;
use std::ops::Range;

use prost::encoding::encode_varint;

use super::departure::Departure;
use super::fault::{QueueFault, number};
use super::kept::{Kept, KeptMessages};
use super::looking::VisibleMessage;
use super::queue::{Effect, Effects, Queue, QueueCommand, push_release};
use super::sequence_runs::{SequenceRun, SequenceRuns};

/// By reason. A message is here once at most.
#[derive(Debug, Default)]
pub(super) struct DeadLetters(BTreeMap<Departure, KeptMessages>);

impl DeadLetters {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.values().map(KeptMessages::count).sum()
    }

    /// Their bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(KeptMessages::bytes).sum()
    }

    /// Takes a message that is not here.
    pub(super) fn keep(&mut self, why: Departure, message: Kept) {
        self.0.entry(why).or_default().keep(message);
    }

    /// Forgets those with these sequences, and tells of each run of them that follow each other.
    pub(super) fn forget(&mut self, sequences: Range<u64>, mut forgotten: impl FnMut(SequenceRun)) {
        self.0.values_mut().for_each(|kept| kept.forget(sequences.clone(), &mut forgotten));
        self.0.retain(|_, kept| kept.count() > 0);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.0.len() as u64, out);
        for (why, kept) in &self.0 {
            out.push(why.code());
            kept.encode(out);
        }
    }

    fn decode(rest: &mut &[u8], mut check: impl FnMut(u64)) -> Result<Self, QueueFault> {
        let mut letters = Self::default();
        for _ in 0..number(rest)? {
            let code = *rest.split_off_first().ok_or(QueueFault::Number)?;
            let why = Departure::of_code(code).ok_or(QueueFault::UnknownReason(code))?;
            letters.0.insert(why, KeptMessages::decode(rest, &mut check)?);
        }
        Ok(letters)
    }
}

impl Queue {
    /// What is to be recorded of messages that leave for this reason.
    pub(super) fn departure(&self, why: Departure, runs: SequenceRuns) -> QueueCommand {
        match self.options.dead_letters && why.makes_dead_letters() {
            true => QueueCommand::DeadLetter(why, runs),
            false => QueueCommand::Settle(why, runs),
        }
    }

    /// Dead letters of a reason, with these sequences, oldest first.
    pub fn dead_letters_in(&self, why: Departure, range: Range<u64>) -> impl Iterator<Item = VisibleMessage> {
        let kept = self.dead_letters.0.get(&why);
        kept.into_iter().flat_map(move |kept| kept.within(range.clone())).map(|message| VisibleMessage {
            sequence: message.sequence(),
            size_bytes: message.size_bytes(),
            redelivered: false,
            delivery_count: 0,
        })
    }

    /// Why there are dead letters: each reason once.
    pub fn dead_letter_reasons(&self) -> impl Iterator<Item = Departure> {
        self.dead_letters.0.keys().copied()
    }

    /// Whether there are any.
    pub fn has_dead_letters(&self) -> bool {
        !self.dead_letters.0.is_empty()
    }

    /// Dead letters are stored elsewhere, or nobody wants them: they leave for good.
    pub fn dismiss_dead_letters(&mut self, why: Departure, letters: SequenceRuns, effects: &mut Effects) {
        if !letters.is_empty() {
            effects.push(Effect::Append(QueueCommand::Settle(why, letters)));
        }
    }

    /// They leave for good.
    pub(super) fn apply_dismissal(
        &mut self,
        departure: Departure,
        runs: &SequenceRuns,
        effects: &mut Effects,
    ) {
        for run in runs.runs() {
            self.dead_letters.forget(run.sequences(), |run| {
                self.departures.count(departure, run.count);
                push_release(effects, run);
            });
        }
    }

    /// All dead letters: the queue is about to be deleted.
    pub fn give_up_dead_letters(&mut self) -> SequenceRuns {
        let mut runs = SequenceRuns::default();
        self.dead_letters.forget(0..u64::MAX, |run| runs.push_run(run));
        runs
    }

    pub(super) fn encode_dead_letters(&self, out: &mut Vec<u8>) {
        if self.options.dead_letters {
            self.dead_letters.encode(out);
        }
    }

    pub(super) fn decode_dead_letters(
        &mut self,
        rest: &mut &[u8],
        check: impl FnMut(u64),
    ) -> Result<(), QueueFault> {
        if self.options.dead_letters {
            self.dead_letters = DeadLetters::decode(rest, check)?;
        }
        Ok(())
    }
}
