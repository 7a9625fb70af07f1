//! Chores of a family: `added` is a confirm, `received` an acknowledgement, and `getall` is coming back to a subscription.

use super::play::{
    Act, Actor, Beat, ByHand, Does, Event, ExchangePlan, Heard, Key, Play, Scene, Step, SubscriptionPlan,
};

pub(super) const PARENT: &str = "parent";
const ANN: &str = "ann";
const BEN: &str = "ben";
const ANNS_PHONE: &str = "anns-phone";
const BENS_PHONE: &str = "bens-phone";

/// Chores that take a while: whoever gets one has it in hand.
const LONG: [&str; 2] = ["c-3", "c-4"];

pub(super) fn play() -> Play {
    let actor = |name, listens| Actor { name, listens, in_any_order: false };
    let family = Some(("chores.family", None));
    Play {
        name: "chores",
        about: "a parent adds chores, two children do them; one list for all, or a copy for each",
        exchanges: vec![ExchangePlan { name: "chores", allow: &["chore", "news"] }],
        subscriptions: vec![
            SubscriptionPlan { name: "chores.family", members: &[], listens: &[("chores", "chore")] },
            SubscriptionPlan {
                name: "chores.news",
                members: &["ann", "ben"],
                listens: &[("chores", "news")],
            },
        ],
        actors: vec![
            actor(PARENT, None),
            actor(ANN, family),
            actor(BEN, family),
            actor(ANNS_PHONE, Some(("chores.news", Some("ann")))),
            actor(BENS_PHONE, Some(("chores.news", Some("ben")))),
        ],
        react,
        confirmed: |event, queues| match queues {
            1 => format!("added: {} {}", event.id, event.body),
            copies => format!("added: {} {}, {copies} copies", event.id, event.body),
        },
        scenes: vec![nobody_there(), getall(), in_hand(), one_list(), copies()],
        by_hand: ByHand {
            goes_on: |number| (&[PARENT], event("chore", &format!("o-{number}"), "dishes")),
            keys: vec![
                Key { letter: 'a', words: "ann", does: Does::TakeAway(&[ANN]) },
                Key { letter: 'b', words: "ben", does: Does::TakeAway(&[BEN]) },
                Key { letter: 'p', words: "phone", does: Does::TakeAway(&[BENS_PHONE, ANNS_PHONE]) },
                Key {
                    letter: 'n',
                    words: "news",
                    does: Does::Publish(PARENT, |number| event("news", &format!("news-{number}"), "pizza")),
                },
            ],
        },
    }
}

fn react(actor: &str, heard: &Heard) -> Vec<Step> {
    match heard {
        Heard::Start if [ANN, BEN].contains(&actor) => vec![Step::Say("getall".to_owned())],
        Heard::Start => Vec::new(),
        Heard::Settled { id } => vec![Step::Say(format!("received: {id}"))],
        Heard::Event { id, body, again, .. } => {
            let again = if *again { ", which somebody had before" } else { "" };
            let chore = Step::Say(format!("gets {id} {body}{again}"));
            // What somebody has begun goes faster.
            if LONG.contains(&id.as_str()) && again.is_empty() {
                return vec![chore, Step::Hold];
            }
            vec![chore, Step::Say(format!("received: {id}"))]
        }
    }
}

fn adds(key: &str, id: &str, body: &str, answer: &str) -> Beat {
    Beat::of(Act::Publish(PARENT, event(key, id, body))).answers(answer)
}

fn event(key: &str, id: &str, body: &str) -> Event {
    Event { exchange: "chores", key: key.to_owned(), id: id.to_owned(), body: body.to_owned() }
}

fn nobody_there() -> Scene {
    Scene {
        title: "chores are added, and no child is there",
        question: "what is the parent told, and where are the chores?",
        beats: vec![
            Beat::of(Act::Start(vec![PARENT])),
            adds("chore", "c-1", "dishes", "added: c-1 dishes"),
            adds("chore", "c-2", "dog", "added: c-2 dog"),
            adds("chore", "c-3", "lawn", "added: c-3 lawn"),
            Beat::of(Act::Look("chores.family")).answers("dark, messages that wait: 3"),
        ],
    }
}

fn getall() -> Scene {
    Scene {
        title: "a child comes, and goes in the middle of a chore",
        question: "in which order does ann get them, and which of them waits when she is gone?",
        beats: vec![
            Beat::of(Act::Start(vec![ANN])).heard(
                ANN,
                [
                    "getall",
                    "gets c-1 dishes",
                    "received: c-1",
                    "gets c-2 dog",
                    "received: c-2",
                    "gets c-3 lawn",
                ],
            ),
            Beat::of(Act::Leave(ANN)),
            Beat::of(Act::Look("chores.family")).answers("dark, messages that wait: 1"),
        ],
    }
}

fn in_hand() -> Scene {
    Scene {
        title: "she comes back",
        question: "does she get all three, or one?",
        beats: vec![
            Beat::of(Act::Start(vec![ANN]))
                .heard(ANN, ["getall", "gets c-3 lawn, which somebody had before", "received: c-3"]),
            Beat::of(Act::Receipts("c-3".to_owned())).answers("chore for chores.family: accepted, sent 2"),
        ],
    }
}

fn one_list() -> Scene {
    Scene {
        title: "two children and one list",
        question: "ann has her hands full. Who gets the next chore, and does the other one hear of it?",
        beats: vec![
            adds("chore", "c-4", "windows", "added: c-4 windows").heard(ANN, ["gets c-4 windows"]),
            Beat::of(Act::Start(vec![BEN])).heard(BEN, ["getall"]),
            adds("chore", "c-5", "rubbish", "added: c-5 rubbish")
                .heard(BEN, ["gets c-5 rubbish", "received: c-5"]),
            Beat::of(Act::Settle(ANN)).heard(ANN, ["received: c-4"]),
        ],
    }
}

fn copies() -> Scene {
    Scene {
        title: "news for everybody: a copy for each",
        question: "ann's phone has received it. Is it gone for ben, whose phone is off?",
        beats: vec![
            Beat::of(Act::Start(vec![ANNS_PHONE])),
            adds("news", "n-1", "pizza", "added: n-1 pizza, 2 copies")
                .heard(ANNS_PHONE, ["gets n-1 pizza", "received: n-1"]),
            Beat::of(Act::Receipts("n-1".to_owned())).answers_lines([
                "news for chores.news:ann: accepted, sent 1",
                "news for chores.news:ben: pending, dark, sent 0",
            ]),
            Beat::of(Act::Start(vec![BENS_PHONE])).heard(BENS_PHONE, ["gets n-1 pizza", "received: n-1"]),
            Beat::of(Act::Receipts("n-1".to_owned())).answers_lines([
                "news for chores.news:ann: accepted, sent 1",
                "news for chores.news:ben: accepted, sent 1",
            ]),
        ],
    }
}
