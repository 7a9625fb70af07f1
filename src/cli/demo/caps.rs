//! Parcels: vendors have orders, drivers bring them, and a hub logs every event.

use super::play::{
    Act, Actor, Beat, ByHand, Does, Event, ExchangePlan, Heard, Key, Play, Scene, Step, SubscriptionPlan,
};

const ACME: &str = "acme-widgets";
const FLOWERS: &str = "1-800-flowers";
const FIRST_DRIVER: &str = "driver-1";
const SECOND_DRIVER: &str = "driver-2";
const HUB: &str = "hub";
/// Takes orders for vendors, also for one that is away.
const SHOP: &str = "web-shop";

/// The order with which the first driver has an accident.
const UNLUCKY_ORDER: &str = "a-2";

pub(super) fn play() -> Play {
    let drivers = Some(("caps.drivers", None));
    let actor = |name, listens| Actor { name, listens, in_any_order: false };
    Play {
        name: "caps",
        about: "vendors have orders, drivers bring them, a hub logs every event",
        exchanges: vec![ExchangePlan { name: "caps", allow: &["pickup.*", "in-transit.*", "delivered.*"] }],
        subscriptions: vec![
            SubscriptionPlan { name: "caps.drivers", members: &[], listens: &[("caps", "pickup.*")] },
            SubscriptionPlan {
                name: "caps.acme-widgets",
                members: &[],
                listens: &[("caps", "in-transit.acme-widgets"), ("caps", "delivered.acme-widgets")],
            },
            SubscriptionPlan {
                name: "caps.1-800-flowers",
                members: &[],
                listens: &[("caps", "in-transit.1-800-flowers"), ("caps", "delivered.1-800-flowers")],
            },
            SubscriptionPlan { name: "caps.hub-log", members: &[], listens: &[("caps", "#")] },
        ],
        actors: vec![
            actor(ACME, Some(("caps.acme-widgets", None))),
            actor(FLOWERS, Some(("caps.1-800-flowers", None))),
            actor(SHOP, None),
            actor(FIRST_DRIVER, drivers),
            actor(SECOND_DRIVER, drivers),
            Actor { name: HUB, listens: Some(("caps.hub-log", None)), in_any_order: true },
        ],
        react,
        confirmed: |event, queues| format!("{} {}: {}", event.key, event.id, Event::in_queues(queues)),
        scenes: vec![
            ordinary(),
            valid_events(),
            driver_gone(),
            vendor_dark(),
            broker_killed(),
            vendor_back(),
        ],
        by_hand: ByHand {
            goes_on: next_order,
            keys: vec![
                Key { letter: 'd', words: "driver", does: Does::TakeAway(&[FIRST_DRIVER, SECOND_DRIVER]) },
                Key { letter: 'v', words: "vendor", does: Does::TakeAway(&[FLOWERS, ACME]) },
                Key { letter: 'k', words: "kill -9", does: Does::KillBroker },
                Key { letter: 'm', words: "misspell", does: Does::Publish(SHOP, misspelt) },
            ],
        },
    }
}

/// Vendors have orders in turn. While one is dark the shop takes them.
fn next_order(number: u64) -> (&'static [&'static str], Event) {
    match number % 2 {
        1 => (&[ACME, SHOP], order("pickup", ACME, &format!("o-{number}"))),
        _ => (&[FLOWERS, SHOP], order("pickup", FLOWERS, &format!("o-{number}"))),
    }
}

fn misspelt(number: u64) -> Event {
    order("pikcup", ACME, &format!("m-{number}"))
}

fn react(actor: &str, heard: &Heard) -> Vec<Step> {
    let Heard::Event { key, id, body, again } = heard else { return Vec::new() };
    let Some((event, store)) = key.split_once('.') else { return Vec::new() };
    match (actor, event) {
        (HUB, _) => vec![Step::Say(format!("EVENT {key} {body}"))],
        (_, "pickup") => {
            let picked_up = match again {
                true => format!("picked up {id}, which somebody had before"),
                false => format!("picked up {id}"),
            };
            if actor == FIRST_DRIVER && id == UNLUCKY_ORDER {
                return vec![Step::Say(picked_up), Step::Hold];
            }
            let publish = |event: &str| Step::Publish(order(event, store, id));
            let delivered = Step::Say(format!("delivered {id}"));
            vec![Step::Say(picked_up), publish("in-transit"), publish("delivered"), delivered]
        }
        (_, "in-transit") => vec![Step::Say(format!("{id} is on its way"))],
        _ => vec![Step::Say(format!("thank you for delivering {id}"))],
    }
}

fn order(event: &str, store: &str, id: &str) -> Event {
    Event { exchange: "caps", key: format!("{event}.{store}"), id: id.to_owned(), body: body(store, id) }
}

fn body(store: &str, id: &str) -> String {
    format!(r#"{{"store":"{store}","orderId":"{id}","customer":"Ada","address":"Seattle"}}"#)
}

fn places(actor: &'static str, store: &str, id: &str) -> Beat {
    let answer = format!("pickup.{store} {id}: in 2 queues");
    Beat::of(Act::Publish(actor, order("pickup", store, id))).answers(&answer)
}

/// What the hub logs of an order: these of its events.
fn logged<const EVENTS: usize>(beat: Beat, events: [&str; EVENTS], store: &str, id: &str) -> Beat {
    let lines = events.map(|event| format!("EVENT {event}.{store} {}", body(store, id)));
    beat.heard(HUB, lines.each_ref().map(String::as_str))
}

/// An order that a driver brings, and of which its vendor hears unless it is away.
fn brought(beat: Beat, driver: &'static str, store: &'static str, id: &str, vendor_is_there: bool) -> Beat {
    let (picked_up, delivered) = (format!("picked up {id}"), format!("delivered {id}"));
    let beat = logged(beat, ["pickup", "in-transit", "delivered"], store, id);
    let beat = beat.heard(driver, [picked_up.as_str(), delivered.as_str()]);
    if !vendor_is_there {
        return beat;
    }
    let (on_its_way, thanks) = (format!("{id} is on its way"), format!("thank you for delivering {id}"));
    beat.heard(store, [on_its_way.as_str(), thanks.as_str()])
}

fn ordinary() -> Scene {
    Scene {
        title: "an order, from the vendor to the door",
        question: "which three events are there, who publishes each, and who hears it?",
        beats: vec![
            Beat::of(Act::Start(vec![HUB, FIRST_DRIVER, ACME, FLOWERS])),
            brought(places(ACME, ACME, "a-1"), FIRST_DRIVER, ACME, "a-1", true),
        ],
    }
}

fn valid_events() -> Scene {
    Scene {
        title: "valid events only",
        question: "the vendor misspells an event. Who notices?",
        beats: vec![Beat::of(Act::Publish(ACME, misspelt(0))).answers(
            "refused: routing_key: expected a key that matches 'delivered.*' or 'in-transit.*' or 'pickup.*', \
             got pikcup.acme-widgets; did you mean 'pickup.acme-widgets', which 'pickup.*' allows?",
        )],
    }
}

fn driver_gone() -> Scene {
    let handed_over = Beat::of(Act::Start(vec![SECOND_DRIVER]))
        .heard(SECOND_DRIVER, ["picked up a-2, which somebody had before", "delivered a-2"])
        .heard(ACME, ["a-2 is on its way", "thank you for delivering a-2"]);
    Scene {
        title: "a driver is taken away, with an order in hand",
        question: "the driver did not say that the order is done. Where is it now?",
        beats: vec![
            logged(places(ACME, ACME, "a-2"), ["pickup"], ACME, "a-2").heard(FIRST_DRIVER, ["picked up a-2"]),
            Beat::of(Act::Leave(FIRST_DRIVER)),
            logged(handed_over, ["in-transit", "delivered"], ACME, "a-2"),
        ],
    }
}

fn vendor_dark() -> Scene {
    let placed = |id| brought(places(SHOP, FLOWERS, id), SECOND_DRIVER, FLOWERS, id, false);
    Scene {
        title: "a vendor goes dark, and orders go on",
        question: "three orders are brought meanwhile. How many messages wait for the vendor?",
        beats: vec![
            Beat::of(Act::Start(vec![SHOP])),
            Beat::of(Act::Leave(FLOWERS)),
            placed("f-1"),
            placed("f-2"),
            placed("f-3"),
            Beat::of(Act::Look("caps.1-800-flowers")).answers("dark, messages that wait: 6"),
            Beat::of(Act::Receipts("f-2".to_owned())).answers_lines([
                "pickup.1-800-flowers for caps.drivers: accepted, sent 1",
                "pickup.1-800-flowers for caps.hub-log: accepted, sent 1",
                "in-transit.1-800-flowers for caps.1-800-flowers: pending, dark, sent 0",
                "in-transit.1-800-flowers for caps.hub-log: accepted, sent 1",
                "delivered.1-800-flowers for caps.1-800-flowers: pending, dark, sent 0",
                "delivered.1-800-flowers for caps.hub-log: accepted, sent 1",
            ]),
        ],
    }
}

fn broker_killed() -> Scene {
    Scene {
        title: "the broker is killed, and started again",
        question: "what is left of the messages that wait, and who has to be told that the broker was gone?",
        beats: vec![
            Beat::of(Act::KillBroker),
            Beat::of(Act::Look("caps.1-800-flowers")).answers("dark, messages that wait: 6"),
        ],
    }
}

fn vendor_back() -> Scene {
    Scene {
        title: "the vendor comes back",
        question: "what does it hear first, and in which order?",
        beats: vec![
            Beat::of(Act::Start(vec![FLOWERS])).heard(
                FLOWERS,
                [
                    "f-1 is on its way",
                    "thank you for delivering f-1",
                    "f-2 is on its way",
                    "thank you for delivering f-2",
                    "f-3 is on its way",
                    "thank you for delivering f-3",
                ],
            ),
            brought(places(FLOWERS, FLOWERS, "f-4"), SECOND_DRIVER, FLOWERS, "f-4", true),
            Beat::of(Act::Receipts("f-4".to_owned())).answers_lines([
                "pickup.1-800-flowers for caps.drivers: accepted, sent 1",
                "pickup.1-800-flowers for caps.hub-log: accepted, sent 1",
                "in-transit.1-800-flowers for caps.1-800-flowers: accepted, sent 1",
                "in-transit.1-800-flowers for caps.hub-log: accepted, sent 1",
                "delivered.1-800-flowers for caps.1-800-flowers: accepted, sent 1",
                "delivered.1-800-flowers for caps.hub-log: accepted, sent 1",
            ]),
        ],
    }
}
