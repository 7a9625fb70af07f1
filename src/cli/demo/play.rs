//! What a demo is, as data: who takes part, what there is to talk over, what happens, and what is to be heard.

use std::collections::VecDeque;

/// A demo. Nothing in it does anything: [`perform`](super::stage::perform) does.
pub(super) struct Play {
    /// What it is called.
    pub(super) name: &'static str,
    /// What there is to be seen, in a sentence.
    pub(super) about: &'static str,
    pub(super) exchanges: Vec<ExchangePlan>,
    pub(super) subscriptions: Vec<SubscriptionPlan>,
    /// In the order in which what they say is printed.
    pub(super) actors: Vec<Actor>,
    /// What an actor does about what it hears.
    pub(super) react: fn(actor: &str, heard: &Heard) -> Vec<Step>,
    /// What an actor says when its event is confirmed and in so many queues.
    pub(super) confirmed: fn(event: &Event, queues: u32) -> String,
    pub(super) scenes: Vec<Scene>,
    pub(super) by_hand: ByHand,
}

impl Play {
    /// Whether the broker is killed in it, so that it has to be a process of its own.
    pub(super) fn kills_broker(&self) -> bool {
        let beats = self.scenes.iter().flat_map(|scene| &scene.beats);
        beats.into_iter().any(|beat| matches!(beat.act, Act::KillBroker))
    }
}

/// What comes when whoever watches takes over: events that come by themselves, and keys. Nothing is expected of it.
pub(super) struct ByHand {
    /// The next event, by its number from 1 on, and who publishes it: the first of these that is there.
    pub(super) goes_on: fn(number: u64) -> (&'static [&'static str], Event),
    pub(super) keys: Vec<Key>,
}

/// A key, and what it does.
pub(super) struct Key {
    pub(super) letter: char,
    /// What it does, in a word or two.
    pub(super) words: &'static str,
    pub(super) does: Does,
}

/// What a key does.
pub(super) enum Does {
    /// Takes the first of these away that is there; when nobody is left, brings all of them back.
    TakeAway(&'static [&'static str]),
    /// An actor publishes an event, by a number from 1 on.
    Publish(&'static str, fn(number: u64) -> Event),
    /// A subscription listens to the first places, as this actor asks, or again only to the second ones.
    Switch(&'static str, &'static str, &'static [Place], &'static [Place]),
    /// Kills the broker without warning, and the next time starts it again.
    KillBroker,
}

/// A topic exchange, and the patterns of the keys that it takes.
pub(super) struct ExchangePlan {
    pub(super) name: &'static str,
    pub(super) allow: &'static [&'static str],
}

/// A durable subscription.
pub(super) struct SubscriptionPlan {
    pub(super) name: &'static str,
    /// With members each of them has a queue; without, all share one.
    pub(super) members: &'static [&'static str],
    pub(super) listens: &'static [Place],
}

/// An exchange, and a key or a pattern of keys there.
pub(super) type Place = (&'static str, &'static str);

/// Somebody with a connection of its own.
pub(super) struct Actor {
    pub(super) name: &'static str,
    /// The subscription that it takes from, and as which of its members, if it listens at all.
    pub(super) listens: Option<(&'static str, Option<&'static str>)>,
    /// What it hears comes from many at once, so that no order is promised.
    pub(super) in_any_order: bool,
}

/// An event on its way in.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) exchange: &'static str,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) body: String,
}

impl Event {
    /// In how many queues it is, in words.
    pub(super) fn in_queues(queues: u32) -> String {
        match queues {
            1 => "in 1 queue".to_owned(),
            queues => format!("in {queues} queues"),
        }
    }
}

/// What an actor takes notice of.
pub(super) enum Heard {
    /// It has just come, and has heard nothing yet.
    Start,
    /// An event came.
    Event {
        key: String,
        id: String,
        body: String,
        /// Somebody may have had it before.
        again: bool,
    },
    /// What it had in hand is accepted, as [`Act::Settle`] asks.
    Settled { id: String },
}

/// What an actor does about it. In the end it accepts the event, and only then is heard what it said.
pub(super) enum Step {
    Say(String),
    Publish(Event),
    /// Asks the broker whether an exchange takes a key, and says the answer.
    Ask(Place),
    /// Keeps the event in hand, and does not accept it.
    Hold,
}

/// A part of a demo with one idea.
pub(super) struct Scene {
    pub(super) title: &'static str,
    /// What a class predicts before it looks.
    pub(super) question: &'static str,
    pub(super) beats: Vec<Beat>,
}

/// Something is done, and something is heard because of it: exactly that, by exactly these.
pub(super) struct Beat {
    pub(super) act: Act,
    /// What is answered at once, if anything.
    pub(super) answer: Option<String>,
    pub(super) heard: Vec<(&'static str, Vec<String>)>,
}

/// What can be done.
pub(super) enum Act {
    /// These come, in an order that the seed decides.
    Start(Vec<&'static str>),
    /// Goes, with whatever it had in hand.
    Leave(&'static str),
    Publish(&'static str, Event),
    /// Accepts what it had in hand.
    Settle(&'static str),
    /// A subscription listens to this from now on, as this actor asks.
    Listen(&'static str, &'static str, Vec<Place>),
    /// Looks how it stands with a subscription.
    Look(&'static str),
    /// Kills the broker without warning and starts it again.
    KillBroker,
    /// Asks for the receipts of a message.
    Receipts(String),
}

impl Beat {
    /// Nothing is answered, and nothing heard.
    pub(super) fn of(act: Act) -> Self {
        Self { act, answer: None, heard: Vec::new() }
    }

    pub(super) fn answers(mut self, answer: &str) -> Self {
        self.answer = Some(answer.to_owned());
        self
    }

    /// As [`answers`](Self::answers), in several lines.
    pub(super) fn answers_lines<const LINES: usize>(self, lines: [&str; LINES]) -> Self {
        self.answers(&lines.join("\n"))
    }

    pub(super) fn heard<const LINES: usize>(mut self, actor: &'static str, lines: [&str; LINES]) -> Self {
        self.heard.push((actor, lines.map(str::to_owned).to_vec()));
        self
    }
}

/// What is to be heard in a beat, and has not been.
pub(super) struct Awaited {
    left: Vec<(&'static str, bool, VecDeque<String>)>,
}

/// Something that was not to be heard, and what was to be instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpected {
    /// What was to be heard of this actor next; `None`: nothing more.
    pub(super) instead_of: Option<String>,
}

impl Awaited {
    pub(super) fn of(play: &Play, beat: &Beat) -> Self {
        let is_any = |name| play.actors.iter().any(|actor| actor.name == name && actor.in_any_order);
        let left =
            beat.heard.iter().map(|(actor, lines)| (*actor, is_any(*actor), lines.iter().cloned().collect()));
        Self { left: left.collect() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.iter().all(|(_, _, lines)| lines.is_empty())
    }

    /// Ticks off what an actor said.
    pub(super) fn hear(&mut self, actor: &str, line: &str) -> Result<(), Unexpected> {
        let Some((_, in_any_order, lines)) = self.left.iter_mut().find(|(name, ..)| *name == actor) else {
            return Err(Unexpected { instead_of: None });
        };
        let place = match in_any_order {
            true => lines.iter().position(|expected| expected == line),
            false => lines.front().filter(|expected| *expected == line).map(|_| 0),
        };
        match place.and_then(|place| lines.remove(place)) {
            Some(_) => Ok(()),
            None => Err(Unexpected { instead_of: lines.front().cloned() }),
        }
    }

    /// All that was not heard: by whom, and what.
    pub(super) fn missing(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.left.iter().flat_map(|(actor, _, lines)| lines.iter().map(|line| (*actor, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awaited(in_any_order: bool) -> Awaited {
        let lines = ["one", "two"].map(str::to_owned);
        Awaited { left: vec![("ann", in_any_order, lines.into())] }
    }

    #[test]
    fn what_is_heard_is_ticked_off_in_its_order() {
        let mut awaited = awaited(false);
        assert_eq!(awaited.hear("ann", "two"), Err(Unexpected { instead_of: Some("one".to_owned()) }));
        assert_eq!(awaited.hear("ben", "one"), Err(Unexpected { instead_of: None }));
        assert_eq!(awaited.hear("ann", "one"), Ok(()));
        assert!(!awaited.is_over());
        assert_eq!(awaited.missing().collect::<Vec<_>>(), [("ann", &"two".to_owned())]);
        assert_eq!(awaited.hear("ann", "two"), Ok(()));
        assert!(awaited.is_over());
        assert_eq!(awaited.hear("ann", "two"), Err(Unexpected { instead_of: None }), "it was said once");
    }

    #[test]
    fn of_some_the_order_does_not_matter_but_the_number_does() {
        let mut awaited = awaited(true);
        assert_eq!(awaited.hear("ann", "two"), Ok(()));
        assert!(awaited.hear("ann", "two").is_err());
        assert_eq!(awaited.hear("ann", "one"), Ok(()));
        assert!(awaited.is_over());
    }
}
