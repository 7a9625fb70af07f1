//! The kinds of frames: the body numbers in `frame.proto`, their names, and who sends them.

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who listens.
    Server,
}

/// Who may send a kind of frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
    Both,
}

pub(super) const PUBLISH: u32 = 3;
pub(super) const CONFIRM: u32 = 4;
pub(super) const RETURN: u32 = 5;
pub(super) const DELIVER: u32 = 6;
pub(super) const SETTLE: u32 = 7;
pub(super) const GOT: u32 = 31;

/// A kind of frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    sender: Sender,
}

impl Kind {
    pub(super) fn may_come_from(self, side: Side) -> bool {
        match self.sender {
            Sender::Both => true,
            Sender::Client => side == Side::Client,
            Sender::Server => side == Side::Server,
        }
    }
}

/// The kind with this body number; `None` if this version knows none.
#[inline]
pub(super) fn kind(number: u32) -> Option<Kind> {
    use Sender::{Both, Client, Server};
    let (name, sender) = match number {
        3 => ("Publish", Client),
        4 => ("Confirm", Server),
        5 => ("Return", Server),
        6 => ("Deliver", Server),
        7 => ("Settle", Client),
        8 => ("Credit", Client),
        9 => ("Heartbeat", Both),
        10 => ("Extend", Client),
        16 => ("Connect", Client),
        17 => ("Connected", Server),
        18 => ("Close", Both),
        19 => ("OpenChannel", Client),
        20 => ("CloseChannel", Client),
        21 => ("Done", Server),
        22 => ("Error", Server),
        23 => ("LimitPrefetch", Client),
        24 => ("OpenPublisher", Client),
        25 => ("ClosePublisher", Client),
        26 => ("Consume", Client),
        27 => ("Consuming", Server),
        28 => ("CancelConsumer", Client),
        29 => ("ConsumerCancelled", Server),
        30 => ("Get", Client),
        31 => ("Got", Server),
        32 => ("DeclareExchange", Client),
        33 => ("DeleteExchange", Client),
        34 => ("Bind", Client),
        35 => ("Unbind", Client),
        36 => ("DeclareQueue", Client),
        37 => ("QueueDeclared", Server),
        38 => ("DeleteQueue", Client),
        39 => ("PurgeQueue", Client),
        40 => ("MessageCount", Server),
        41 => ("Subscribe", Client),
        42 => ("Subscribed", Server),
        43 => ("Unsubscribe", Client),
        44 => ("AlterExchange", Client),
        45 => ("ExchangeAltered", Server),
        46 => ("AlterQueue", Client),
        47 => ("QueueAltered", Server),
        48 => ("List", Client),
        49 => ("Listing", Server),
        50 => ("Explain", Client),
        51 => ("Explanation", Server),
        52 => ("PutUser", Client),
        53 => ("DeleteUser", Client),
        54 => ("PutVhost", Client),
        55 => ("DeleteVhost", Client),
        56 => ("Blocked", Server),
        57 => ("Unblocked", Server),
        58 => ("PutPermissions", Client),
        59 => ("DeletePermissions", Client),
        60 => ("PutTopicPermissions", Client),
        61 => ("DeleteTopicPermissions", Client),
        62 => ("PutUserLimits", Client),
        63 => ("PutVhostLimits", Client),
        64 => ("KeepJourneys", Client),
        65 => ("KeepNoJourneys", Client),
        66 => ("TellJourneys", Client),
        67 => ("Journeys", Server),
        68 => ("Browse", Client),
        69 => ("Browsed", Server),
        70 => ("RemoveMoved", Client),
        71 => ("Removed", Server),
        72 => ("CancelDelayed", Client),
        73 => ("PutPolicy", Client),
        74 => ("DeletePolicy", Client),
        _ => return None,
    };
    Some(Kind { name, sender })
}
