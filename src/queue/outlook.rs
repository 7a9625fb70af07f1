//! What a queue would do with a message that came now, found out by the rules that hold for those that come, and with nothing changed.

use super::message_ref::MessageRef;
use super::queue::Queue;
use super::room::Full;
use crate::model::BodySequence;

/// A message that may come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Bytes of it, as it is encoded.
    pub size_bytes: u32,
    /// Its priority.
    pub priority: u8,
    /// Milliseconds after which it expires by itself.
    pub expires_after_millis: Option<u64>,
    /// Whether it is for later.
    pub for_later: bool,
}

/// What would become of it at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not let in, for this bound.
    Refused(Full),
    /// It is held back until a later time.
    HeldBack,
    /// Somebody who is there takes it at once.
    Taken,
    /// It is among those that leave, for there is no room by this bound.
    Dropped(Full),
    /// It leaves because nobody takes it at once.
    Expires,
    /// It waits behind so many.
    Waits(u64),
}

/// What a queue would do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// What would become of the message.
    pub fate: Fate,
    /// How many of those that wait would leave to make room for it, and by which bound.
    pub drops: Option<(u64, Full)>,
    /// After how many milliseconds it expires, if it waits.
    pub expires_after_millis: Option<u64>,
}

impl Queue {
    /// What it would do with a message that came now, while `asked` others are about to be taken one by one. If it `hands_out`
    /// nothing, nobody takes it.
    pub fn outlook(&mut self, candidate: Candidate, asked: u64, hands_out: bool) -> Outlook {
        let Candidate { priority, for_later, .. } = candidate;
        let ttl = [self.options.limits.ttl_millis, candidate.expires_after_millis];
        let expires_after_millis = ttl.into_iter().flatten().min();
        let with = |fate| Outlook { fate, drops: None, expires_after_millis };
        if let Some(Err(full)) = self.room(asked).map(|mut room| room.take(u64::from(candidate.size_bytes))) {
            return with(Fate::Refused(full));
        }
        if for_later {
            return with(Fate::HeldBack);
        }
        let takers = if hands_out { self.room_of_consumers().saturating_add(asked) } else { 0 };
        let ahead = self.lines.waiting_before_priority(self.known_priority(priority));
        if ahead < takers {
            return with(Fate::Taken);
        }
        let (dropped, drops) = self.would_drop(candidate, ahead, takers);
        let fate = match dropped {
            Some(full) => Fate::Dropped(full),
            None if expires_after_millis == Some(0) => Fate::Expires,
            None => Fate::Waits(ahead - takers - drops.map_or(0, |(count, _)| count)),
        };
        Outlook { drops, ..with(fate) }
    }

    /// Why the message itself would leave if it stood behind `ahead` of those that wait, of which the first are taken; and how many
    /// others would.
    fn would_drop(
        &mut self,
        candidate: Candidate,
        ahead: u64,
        takers: u64,
    ) -> (Option<Full>, Option<(u64, Full)>) {
        if self.options.limits.refuse_what_comes() {
            return (None, None);
        }
        // Bytes of all messages are exact, those of one that leaves are as large as the queue knows it to be.
        let known_bytes = MessageRef::new(BodySequence(0), candidate.size_bytes).size_bytes();
        let waiting = self.ready().saturating_sub(takers) + 1;
        let bytes = self.options.limits.bytes.map_or(0, |_| self.waiting_bytes_behind(takers));
        let mut excess =
            self.options.limits.excess(waiting, bytes.saturating_add(u64::from(candidate.size_bytes)));
        let Some(full) = excess.by(self.options.limits) else { return (None, None) };
        let mut drops = 0;
        let mut behind = self.lines.in_turn().skip(usize::try_from(takers).unwrap_or(usize::MAX));
        while excess.is_some() && takers + drops < ahead {
            let Some(message) = behind.next() else { break };
            excess.less(message.size_bytes());
            drops += 1;
        }
        let dropped = excess.is_some().then_some(full);
        if dropped.is_some() {
            excess.less(known_bytes);
            while excess.is_some() {
                let Some(message) = behind.next() else { break };
                excess.less(message.size_bytes());
                drops += 1;
            }
        }
        (dropped, (drops > 0).then_some((drops, full)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ConnectionId, Overflow};
    use crate::queue::{
        ConsumerKey, ConsumerLimits, Departure, Effect, Effects, Limits, QueueCommand, QueueOptions, Taking,
    };

    const TAKER: ConsumerKey =
        ConsumerKey { connection: ConnectionId(1), channel: 1, handle: 1, taking: Taking::Consuming };
    const LIMITS: ConsumerLimits = ConsumerLimits {
        prefetch: 0,
        no_ack: false,
        exclusive: false,
        credit: None,
        window_bytes: 1 << 30,
        priority: 0,
    };

    #[derive(Debug, Clone)]
    enum Step {
        /// A message comes.
        Come { size_bytes: u32, priority: u8, expires: bool, for_later: bool },
        /// The consumer takes so many more.
        Credit(u32),
        /// One in so many of those that are held back waits from now on.
        Release(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let come = (0..40u32, 0..4u8, any::<bool>(), prop::bool::weighted(0.2));
        let come = come.prop_map(|(size_bytes, priority, expires, for_later)| Step::Come {
            // Those of 16 KiB and more are known to 16 KiB.
            size_bytes: if size_bytes == 39 { 40_000 } else { size_bytes },
            priority,
            expires,
            for_later,
        });
        let step = prop_oneof![8 => come, 1 => (1..4u32).prop_map(Step::Credit), 1 => (1..3u64).prop_map(Step::Release)];
        prop::collection::vec(step, 0..60)
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let overflow = prop::sample::select(&Overflow::ALL);
        let bounds =
            (prop::option::of(0..6u64), prop::option::of(0..100u64), prop::option::weighted(0.2, 0..2u64));
        (bounds, overflow).prop_map(|((messages, bytes, ttl), overflow)| Limits {
            messages,
            bytes,
            ttl_millis: ttl.map(|some| some * 1_000),
            overflow,
        })
    }

    /// What the queue asks for is done; returns what goes to consumers and what leaves for this reason.
    fn carry_out(queue: &mut Queue, effects: Effects, why: Departure) -> (Vec<u64>, Vec<u64>) {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Deliver { run, .. } => taken.extend(run.sequences()),
                Effect::Append(command) => {
                    if let QueueCommand::Settle(departure, runs) = &command
                        && *departure == why
                    {
                        left.extend(runs.runs().iter().flat_map(|run| run.sequences()));
                    }
                    queue.apply(&command, &mut Effects::new());
                }
                _ => {}
            }
        }
        (taken, left)
    }

    /// Lets the message come and tells what became of it.
    fn come(queue: &mut Queue, sequence: u64, candidate: Candidate) -> Outlook {
        let Candidate { size_bytes, priority, expires_after_millis, for_later } = candidate;
        let ttl = [queue.options().limits.ttl_millis, expires_after_millis].into_iter().flatten().min();
        let became = |fate, drops| Outlook { fate, drops, expires_after_millis: ttl };
        if let Some(mut room) = queue.room(0)
            && let Err(full) = room.take(u64::from(size_bytes))
        {
            return became(Fate::Refused(full), None);
        }
        queue.enqueue_prior(priority, BodySequence(sequence), [size_bytes].into_iter());
        if for_later {
            assert_eq!(queue.hold([sequence]), 1);
            return became(Fate::HeldBack, None);
        }
        let mut effects = Effects::new();
        queue.deliver(&mut effects);
        if carry_out(queue, effects, Departure::MaxLength).0.contains(&sequence) {
            return became(Fate::Taken, None);
        }
        let bound = |queue: &mut Queue| match queue.options().limits {
            Limits { messages: Some(most), .. } if queue.ready() > most => Full::Messages(most),
            Limits { bytes, .. } => Full::Bytes(bytes.unwrap_or(u64::MAX)),
        };
        let bound = bound(queue);
        let mut effects = Effects::new();
        queue.drop_excess(&mut effects);
        let (_, left) = carry_out(queue, effects, Departure::MaxLength);
        let others = left.iter().filter(|other| **other != sequence).count() as u64;
        let drops = (others > 0).then_some((others, bound));
        if left.contains(&sequence) {
            return became(Fate::Dropped(bound), drops);
        }
        if ttl == Some(0) {
            let mut effects = Effects::new();
            queue.expire_these(&[sequence], &mut effects);
            assert_eq!(carry_out(queue, effects, Departure::Expired).1, [sequence]);
            return became(Fate::Expires, drops);
        }
        let ahead = queue.lines.in_turn().position(|message| message.sequence() == sequence);
        became(Fate::Waits(ahead.unwrap() as u64), drops)
    }

    proptest! {
        /// Whatever is in the queue, it does what it said that it would.
        #[test]
        fn what_was_foreseen_happens(steps in steps(), limits in limits(), prior in any::<bool>()) {
            let max_priority = prior.then_some(2);
            let mut queue = Queue::new(QueueOptions { limits, max_priority, ..QueueOptions::default() });
            queue.attach(TAKER, ConsumerLimits { credit: Some(0), ..LIMITS }).unwrap();
            for (step, sequence) in steps.into_iter().zip(1..) {
                match step {
                    Step::Come { size_bytes, priority, expires, for_later } => {
                        let expires_after_millis = expires.then_some(0);
                        let candidate = Candidate { size_bytes, priority, expires_after_millis, for_later };
                        let before = queue.counts();
                        let foreseen = queue.outlook(candidate, 0, true);
                        prop_assert_eq!(queue.counts(), before, "it only looks");
                        prop_assert_eq!(foreseen, come(&mut queue, sequence, candidate));
                    }
                    Step::Credit(add) => queue.add_credit(TAKER, add),
                    Step::Release(each) => {
                        let held = (1..sequence).filter(|held| held % each == 0).collect::<Vec<_>>();
                        queue.release(held);
                    }
                }
                let mut effects = Effects::new();
                queue.deliver(&mut effects);
                carry_out(&mut queue, effects, Departure::MaxLength);
                let mut effects = Effects::new();
                queue.drop_excess(&mut effects);
                carry_out(&mut queue, effects, Departure::MaxLength);
            }
        }
    }

    #[test]
    fn a_queue_that_hands_out_nothing_gives_it_to_nobody() {
        let mut queue = Queue::new(QueueOptions::default());
        queue.attach(TAKER, LIMITS).unwrap();
        let candidate = Candidate { size_bytes: 5, ..Candidate::default() };
        assert_eq!(queue.outlook(candidate, 0, true).fate, Fate::Taken);
        assert_eq!(queue.outlook(candidate, 0, false).fate, Fate::Waits(0));
        assert_eq!(
            Queue::new(QueueOptions::default()).outlook(candidate, 1, true).fate,
            Fate::Taken,
            "asked for"
        );
    }
}
