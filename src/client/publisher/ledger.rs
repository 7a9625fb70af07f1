//! Who asked for the fate of which message, and what it was.
//!
//! Confirms come as ranges and stay ranges here. A message costs one bit while somebody may ask for it; only those
//! that really wait have a waker, and only fates that somebody can still ask for are remembered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::handle_bits::HandleBits;
use super::sequence_set::SequenceSet;
use super::waiters::Waiters;
use super::{BatchOutcome, Confirmed, Progress};
use crate::client::error::{ConfirmError, Returned};
use crate::model::Refusal;

/// What the server said of a run of messages.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Confirmed(Confirmed),
    Refused(Arc<Refusal>),
}

impl Fate {
    /// That of the messages from so many places behind the first of them on.
    fn at(&self, place: u64) -> Self {
        match self {
            Self::Confirmed(confirmed) => Self::Confirmed(confirmed.at(place)),
            Self::Refused(refusal) => Self::Refused(Arc::clone(refusal)),
        }
    }
}

/// What a confirm or return says is impossible; the server broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Implausible {
    /// A message was settled that was never sent, or a range that ends before it begins.
    NeverSent,
    /// A message was settled twice.
    Twice,
}

/// The books of one publisher.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Last sequence given out.
    last: u64,
    settled: SequenceSet,
    /// Unsettled messages whose `PendingConfirm` is alive.
    handles: HandleBits,
    /// Fates that a `PendingConfirm` can still ask for, by the first sequence of their run.
    fates: BTreeMap<u64, FateRun>,
    /// Messages that came back and whose confirm has not come yet.
    returned: BTreeMap<u64, Arc<Returned>>,
    /// Batches that somebody waits for, by first sequence; disjoint.
    batches: BTreeMap<u64, BatchWatch>,
    wakers: BTreeMap<u64, Waker>,
    /// Those who wait for the watermark to rise.
    pub(super) watermark: Waiters,
    progress: Progress,
    unobserved_failure: Option<ConfirmError>,
}

#[derive(Debug)]
struct FateRun {
    last: u64,
    outcome: Result<Confirmed, Failure>,
    /// Handles that have not asked yet.
    handles: u64,
}

#[derive(Debug, Clone)]
enum Failure {
    Refused(Arc<Refusal>),
    Returned(Arc<Returned>),
}

impl From<Failure> for ConfirmError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Returned(returned) => Self::Returned(returned),
        }
    }
}

#[derive(Debug)]
struct BatchWatch {
    last: u64,
    unsettled: u64,
    outcome: BatchOutcome,
    waker: Option<Waker>,
}

impl Ledger {
    /// Gives out the next `count` sequences; the first of them.
    pub(super) fn assign(&mut self, count: u64) -> u64 {
        let first = self.last + 1;
        self.last += count;
        self.progress.published += count;
        first
    }

    /// The next sequence to be given out.
    pub(super) fn next_sequence(&self) -> u64 {
        self.last + 1
    }

    /// Messages without a fate.
    pub(super) fn unsettled(&self) -> u64 {
        self.progress.published - self.progress.settled
    }

    /// Whether the fate of a message is known.
    pub(super) fn is_settled(&self, sequence: u64) -> bool {
        self.settled.contains(sequence)
    }

    /// Every message up to this one has its fate.
    pub(super) fn settled_through(&self) -> u64 {
        self.settled.through()
    }

    /// Counts.
    pub(super) fn progress(&self) -> Progress {
        Progress { settled_through: self.settled.through(), ..self.progress }
    }

    /// The first failure that no handle was there for, once.
    pub(super) fn take_unobserved_failure(&mut self) -> Option<ConfirmError> {
        self.unobserved_failure.take()
    }

    /// A handle for this message, just given out, exists.
    pub(super) fn watch(&mut self, sequence: u64) {
        self.handles.set(sequence);
    }

    /// A handle for this run, just given out, exists.
    pub(super) fn watch_batch(&mut self, first: u64, last: u64) {
        let outcome = BatchOutcome { confirmed: 0, level: None, failed: 0, first_refusal: None };
        let watch = BatchWatch { last, unsettled: last - first + 1, outcome, waker: None };
        self.batches.insert(first, watch);
    }

    /// Asks for the fate of a message with a handle. Once it is `Ready` the handle is used up.
    pub(super) fn poll_fate(
        &mut self,
        sequence: u64,
        waker: &Waker,
    ) -> Poll<Result<Confirmed, ConfirmError>> {
        if let Some((outcome, _)) = self.claim(sequence) {
            return Poll::Ready(outcome.map_err(ConfirmError::from));
        }
        match self.wakers.get_mut(&sequence) {
            Some(known) => known.clone_from(waker),
            None => {
                self.wakers.insert(sequence, waker.clone());
            }
        }
        Poll::Pending
    }

    /// The handle of a message went away unasked.
    pub(super) fn unwatch(&mut self, sequence: u64) {
        self.wakers.remove(&sequence);
        if self.settled.contains(sequence) {
            if let Some((Err(failure), _)) = self.claim(sequence) {
                self.unobserved_failure.get_or_insert(failure.into());
            }
        } else {
            self.handles.clear(sequence);
        }
    }

    /// Asks for the outcome of a batch.
    pub(super) fn poll_batch(&mut self, first: u64, waker: &Waker) -> Poll<BatchOutcome> {
        let Some(watch) = self.batches.get_mut(&first) else { return Poll::Pending };
        if watch.unsettled > 0 {
            watch.waker = Some(waker.clone());
            return Poll::Pending;
        }
        let outcome = watch.outcome.clone();
        self.batches.remove(&first);
        Poll::Ready(outcome)
    }

    /// The handle of a batch went away, perhaps unasked.
    pub(super) fn unwatch_batch(&mut self, first: u64) {
        if let Some(refusal) = self.batches.remove(&first).and_then(|watch| watch.outcome.first_refusal) {
            self.unobserved_failure.get_or_insert(ConfirmError::Refused(refusal));
        }
    }

    /// A mandatory message came back; its confirm follows.
    pub(super) fn note_return(&mut self, sequence: u64, returned: Returned) -> Result<(), Implausible> {
        if sequence == 0 || sequence > self.last {
            return Err(Implausible::NeverSent);
        }
        if self.settled.contains(sequence) || self.returned.contains_key(&sequence) {
            return Err(Implausible::Twice);
        }
        self.returned.insert(sequence, Arc::new(returned));
        Ok(())
    }

    /// The fate of a run is known. Wakers to wake are added to `wake`.
    pub(super) fn settle(
        &mut self,
        first: u64,
        last: u64,
        fate: &Fate,
        wake: &mut Vec<Waker>,
    ) -> Result<(), Implausible> {
        if first == 0 || last < first || last > self.last {
            return Err(Implausible::NeverSent);
        }
        let watermark = self.settled.through();
        self.settled.insert(first, last).map_err(|_| Implausible::Twice)?;
        if self.settled.through() > watermark {
            self.watermark.take(wake);
        }
        self.progress.settled += last - first + 1;
        let mut from = first;
        while from <= last
            && let Some((&sequence, _)) = self.returned.range(from..=last).next()
        {
            if sequence > from {
                self.record(from, sequence - 1, &fate.at(from - first), wake);
            }
            if let Some(returned) = self.returned.remove(&sequence) {
                self.record_failure(sequence, sequence, Failure::Returned(returned), wake);
                self.progress.returned += 1;
            }
            from = sequence + 1;
        }
        if from <= last {
            self.record(from, last, &fate.at(from - first), wake);
        }
        self.handles.drop_through(self.settled.through());
        Ok(())
    }

    /// Takes every waker there is: the publisher ends.
    pub(super) fn take_wakers(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(std::mem::take(&mut self.wakers).into_values());
        self.watermark.take(wake);
        wake.extend(self.batches.values_mut().filter_map(|watch| watch.waker.take()));
    }

    fn record(&mut self, first: u64, last: u64, fate: &Fate, wake: &mut Vec<Waker>) {
        match fate {
            Fate::Confirmed(confirmed) => {
                let lowest = self.progress.level.map_or(confirmed.level, |level| level.min(confirmed.level));
                self.progress.level = Some(lowest);
                let handles = self.handles.take(first..=last);
                if handles > 0 {
                    self.remember(first, last, Ok(*confirmed), handles);
                    self.wake_range(first, last, wake);
                }
                self.tell_batches(first, last, Ok(confirmed), wake);
            }
            Fate::Refused(refusal) => {
                self.progress.refused += last - first + 1;
                self.record_failure(first, last, Failure::Refused(refusal.clone()), wake);
            }
        }
    }

    fn record_failure(&mut self, first: u64, last: u64, failure: Failure, wake: &mut Vec<Waker>) {
        let handles = self.handles.take(first..=last);
        let observed = handles + self.tell_batches(first, last, Err(&failure), wake);
        if observed < last - first + 1 {
            self.unobserved_failure.get_or_insert_with(|| failure.clone().into());
        }
        if handles > 0 {
            self.remember(first, last, Err(failure), handles);
            self.wake_range(first, last, wake);
        }
    }

    /// Keeps a fate for handles to ask for. Runs with the same confirm that follow each other are kept as one.
    fn remember(&mut self, first: u64, last: u64, outcome: Result<Confirmed, Failure>, handles: u64) {
        if let Ok(confirmed) = &outcome
            && let Some((before_first, before)) = self.fates.range_mut(..first).next_back()
            && before.last + 1 == first
            && before.outcome.as_ref().is_ok_and(|same| same.at(first - before_first) == *confirmed)
        {
            before.last = last;
            before.handles += handles;
            return;
        }
        self.fates.insert(first, FateRun { last, outcome, handles });
    }

    fn claim(&mut self, sequence: u64) -> Option<(Result<Confirmed, Failure>, u64)> {
        let (&first, run) = self.fates.range_mut(..=sequence).next_back()?;
        if run.last < sequence {
            return None;
        }
        run.handles -= 1;
        if run.handles > 0 {
            let outcome = run.outcome.clone();
            return Some((outcome.map(|confirmed| confirmed.at(sequence - first)), run.handles));
        }
        let run = self.fates.remove(&first)?;
        Some((run.outcome.map(|confirmed| confirmed.at(sequence - first)), 0))
    }

    fn wake_range(&mut self, first: u64, last: u64, wake: &mut Vec<Waker>) {
        while let Some((&sequence, _)) = self.wakers.range(first..=last).next() {
            wake.extend(self.wakers.remove(&sequence));
        }
    }

    /// Tells the batches that overlap a run; how many of its messages belong to them.
    fn tell_batches(
        &mut self,
        first: u64,
        last: u64,
        outcome: Result<&Confirmed, &Failure>,
        wake: &mut Vec<Waker>,
    ) -> u64 {
        let begin = self
            .batches
            .range(..first)
            .next_back()
            .filter(|(_, watch)| watch.last >= first)
            .map_or(first, |(&begin, _)| begin);
        let mut told = 0;
        for (&batch_first, watch) in self.batches.range_mut(begin..=last) {
            let count = watch.last.min(last) - batch_first.max(first) + 1;
            told += count;
            watch.unsettled -= count;
            match outcome {
                Ok(confirmed) => {
                    watch.outcome.confirmed += count;
                    let lowest =
                        watch.outcome.level.map_or(confirmed.level, |level| level.min(confirmed.level));
                    watch.outcome.level = Some(lowest);
                }
                Err(failure) => {
                    watch.outcome.failed += count;
                    let refusal = match failure {
                        Failure::Refused(refusal) => refusal.clone(),
                        Failure::Returned(returned) => Arc::new(returned.reason.clone()),
                    };
                    watch.outcome.first_refusal.get_or_insert(refusal);
                }
            }
            if watch.unsettled == 0 {
                wake.extend(watch.waker.take());
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;
    use crate::client::Message;
    use crate::model::{Durability, JourneyNumber, ReplyCode};

    #[derive(Debug, Clone)]
    enum Step {
        Publish {
            watched: bool,
        },
        Batch {
            count: u64,
        },
        /// Settles what is unsettled around a place, `refused` or not.
        Settle {
            place: usize,
            count: usize,
            refused: bool,
            queues: u32,
        },
        Return {
            place: usize,
        },
        Poll {
            place: usize,
        },
        Drop {
            place: usize,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let place = 0usize..1000;
        prop_oneof![
            4 => any::<bool>().prop_map(|watched| Step::Publish { watched }),
            1 => (1u64..6).prop_map(|count| Step::Batch { count }),
            4 => (place.clone(), 1usize..5, prop::bool::weighted(0.2), 0u32..2)
                .prop_map(|(place, count, refused, queues)| Step::Settle { place, count, refused, queues }),
            1 => place.clone().prop_map(|place| Step::Return { place }),
            3 => place.clone().prop_map(|place| Step::Poll { place }),
            2 => place.prop_map(|place| Step::Drop { place }),
        ]
    }

    /// What a naive ledger knows of a message.
    #[derive(Debug, Clone, PartialEq)]
    enum Known {
        Unsettled { is_returned: bool },
        Confirmed(Confirmed),
        Failed,
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Handle {
        sequence: u64,
        woken: Arc<Counter>,
        is_waiting: bool,
    }

    proptest! {
        #[test]
        fn keeps_the_books_like_a_naive_ledger(steps in prop::collection::vec(step(), 1..120)) {
            let mut ledger = Ledger::default();
            let mut known: Vec<Known> = Vec::new();
            let mut handles: Vec<Handle> = Vec::new();
            let mut batches: Vec<(u64, u64)> = Vec::new();
            let (mut refused, mut returned) = (0, 0);
            for step in steps {
                match step {
                    Step::Publish { watched } => {
                        let sequence = ledger.assign(1);
                        known.push(Known::Unsettled { is_returned: false });
                        prop_assert_eq!(sequence, known.len() as u64);
                        if watched {
                            ledger.watch(sequence);
                            handles.push(Handle { sequence, woken: Arc::default(), is_waiting: false });
                        }
                    }
                    Step::Batch { count } => {
                        let first = ledger.assign(count);
                        known.extend((0..count).map(|_| Known::Unsettled { is_returned: false }));
                        ledger.watch_batch(first, first + count - 1);
                        batches.push((first, first + count - 1));
                    }
                    Step::Settle { place, count, refused: is_refused, queues } => {
                        let is_open = |index: usize| matches!(known.get(index), Some(Known::Unsettled { .. }));
                        let Some(from) = (0..known.len()).map(|add| (place + add) % known.len()).find(|&at| is_open(at))
                        else {
                            continue;
                        };
                        let to = (from..from + count).take_while(|&at| is_open(at)).last().unwrap_or(from);
                        // Each message has an id that is its sequence and a thousand.
                        let journey = |sequence: u64| (queues > 0).then_some(JourneyNumber(1_000 + sequence));
                        let confirmed =
                            Confirmed { level: Durability::Synced, queues, journey: journey(from as u64 + 1) };
                        let refusal = Refusal::new(ReplyCode::ResourceError, "full");
                        let fate = if is_refused { Fate::Refused(Arc::new(refusal)) } else { Fate::Confirmed(confirmed) };
                        let mut wake = Vec::new();
                        let settled = ledger.settle(from as u64 + 1, to as u64 + 1, &fate, &mut wake);
                        prop_assert_eq!(settled, Ok(()));
                        wake.into_iter().for_each(Waker::wake);
                        for (sequence, state) in (from as u64 + 1..).zip(&mut known[from..=to]) {
                            let confirmed = Confirmed { journey: journey(sequence), ..confirmed };
                            let is_returned = matches!(state, Known::Unsettled { is_returned: true });
                            returned += u64::from(is_returned);
                            refused += u64::from(is_refused && !is_returned);
                            *state = if is_refused || is_returned { Known::Failed } else { Known::Confirmed(confirmed) };
                        }
                        let again = ledger.settle(from as u64 + 1, to as u64 + 1, &fate, &mut Vec::new());
                        prop_assert_eq!(again, Err(Implausible::Twice));
                        let beyond = known.len() as u64 + 1;
                        prop_assert_eq!(ledger.settle(beyond, beyond, &fate, &mut Vec::new()), Err(Implausible::NeverSent));
                    }
                    Step::Return { place } => {
                        let Some(at) = place.checked_rem(known.len()) else { continue };
                        let message = Returned {
                            exchange: String::new(),
                            routing_key: String::new(),
                            reason: Refusal::new(ReplyCode::NoRoute, "no queue"),
                            message: Message::default(),
                        };
                        let noted = ledger.note_return(at as u64 + 1, message).is_ok();
                        prop_assert_eq!(noted, known[at] == Known::Unsettled { is_returned: false });
                        if noted {
                            known[at] = Known::Unsettled { is_returned: true };
                        }
                    }
                    Step::Poll { place } => {
                        let Some(at) = place.checked_rem(handles.len()) else { continue };
                        let handle = &mut handles[at];
                        let waker = Waker::from(handle.woken.clone());
                        let state = &known[handle.sequence as usize - 1];
                        match ledger.poll_fate(handle.sequence, &waker) {
                            Poll::Pending => {
                                prop_assert!(matches!(state, Known::Unsettled { .. }), "not known yet");
                                handle.is_waiting = true;
                            }
                            Poll::Ready(Ok(confirmed)) => {
                                prop_assert_eq!(state, &Known::Confirmed(confirmed));
                                handles.swap_remove(at);
                            }
                            Poll::Ready(Err(_)) => {
                                prop_assert_eq!(state, &Known::Failed);
                                handles.swap_remove(at);
                            }
                        }
                    }
                    Step::Drop { place } => {
                        let Some(at) = place.checked_rem(handles.len()) else { continue };
                        ledger.unwatch(handles.swap_remove(at).sequence);
                    }
                }
                for handle in &handles {
                    let is_settled = !matches!(known[handle.sequence as usize - 1], Known::Unsettled { .. });
                    let wakes = handle.woken.0.load(Ordering::Relaxed);
                    prop_assert_eq!(wakes, usize::from(handle.is_waiting && is_settled), "woken once, when it is due");
                }
                let progress = ledger.progress();
                let settled = known.iter().filter(|state| !matches!(state, Known::Unsettled { .. })).count() as u64;
                let through = known.iter().take_while(|state| !matches!(state, Known::Unsettled { .. })).count() as u64;
                prop_assert_eq!((progress.published, progress.settled), (known.len() as u64, settled));
                prop_assert_eq!((progress.settled_through, progress.refused, progress.returned), (through, refused, returned));
            }
            for (first, last) in batches {
                let states = &known[first as usize - 1..last as usize];
                let count = |wanted: fn(&Known) -> bool| states.iter().filter(|state| wanted(state)).count() as u64;
                let unsettled = count(|state| matches!(state, Known::Unsettled { .. }));
                match ledger.poll_batch(first, Waker::noop()) {
                    Poll::Pending => prop_assert!(unsettled > 0),
                    Poll::Ready(outcome) => {
                        prop_assert_eq!(unsettled, 0);
                        prop_assert_eq!(outcome.confirmed, count(|state| matches!(state, Known::Confirmed(_))));
                        prop_assert_eq!(outcome.failed, count(|state| *state == Known::Failed));
                    }
                }
            }
            handles.drain(..).for_each(|handle| ledger.unwatch(handle.sequence));
            prop_assert!(ledger.fates.is_empty(), "a fate nobody can ask for is not kept: {:?}", ledger.fates);
            prop_assert!(ledger.wakers.is_empty());
        }
    }
}
