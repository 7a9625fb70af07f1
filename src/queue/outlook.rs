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
        // As large as the queue would know it to be.
        let size_bytes = MessageRef::new(BodySequence(0), candidate.size_bytes).size_bytes();
        let waiting = self.ready().saturating_sub(takers) + 1;
        let bytes = self.options.limits.bytes.map_or(0, |_| self.waiting_bytes_behind(takers));
        let mut excess = self.options.limits.excess(waiting, bytes.saturating_add(size_bytes));
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
            excess.less(size_bytes);
            while excess.is_some() {
                let Some(message) = behind.next() else { break };
                excess.less(message.size_bytes());
                drops += 1;
            }
        }
        (dropped, (drops > 0).then_some((drops, full)))
    }
}
