//! Three servers and an app: a queue server, two servers that listen, and an app that publishes and ends.
//!
//! What a small queue server calls a queue is an exchange here, and its events are routing keys. That server loses what is
//! published before somebody listens, and what goes to a queue or an event that it does not know, and tells nobody.

use super::play::{
    Act, Actor, Beat, ByHand, Does, Event, ExchangePlan, Heard, Key, Play, Scene, Step, SubscriptionPlan,
};

const SERVER: &str = "server";
const LOGGER: &str = "logger";
const NETWORK: &str = "network";
const APP: &str = "app";

pub(super) fn play() -> Play {
    let actor = |name, listens| Actor { name, listens, in_any_order: false };
    Play {
        name: "nmq",
        about: "a queue server, two servers that listen, and an app that publishes and ends",
        exchanges: vec![
            ExchangePlan { name: "nmq.database", allow: &["create", "update", "delete"] },
            ExchangePlan { name: "nmq.network", allow: &["attack", "no-service"] },
        ],
        subscriptions: vec![
            SubscriptionPlan {
                name: "nmq.logger",
                members: &[],
                listens: &[("nmq.database", "delete"), ("nmq.database", "create"), ("nmq.network", "attack")],
            },
            SubscriptionPlan { name: "nmq.network", members: &[], listens: &[("nmq.network", "attack")] },
        ],
        actors: vec![
            actor(SERVER, None),
            actor(LOGGER, Some(("nmq.logger", None))),
            actor(NETWORK, Some(("nmq.network", None))),
            actor(APP, None),
        ],
        react,
        confirmed: |event, queues| {
            format!("{}/{} {}: {}", event.exchange, event.key, event.body, Event::in_queues(queues))
        },
        scenes: vec![app_first(), servers(), nobody_listens(), nobody_monitors(), misspelt(), as_usual()],
        by_hand: ByHand {
            goes_on: |number| (&[APP], next_event(number)),
            keys: vec![
                Key { letter: 'l', words: "logger", does: Does::TakeAway(&[LOGGER]) },
                Key { letter: 'n', words: "network", does: Does::TakeAway(&[NETWORK]) },
                Key { letter: 'a', words: "app", does: Does::TakeAway(&[APP]) },
                Key {
                    letter: 'u',
                    words: "update",
                    does: Does::Publish(SERVER, |number| event("nmq.database", "update", number, DELETED)),
                },
                Key {
                    letter: 'm',
                    words: "misspell",
                    does: Does::Publish(SERVER, |number| match number % 2 {
                        1 => event("nmq.network", "atack", number, ATTACK),
                        _ => event("nmq.databse", "create", number, CREATED),
                    }),
                },
            ],
        },
    }
}

/// What the app publishes, over and over.
fn next_event(number: u64) -> Event {
    match number % 3 {
        1 => event("nmq.database", "delete", number, DELETED),
        2 => event("nmq.database", "create", number, CREATED),
        _ => event("nmq.network", "attack", number, ATTACK),
    }
}

fn event(exchange: &'static str, key: &str, number: u64, body: &str) -> Event {
    Event { exchange, key: key.to_owned(), id: format!("n-{number}"), body: body.to_owned() }
}

fn react(actor: &str, heard: &Heard) -> Vec<Step> {
    match (actor, heard) {
        (SERVER, Heard::Start) => ["database: create, delete, update", "network: attack, no-service"]
            .map(|queue| Step::Say(format!("monitors {queue}")))
            .into(),
        (LOGGER, Heard::Start) => [
            ("nmq.database", "delete"),
            ("nmq.database", "create"),
            ("nmq.network", "attack"),
            ("nmq.network", "foo"),
        ]
        .map(Step::Ask)
        .into(),
        (NETWORK, Heard::Start) => vec![Step::Ask(("nmq.network", "attack"))],
        (NETWORK, Heard::Event { .. }) => vec![Step::Say("Shields up!".to_owned())],
        (_, Heard::Event { key, body, .. }) if key == "attack" => vec![Step::Say(format!("RUN! {body}"))],
        (_, Heard::Event { key, body, .. }) => vec![Step::Say(format!("{key} {body}"))],
        _ => Vec::new(),
    }
}

const DELETED: &str = r#"{"id":77}"#;
const CREATED: &str = r#"{"id":99,"name":"Ada"}"#;
const ATTACK: &str = r#"{"type":"flood","source":"outside"}"#;

/// The app publishes an event.
fn publishes(exchange: &'static str, key: &str, id: &str, body: &str, answer: &str) -> Beat {
    let event = Event { exchange, key: key.to_owned(), id: id.to_owned(), body: body.to_owned() };
    Beat::of(Act::Publish(APP, event)).answers(answer)
}

fn app_first() -> Scene {
    Scene {
        title: "the app comes first, and nobody is there",
        question: "it publishes three events and ends. Who will ever hear them?",
        beats: vec![
            Beat::of(Act::Start(vec![APP])),
            publishes(
                "nmq.database",
                "delete",
                "e-1",
                DELETED,
                r#"nmq.database/delete {"id":77}: in 1 queue"#,
            ),
            publishes(
                "nmq.database",
                "create",
                "e-2",
                CREATED,
                r#"nmq.database/create {"id":99,"name":"Ada"}: in 1 queue"#,
            ),
            publishes(
                "nmq.network",
                "attack",
                "e-3",
                ATTACK,
                r#"nmq.network/attack {"type":"flood","source":"outside"}: in 2 queues"#,
            ),
            Beat::of(Act::Leave(APP)),
            Beat::of(Act::Receipts("e-3".to_owned())).answers_lines([
                "attack for nmq.logger: pending, dark, sent 0",
                "attack for nmq.network: pending, dark, sent 0",
            ]),
        ],
    }
}

fn servers() -> Scene {
    Scene {
        title: "the servers come, in any order",
        question: "what does each of them print? The logger also asks for an event 'foo'.",
        beats: vec![
            Beat::of(Act::Start(vec![SERVER, LOGGER, NETWORK]))
                .heard(
                    SERVER,
                    ["monitors database: create, delete, update", "monitors network: attack, no-service"],
                )
                .heard(
                    LOGGER,
                    [
                        "listens to nmq.database/delete",
                        "listens to nmq.database/create",
                        "listens to nmq.network/attack",
                        "cannot listen to nmq.network/foo: key 'foo' is not allowed, only a key that matches 'attack' or \
                         'no-service'; publish under a key that the exchange takes, or declare it with another list",
                        r#"delete {"id":77}"#,
                        r#"create {"id":99,"name":"Ada"}"#,
                        r#"RUN! {"type":"flood","source":"outside"}"#,
                    ],
                )
                .heard(NETWORK, ["listens to nmq.network/attack", "Shields up!"]),
        ],
    }
}

fn nobody_listens() -> Scene {
    Scene {
        title: "an event that nobody listens to",
        question: "'update' is monitored, and neither server listens to it. Does the app notice?",
        beats: vec![
            Beat::of(Act::Start(vec![APP])),
            publishes(
                "nmq.database",
                "update",
                "e-4",
                DELETED,
                "nmq.database/update came back: nobody listens to it",
            ),
        ],
    }
}

fn nobody_monitors() -> Scene {
    Scene {
        title: "an event that nobody monitors",
        question: "the app publishes 'atack'. Where does it go?",
        beats: vec![publishes(
            "nmq.network",
            "atack",
            "e-5",
            ATTACK,
            "refused: routing_key: expected a key that matches 'attack' or 'no-service', got atack; did you mean \
             'attack'?",
        )],
    }
}

fn misspelt() -> Scene {
    Scene {
        title: "a queue that is misspelt",
        question: "the app publishes to 'databse'. Success, or a mistake?",
        beats: vec![publishes(
            "nmq.databse",
            "create",
            "e-6",
            CREATED,
            "refused: there is no exchange 'nmq.databse'; did you mean 'nmq.database'?",
        )],
    }
}

fn as_usual() -> Scene {
    let attack = r#"nmq.network/attack {"type":"flood","source":"outside"}: in 2 queues"#;
    Scene {
        title: "an event that both servers listen to",
        question: "one event, two servers: how often is it delivered?",
        beats: vec![
            publishes("nmq.network", "attack", "e-7", ATTACK, attack)
                .heard(LOGGER, [r#"RUN! {"type":"flood","source":"outside"}"#])
                .heard(NETWORK, ["Shields up!"]),
            Beat::of(Act::Receipts("e-7".to_owned())).answers_lines([
                "attack for nmq.logger: accepted, sent 1",
                "attack for nmq.network: accepted, sent 1",
            ]),
        ],
    }
}
