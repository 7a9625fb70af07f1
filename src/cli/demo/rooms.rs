//! Namespaces and rooms: a namespace is an exchange, a room is a binding, and joining is listening to one key more.

use super::play::{
    Act, Actor, Beat, ByHand, Does, Event, ExchangePlan, Heard, Key, Place, Play, Scene, Step,
    SubscriptionPlan,
};

const TEACHER: &str = "teacher";
const ANN: &str = "ann";
const BEN: &str = "ben";
const CLEO: &str = "cleo";
const DORA: &str = "dora";

/// What everybody in the school hears.
const IN_SCHOOL: Place = ("rooms.school", "message");

/// What is heard in the room.
const IN_ROOM: Place = ("rooms.school", "challenge.codefellows");

pub(super) fn play() -> Play {
    let actor = |name, listens: Option<&'static str>| Actor {
        name,
        listens: listens.map(|subscription| (subscription, None)),
        in_any_order: false,
    };
    Play {
        name: "rooms",
        about: "three namespaces, a room in one of them, and four people: who hears what",
        exchanges: vec![
            ExchangePlan { name: "rooms", allow: &["message"] },
            ExchangePlan { name: "rooms.school", allow: &["message", "challenge.*"] },
            ExchangePlan { name: "rooms.home", allow: &["message"] },
        ],
        subscriptions: vec![
            SubscriptionPlan { name: "rooms.ann", members: &[], listens: &[("rooms", "message")] },
            SubscriptionPlan { name: "rooms.ben", members: &[], listens: &[IN_SCHOOL, IN_ROOM] },
            SubscriptionPlan { name: "rooms.cleo", members: &[], listens: &[IN_SCHOOL] },
            SubscriptionPlan { name: "rooms.dora", members: &[], listens: &[("rooms.home", "message")] },
        ],
        actors: vec![
            actor(TEACHER, None),
            actor(ANN, Some("rooms.ann")),
            actor(BEN, Some("rooms.ben")),
            actor(CLEO, Some("rooms.cleo")),
            actor(DORA, Some("rooms.dora")),
        ],
        react,
        confirmed: |event, queues| {
            format!("{}/{} '{}': {}", event.exchange, event.key, event.body, Event::in_queues(queues))
        },
        scenes: vec![namespaces(), room(), joining(), away(), leaving()],
        by_hand: ByHand {
            goes_on: |number| (&[TEACHER], next_word(number)),
            keys: vec![
                Key {
                    letter: 'j',
                    words: "cleo joins",
                    does: Does::Switch(CLEO, "rooms.cleo", &[IN_SCHOOL, IN_ROOM], &[IN_SCHOOL]),
                },
                Key {
                    letter: 'b',
                    words: "ben leaves",
                    does: Does::Switch(BEN, "rooms.ben", &[IN_SCHOOL], &[IN_SCHOOL, IN_ROOM]),
                },
                Key { letter: 'c', words: "cut off", does: Does::TakeAway(&[CLEO, BEN]) },
            ],
        },
    }
}

/// What the teacher says, over and over: a word in each namespace, and a challenge in the room.
fn next_word(number: u64) -> Event {
    let (exchange, key, word) = match number % 4 {
        1 => ("rooms", "message", "hello"),
        2 => ("rooms.school", "message", "lunch"),
        3 => ("rooms.school", "challenge.codefellows", "riddle"),
        _ => ("rooms.home", "message", "supper"),
    };
    let body = format!("{word} {number}");
    Event { exchange, key: key.to_owned(), id: format!("w-{number}"), body }
}

fn react(_: &str, heard: &Heard) -> Vec<Step> {
    match heard {
        Heard::Event { key, body, .. } => vec![Step::Say(format!("hears {key} '{body}'"))],
        _ => Vec::new(),
    }
}

fn says(exchange: &'static str, key: &str, body: &str, answer: &str) -> Beat {
    let event = Event { exchange, key: key.to_owned(), id: body.to_owned(), body: body.to_owned() };
    Beat::of(Act::Publish(TEACHER, event)).answers(answer)
}

/// A challenge to the room, and how many are in it, there or not.
fn challenge(body: &str, members: u32) -> Beat {
    let answer = format!("rooms.school/challenge.codefellows '{body}': {}", Event::in_queues(members));
    says("rooms.school", "challenge.codefellows", body, &answer)
}

fn hears(beat: Beat, actor: &'static str, body: &str) -> Beat {
    beat.heard(actor, [format!("hears challenge.codefellows '{body}'").as_str()])
}

fn namespaces() -> Scene {
    Scene {
        title: "three namespaces",
        question: "ann is in the first, ben and cleo are in the school, dora is at home. Who hears which word?",
        beats: vec![
            Beat::of(Act::Start(vec![TEACHER, ANN, BEN, CLEO, DORA])),
            says("rooms", "message", "hello", "rooms/message 'hello': in 1 queue")
                .heard(ANN, ["hears message 'hello'"]),
            says("rooms.school", "message", "lunch", "rooms.school/message 'lunch': in 2 queues")
                .heard(BEN, ["hears message 'lunch'"])
                .heard(CLEO, ["hears message 'lunch'"]),
            says("rooms.home", "message", "supper", "rooms.home/message 'supper': in 1 queue")
                .heard(DORA, ["hears message 'supper'"]),
        ],
    }
}

fn room() -> Scene {
    Scene {
        title: "a room in the school",
        question: "ben has joined the room 'codefellows', cleo has not. Who hears a challenge there, and one at home?",
        beats: vec![
            hears(challenge("riddle-1", 1), BEN, "riddle-1"),
            says(
                "rooms.home",
                "challenge.codefellows",
                "riddle-0",
                "refused: routing_key: expected a key that matches 'message', got challenge.codefellows; publish \
                 under a key that the exchange takes, or declare it with another list",
            ),
        ],
    }
}

fn joining() -> Scene {
    let joined = "listens to rooms.school/message, rooms.school/challenge.codefellows";
    Scene {
        title: "somebody joins the room",
        question: "does cleo hear the challenge that was before, or the next one?",
        beats: vec![
            Beat::of(Act::Listen(CLEO, "rooms.cleo", vec![IN_SCHOOL, IN_ROOM])).answers(joined),
            hears(hears(challenge("riddle-2", 2), BEN, "riddle-2"), CLEO, "riddle-2"),
        ],
    }
}

fn away() -> Scene {
    Scene {
        title: "somebody's connection is gone",
        question: "cleo is cut off. Is she still in the room?",
        beats: vec![
            Beat::of(Act::Leave(CLEO)),
            hears(challenge("riddle-3", 2), BEN, "riddle-3"),
            Beat::of(Act::Look("rooms.cleo")).answers("dark, messages that wait: 1"),
            hears(Beat::of(Act::Start(vec![CLEO])), CLEO, "riddle-3"),
            Beat::of(Act::Receipts("riddle-3".to_owned())).answers_lines([
                "challenge.codefellows for rooms.ben: accepted, sent 1",
                "challenge.codefellows for rooms.cleo: accepted, sent 1",
            ]),
        ],
    }
}

fn leaving() -> Scene {
    let left = "listens to rooms.school/message";
    Scene {
        title: "everybody leaves the room",
        question: "a challenge to an empty room: what is the teacher told?",
        beats: vec![
            Beat::of(Act::Listen(BEN, "rooms.ben", vec![IN_SCHOOL])).answers(left),
            hears(challenge("riddle-4", 1), CLEO, "riddle-4"),
            Beat::of(Act::Listen(CLEO, "rooms.cleo", vec![IN_SCHOOL])).answers(left),
            says(
                "rooms.school",
                "challenge.codefellows",
                "riddle-5",
                "rooms.school/challenge.codefellows came back: nobody listens to it",
            ),
            Beat::of(Act::Receipts("riddle-4".to_owned()))
                .answers("challenge.codefellows for rooms.cleo: accepted, sent 1"),
        ],
    }
}
