//! Why messages leave a queue.

/// Why messages left. Each settlement is recorded with it, and counted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Departure {
    /// A consumer is done with them.
    Accepted,
    /// A consumer does not want them.
    Rejected,
    /// Somebody emptied the queue.
    Purged,
    /// They went to a consumer that sends no acknowledgements.
    NoAck,
    /// They were published elsewhere, and are not wanted here any more.
    Moved,
    /// They waited for longer than the queue lets them.
    Expired,
    /// Newer ones left them no room.
    MaxLength,
    /// They were dead letters, and are stored where dead letters of the queue go.
    DeadLettered,
    /// They were dead letters, and would have gone round in a circle for ever.
    Cycle,
    /// They came back more often than the queue lets them.
    DeliveryLimit,
}

impl Departure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Rejected,
        Self::Purged,
        Self::NoAck,
        Self::Moved,
        Self::Expired,
        Self::MaxLength,
        Self::DeadLettered,
        Self::Cycle,
        Self::DeliveryLimit,
    ];

    /// Consumers had them and were done with them: what a queue may retain.
    pub(super) fn is_retained(self) -> bool {
        matches!(self, Self::Accepted | Self::NoAck)
    }

    /// Whether those are dead letters that leave a queue for it, if the queue has a place for them.
    pub(super) fn makes_dead_letters(self) -> bool {
        matches!(self, Self::Rejected | Self::Expired | Self::MaxLength | Self::DeliveryLimit)
    }

    /// Whether those are dead letters of which it tells.
    pub(super) fn ends_dead_letters(self) -> bool {
        matches!(self, Self::DeadLettered | Self::Cycle)
    }

    /// Its number in the log.
    pub fn code(self) -> u8 {
        match self {
            Self::Accepted => 1,
            Self::Rejected => 2,
            Self::Purged => 3,
            Self::NoAck => 4,
            Self::Moved => 5,
            Self::Expired => 6,
            Self::MaxLength => 7,
            Self::DeadLettered => 8,
            Self::Cycle => 9,
            Self::DeliveryLimit => 10,
        }
    }

    /// The one with this number.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|departure| departure.code() == code)
    }
}

/// Why messages came back to their queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Return {
    /// A consumer gave them back.
    Requeued,
    /// The consumer that had them is gone.
    ConsumerGone,
}

/// How many messages left for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Departures {
    /// Consumers were done with them.
    pub accepted: u64,
    /// Consumers did not want them.
    pub rejected: u64,
    /// Somebody emptied the queue.
    pub purged: u64,
    /// They went to consumers that send no acknowledgements.
    pub no_ack: u64,
    /// They were published elsewhere.
    pub moved: u64,
    /// They waited for too long.
    pub expired: u64,
    /// Newer ones left them no room.
    pub max_length: u64,
    /// They came back too often.
    pub delivery_limit: u64,
    /// Of those that were rejected, had expired, had no room or came back too often: they are stored where dead letters go.
    pub dead_lettered: u64,
    /// Of the same: they would have gone round in a circle.
    pub cycled: u64,
}

impl Departures {
    pub(super) fn count(&mut self, departure: Departure, messages: u64) {
        *match departure {
            Departure::Accepted => &mut self.accepted,
            Departure::Rejected => &mut self.rejected,
            Departure::Purged => &mut self.purged,
            Departure::NoAck => &mut self.no_ack,
            Departure::Moved => &mut self.moved,
            Departure::Expired => &mut self.expired,
            Departure::MaxLength => &mut self.max_length,
            Departure::DeadLettered => &mut self.dead_lettered,
            Departure::Cycle => &mut self.cycled,
            Departure::DeliveryLimit => &mut self.delivery_limit,
        } += messages;
    }
}
