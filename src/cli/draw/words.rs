//! What is written on nodes and edges, in as many words as there is room for.

use super::picture::{Edge, Layer, Node, Picture, What};

/// What is written on a node. Where there are several words for one thing, the longest come first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// What kind of thing it is.
    pub(super) title: Vec<String>,
    /// What it is called.
    pub(super) name: String,
    /// How it stands.
    pub(super) detail: Vec<String>,
    /// What moves.
    pub(super) rate: Vec<String>,
}

impl Card {
    /// The card of a node.
    pub(super) fn of(node: &Node, picture: &Picture) -> Self {
        let per_second = |messages| rate(messages, picture.interval_ms);
        let (came, went) = (per_second(node.came), per_second(node.went));
        let name = match (&node.what, node.name.as_str()) {
            (What::Exchange { .. }, "") => "(default)".to_owned(),
            (What::Subscription { member, .. }, name) if !member.is_empty() => format!("{name}:{member}"),
            (_, name) => name.to_owned(),
        };
        let (title, detail, rate) = match &node.what {
            What::Producer { connection, peer, blocked } => {
                let detail = match blocked {
                    Some(reason) => vec![format!("waits: {reason}"), "waits".to_owned()],
                    None => vec![
                        format!("connection {connection}, {peer}"),
                        format!("connection {connection}"),
                        format!("no. {connection}"),
                    ],
                };
                (vec!["producer".to_owned()], detail, vec![went])
            }
            What::Exchange { kind, refused } => {
                let title = vec![format!("{kind} exchange"), kind.clone()];
                let detail = match refused {
                    0 => vec![String::new()],
                    refused => vec![format!("{} refused", count(*refused))],
                };
                (title, detail, vec![came])
            }
            What::Queue { ready, unacknowledged, fault } => {
                let (ready, unacknowledged) = (count(*ready), count(*unacknowledged));
                let detail = match fault {
                    Some(fault) => vec![format!("out of service: {fault}"), "no service".to_owned()],
                    None => vec![
                        format!("{ready} ready, {unacknowledged} not acknowledged"),
                        format!("{ready} ready, {unacknowledged} unacked"),
                        format!("{ready} + {unacknowledged}"),
                    ],
                };
                (
                    vec!["queue".to_owned()],
                    detail,
                    vec![
                        format!("{came} in, {went} out"),
                        format!("{came} › {went}"),
                        format!("{}›{went}", came.trim_end_matches("/s")),
                    ],
                )
            }
            What::Subscription { consumers, ready, dark_since_ms, .. } => match dark_since_ms {
                Some(since) => {
                    let time = lasting(picture.now_ms.saturating_sub(*since));
                    let ready = count(*ready);
                    let detail = vec![format!("{ready} wait for it"), format!("{ready} wait")];
                    (vec![format!("subscription, dark {time}"), format!("dark {time}")], detail, vec![came])
                }
                None => {
                    let detail = match consumers.as_slice() {
                        [] => vec!["nobody has joined".to_owned(), "nobody".to_owned()],
                        [one] => vec![one.clone()],
                        all => vec![format!("{} consumers", all.len())],
                    };
                    (vec!["subscription".to_owned(), "subscribed".to_owned()], detail, vec![came])
                }
            },
            What::Consumer { connection, tag, unacknowledged } => {
                let unacknowledged = count(*unacknowledged);
                let detail = vec![
                    format!("'{tag}', connection {connection}, {unacknowledged} not acknowledged"),
                    format!("{unacknowledged} not acknowledged"),
                    format!("{unacknowledged} unacked"),
                ];
                (vec!["consumer".to_owned()], detail, vec![came])
            }
        };
        Self { title, name, detail, rate }
    }
}

/// What is written on an edge: the first binding, and how many more there are.
pub(super) fn label(edge: &Edge) -> String {
    let Some(first) = edge.labels.iter().find(|label| !label.is_empty()) else { return String::new() };
    match edge.labels.len() {
        1 => first.clone(),
        all => format!("{first} +{}", all - 1),
    }
}

/// What moves along an edge, if that is known.
pub(super) fn edge_rate(edge: &Edge, picture: &Picture) -> Option<String> {
    (edge.flow.least == edge.flow.most).then(|| rate(edge.flow.least, picture.interval_ms))
}

/// What is in the picture, in a sentence.
pub(super) fn summary(picture: &Picture) -> String {
    let drawn = Layer::ALL.map(|layer| {
        let all = picture.layer(layer).count() + picture.omitted[layer.index()];
        let words = layer.words();
        match all {
            1 => format!("1 {}", words.trim_end_matches('s')),
            all => format!("{} {words}", grouped(all as u64)),
        }
    });
    let dark = picture.nodes.iter().filter(|node| node.is_dark()).count();
    let dark = if dark > 0 { format!(" ({dark} dark)") } else { String::new() };
    format!("vhost {}: {}{dark}", picture.vhost, drawn.join(", "))
}

/// What is there and is not drawn, in sentences.
pub(super) fn left_out(picture: &Picture) -> Vec<String> {
    let omitted = Layer::ALL.into_iter().filter(|layer| picture.omitted[layer.index()] > 0);
    let mut told: Vec<String> = omitted
        .map(|layer| format!("and {} more {}", grouped(picture.omitted[layer.index()] as u64), layer.words()))
        .collect();
    if picture.idle_connections > 0 {
        told.push(format!("connections that neither publish nor consume: {}", picture.idle_connections));
    }
    told
}

/// Messages a second: three digits at most.
pub(super) fn rate(messages: u64, interval_ms: u64) -> String {
    let thousandths = u128::from(messages) * 1_000_000 / u128::from(interval_ms.max(1));
    match thousandths {
        0 => "0/s".to_owned(),
        1..10_000 if !thousandths.is_multiple_of(1000) => {
            format!(
                "{}.{}/s",
                thousandths / 1000,
                (thousandths % 1000 / 100).max(u128::from(thousandths < 100))
            )
        }
        _ => format!("{}/s", count(u64::try_from(thousandths / 1000).unwrap_or(u64::MAX))),
    }
}

/// A number in four letters at most, rounded down.
pub(super) fn count(number: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

    let (mut unit, mut scale) = (0, 1u64);
    while number / scale >= 1000 && unit + 1 < UNITS.len() {
        scale *= 1000;
        unit += 1;
    }
    let (whole, tenth) = (number / scale, number % scale / (scale / 10).max(1));
    match (unit, whole) {
        (0, _) => whole.to_string(),
        (_, 0..10) if tenth > 0 => format!("{whole}.{tenth}{}", UNITS[unit]),
        _ => format!("{whole}{}", UNITS[unit]),
    }
}

/// A number with a comma after each thousand.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// How long something lasts, in its largest unit.
fn lasting(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_counts_are_short() {
        let check = |messages, interval_ms, expect: &str| assert_eq!(rate(messages, interval_ms), expect);
        check(0, 1000, "0/s");
        check(7, 1000, "7/s");
        check(7, 2000, "3.5/s");
        check(1, 60_000, "0.1/s");
        check(12_345, 1000, "12k/s");
        check(1_234, 1000, "1.2k/s");
        check(u64::MAX, 1, "18E/s");
        let check = |number, expect: &str| assert_eq!(count(number), expect);
        check(999, "999");
        check(1000, "1k");
        check(1999, "1.9k");
        check(999_999, "999k");
        check(u64::MAX, "18E");
    }

    #[test]
    fn many_are_told_with_commas() {
        let check = |number, expect: &str| assert_eq!(grouped(number), expect);
        check(0, "0");
        check(950, "950");
        check(9_950, "9,950");
        check(1_000_000, "1,000,000");
    }

    #[test]
    fn darkness_is_told_in_its_largest_unit() {
        let check = |millis, expect: &str| assert_eq!(lasting(millis), expect);
        check(59_999, "59 s");
        check(3_599_999, "59 min");
        check(86_399_999, "23 h");
        check(172_800_000, "2 d");
    }
}
