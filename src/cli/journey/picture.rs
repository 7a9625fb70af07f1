//! The story of a message as lanes and steps between them, from which all pictures are drawn.

use crate::cli::failure::field_at_fault;
use crate::cli::receipts::taker_words;
use crate::cli::terminal::printable;
use crate::client::{Destination, Explanation, Journey, JourneyStep, ReceiptState};
use crate::model::Refusal;

/// Lanes and steps of a message.
#[derive(Debug)]
pub(super) struct Picture {
    /// Who takes part, from left to right.
    pub(super) lanes: Vec<Lane>,
    /// In order.
    pub(super) steps: Vec<Step>,
}

/// Somebody or something that takes part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lane {
    /// Without characters that could do harm.
    pub(super) name: String,
    /// An exchange or a queue, and no client.
    is_place: bool,
}

/// Something that happens between two lanes, or in one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Milliseconds after it was published.
    pub(super) after_ms: u64,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) mark: Mark,
    text: String,
    /// "" if there is none to be told.
    reason: String,
}

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It goes on.
    None,
    /// As it should.
    Good,
    /// The message does not go on here.
    Bad,
}

impl Step {
    /// What happens, in words beside an arrow.
    pub(super) fn words(&self) -> String {
        let words = self.marked();
        if self.reason.is_empty() { words } else { format!("{words}: {}", self.reason) }
    }

    fn marked(&self) -> String {
        match self.mark {
            Mark::None => self.text.clone(),
            Mark::Good => format!("✓ {}", self.text),
            Mark::Bad => format!("✗ {}", self.text),
        }
    }
}

/// For instance "+12 ms".
pub(super) fn after(ms: u64) -> String {
    match ms {
        0..10_000 => format!("+{ms} ms"),
        10_000..600_000 => format!("+{}.{} s", ms / 1000, ms / 100 % 10),
        ms => format!("+{} min", ms / 60_000),
    }
}

impl Picture {
    /// The story of a message.
    pub(super) fn of(journey: &Journey) -> Self {
        let publisher = match journey.publisher.user.as_str() {
            "" => format!("connection {}", journey.publisher.connection_id),
            user => format!("{user} (connection {})", journey.publisher.connection_id),
        };
        let mut picture = Self { lanes: Vec::new(), steps: Vec::new() };
        let (publisher, exchange) =
            (picture.client(&publisher), picture.lane(&exchange_lane(&journey.exchange)));
        let key = printable(&journey.routing_key);
        picture.step(0, (publisher, exchange), Mark::None, format!("published with key '{key}'"));
        if let Some(explanation) = &journey.explanation {
            picture.way(explanation);
        }
        if let Some(refusal) = &journey.refusal {
            picture.reasoned(0, (exchange, publisher), Mark::Bad, "refused".to_owned(), &why(refusal));
        } else if journey.receipts.is_empty() && !journey.was_taken_as_reply() {
            let (to, words) = match journey.mandatory {
                true => (publisher, "reached no queue, and went back"),
                false => (exchange, "reached no queue, and is gone"),
            };
            picture.step(0, (exchange, to), Mark::Bad, words.to_owned());
        }
        // Every queue has its lane, before those of consumers.
        journey.receipts.iter().for_each(|receipt| {
            picture.lane(&queue_lane(&receipt.queue));
        });
        picture.events(journey, exchange);
        picture
    }

    /// In which exchange or queue a step happens.
    pub(super) fn place(&self, step: &Step) -> &str {
        let lane = if self.lanes[step.from].is_place { step.from } else { step.to };
        &self.lanes[lane].name
    }

    /// What happens there, in words that need no arrow.
    pub(super) fn line(&self, step: &Step) -> String {
        let mut line = step.marked();
        if step.from != step.to {
            match self.lanes[step.from].is_place {
                true => line.push_str(&format!(" to {}", self.lanes[step.to].name)),
                false => line.push_str(&format!(" by {}", self.lanes[step.from].name)),
            }
        }
        if !step.reason.is_empty() {
            line.push_str(&format!(" ({})", step.reason));
        }
        line
    }

    /// Each binding that was looked at.
    fn way(&mut self, explanation: &Explanation) {
        for exchange in &explanation.exchanges {
            let from = self.lane(&exchange_lane(&exchange.name));
            for explained in &exchange.bindings {
                let binding = &explained.binding;
                let key = printable(&binding.routing_key);
                let to = match &binding.destination {
                    Destination::Queue(name) => queue_lane(name),
                    Destination::Exchange(name) => exchange_lane(name),
                };
                if explained.matched {
                    let to = self.lane(&to);
                    self.reasoned(0, (from, to), Mark::Good, format!("binding '{key}'"), &explained.reason);
                } else {
                    let text = format!("binding '{key}' to {to}");
                    self.reasoned(0, (from, from), Mark::Bad, text, &explained.reason);
                }
            }
            if exchange.alternate_exchange.is_some() {
                self.step(0, (from, from), Mark::None, exchange.alternate_note.clone());
            }
        }
        if explanation.bindings_omitted > 0 {
            let text = format!("further bindings that were looked at: {}", explanation.bindings_omitted);
            self.step(0, (1, 1), Mark::None, text);
        }
    }

    fn events(&mut self, journey: &Journey, exchange: usize) {
        let middle = journey.events.len() / 2;
        // Who had it last, by the lane of the queue.
        let mut takers: Vec<(usize, usize)> = Vec::new();
        let taker_of = |takers: &[(usize, usize)], queue: usize| {
            takers.iter().rev().find(|(other, _)| *other == queue).map_or(queue, |(_, taker)| *taker)
        };
        for (index, event) in journey.events.iter().enumerate() {
            let ms = event.at.0.saturating_sub(journey.published_at.0);
            if index == middle && journey.events_omitted > 0 {
                let text = format!("further events: {}", journey.events_omitted);
                self.step(ms, (exchange, exchange), Mark::None, text);
            }
            match &event.what {
                JourneyStep::Taken { shard, queues } => {
                    for queue in queues {
                        let queue = self.lane(&queue_lane(queue));
                        self.step(ms, (queue, queue), Mark::None, format!("waits, on shard {shard}"));
                    }
                }
                JourneyStep::NotTaken { shard, refusal } => {
                    let why = refusal.as_ref().map(why).unwrap_or_default();
                    let text = format!("not taken by shard {shard}");
                    self.reasoned(ms, (exchange, exchange), Mark::Bad, text, &why);
                }
                JourneyStep::Delivered { queue, taker, redelivered, delivery_count } => {
                    let queue = self.lane(&queue_lane(queue));
                    let words = taker.as_ref().map_or("somebody".to_owned(), taker_words);
                    let to = self.client(&printable(&words));
                    takers.push((queue, to));
                    let text = match (redelivered, delivery_count) {
                        (false, _) => "delivered".to_owned(),
                        (true, 0) => "delivered, maybe not for the first time".to_owned(),
                        (true, count) => format!("delivered again, came back {count} times before"),
                    };
                    self.step(ms, (queue, to), Mark::None, text);
                }
                JourneyStep::Requeued(queue) => {
                    let queue = self.lane(&queue_lane(queue));
                    self.step(ms, (taker_of(&takers, queue), queue), Mark::None, "given back".to_owned());
                }
                JourneyStep::ConsumerGone(queue) => {
                    let queue = self.lane(&queue_lane(queue));
                    let text = "left behind".to_owned();
                    self.step(ms, (taker_of(&takers, queue), queue), Mark::None, text);
                }
                JourneyStep::Left(queue, state) => {
                    let queue = self.lane(&queue_lane(queue));
                    let (from, mark) = match state {
                        ReceiptState::Accepted => (taker_of(&takers, queue), Mark::Good),
                        ReceiptState::Rejected => (taker_of(&takers, queue), Mark::Bad),
                        ReceiptState::NoAck | ReceiptState::Moved => (queue, Mark::Good),
                        _ => (queue, Mark::Bad),
                    };
                    self.step(ms, (from, queue), mark, state.as_str().to_owned());
                }
                JourneyStep::Missed(queue) => {
                    let queue = self.lane(&queue_lane(queue));
                    let text = "not known any more: the broker ended before it was written".to_owned();
                    self.step(ms, (queue, queue), Mark::Bad, text);
                }
                JourneyStep::Unwatched => {
                    let text = "not looked after any more: there was no room".to_owned();
                    self.step(ms, (exchange, exchange), Mark::Bad, text);
                }
                JourneyStep::Unknown => {
                    let text = "something that this version does not know".to_owned();
                    self.step(ms, (exchange, exchange), Mark::None, text);
                }
            }
        }
    }

    /// The lane of an exchange or queue, which is made if there is none.
    fn lane(&mut self, name: &str) -> usize {
        self.lane_of(name, true)
    }

    fn client(&mut self, name: &str) -> usize {
        self.lane_of(name, false)
    }

    fn lane_of(&mut self, name: &str, is_place: bool) -> usize {
        if let Some(lane) = self.lanes.iter().position(|lane| lane.name == name && lane.is_place == is_place)
        {
            return lane;
        }
        self.lanes.push(Lane { name: name.to_owned(), is_place });
        self.lanes.len() - 1
    }

    fn step(&mut self, after_ms: u64, between: (usize, usize), mark: Mark, text: String) {
        self.reasoned(after_ms, between, mark, text, "");
    }

    fn reasoned(&mut self, after_ms: u64, between: (usize, usize), mark: Mark, text: String, reason: &str) {
        let (from, to) = between;
        self.steps.push(Step { after_ms, from, to, mark, text, reason: printable(reason) });
    }
}

/// What was wrong, shortly: the field, or the sentence if it is none's fault.
fn why(refusal: &Refusal) -> String {
    field_at_fault(refusal).unwrap_or_else(|| refusal.text.clone())
}

fn exchange_lane(name: &str) -> String {
    if name.is_empty() { "default exchange".to_owned() } else { format!("exchange {}", printable(name)) }
}

fn queue_lane(name: &str) -> String {
    format!("queue {}", printable(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_a_unit_that_fits() {
        for (ms, expect) in [
            (0, "+0 ms"),
            (9_999, "+9999 ms"),
            (10_000, "+10.0 s"),
            (61_450, "+61.4 s"),
            (600_000, "+10 min"),
        ] {
            assert_eq!(after(ms), expect);
        }
    }
}
