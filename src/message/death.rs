//! Dead letters: a message as it goes on after it left a queue, with the story of its deaths in its headers.
//!
//! The headers are RabbitMQ's: `x-death` lists the deaths, the latest first, one entry for each queue and reason, and
//! `x-first-death-*` and `x-last-death-*` say where and why the first and the last one was.

use std::iter;
use std::sync::Arc;

use bytes::BytesMut;
use prost::Message as _;

use super::delivered::regular_parts;
use super::encode::encode_item;
use super::fault::ItemFault;
use crate::model::{BCC, CC, FieldTable, FieldValue, further_keys};
use crate::pb;

/// Bytes of a dead letter's properties. Deaths that have no room are left out, the oldest first, but not the last one. A little more than
/// a publisher may send, so that every message can die, and less than the frames of consumers have room for.
pub const DEAD_LETTER_PROPERTIES_BYTES_MAX: usize = 62 * 1024;
/// Deaths that are listed, at most.
const DEATHS_MAX: usize = 64;

const DEATHS: &str = "x-death";
const COUNT: &str = "count";
const EXCHANGE: &str = "exchange";
const ORIGINAL_EXPIRATION: &str = "original-expiration";
const QUEUE: &str = "queue";
const REASON: &str = "reason";
const ROUTING_KEYS: &str = "routing-keys";
const TIME: &str = "time";
const REJECTED: &str = "rejected";

/// Where, why and when a message died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death<'a> {
    /// The queue that it left.
    pub queue: &'a str,
    /// In a word: "rejected", "expired" or "maxlen".
    pub reason: &'a str,
    /// The exchange that it had been published to.
    pub exchange: &'a str,
    /// The routing key that it had been published with.
    pub routing_key: &'a str,
    /// Seconds since 1970.
    pub at_seconds: i64,
}

/// What is known of a dead letter that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queues in which it died since it was rejected last, the one of this death first: where it goes round without anybody having
    /// touched it.
    pub untouched: Arc<[String]>,
    /// Whether it names [further keys](further_keys) that it goes by.
    pub has_further_keys: bool,
}

/// Writes messages as the dead letters that they become.
///
/// Those that die together are mostly alike but for their bodies, so what was made of the properties of the last one is remembered.
#[derive(Debug, Default)]
pub struct DeadLetterWriter<'a> {
    last: Option<(Dying<'a>, Written)>,
}

/// All that it depends on what becomes of a message's properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dying<'a> {
    properties: &'a [u8],
    death: Death<'a>,
    keeps_keys: bool,
}

#[derive(Debug)]
struct Written {
    properties: Vec<u8>,
    letter: DeadLetter,
}

impl<'a> DeadLetterWriter<'a> {
    /// Appends a stored item as the dead letter that it becomes, with this routing key of its own. What is left of the properties are all
    /// but expiration and delay; without a key of its own it goes by that of its queue alone, and the header [`CC`] goes, too.
    ///
    /// # Errors
    /// The item is faulty.
    pub fn write(
        &mut self,
        item: &'a [u8],
        death: Death<'a>,
        routing_key: Option<&str>,
        out: &mut BytesMut,
    ) -> Result<DeadLetter, ItemFault> {
        let parts = regular_parts(item)?;
        let properties = parts.properties.map_or(&[][..], |range| &item[range]);
        let dying = Dying { properties, death, keeps_keys: routing_key.is_some() };
        let (_, written) = match self.last.take_if(|(last, _)| *last == dying) {
            Some(same) => self.last.insert(same),
            None => self.last.insert((dying, dying.written()?)),
        };
        encode_item(&written.properties, &item[parts.body], routing_key, false, out);
        Ok(written.letter.clone())
    }
}

impl Dying<'_> {
    fn written(&self) -> Result<Written, ItemFault> {
        let Self { properties, death, keeps_keys } = *self;
        let mut properties = pb::Properties::decode(properties)
            .map_err(|_| ItemFault::Malformed { what: "properties", offset: 0 })?;
        let mut headers =
            properties.headers.take().map(FieldTable::try_from).transpose()?.unwrap_or_default();
        let expiration_ms = properties.expiration_ms.take();
        (properties.delay_ms, properties.deliver_at_ms) = (None, None);
        // Before these headers were heeded anything was let in under their names.
        headers.0.remove(BCC);
        let further_keys = further_keys(&headers).unwrap_or_default();
        let has_further_keys = keeps_keys && !further_keys.is_empty();
        if !keeps_keys {
            headers.0.remove(CC);
        }
        let mut deaths = deaths_of(&headers);
        note(&mut deaths, &death, further_keys, expiration_ms);
        deaths.truncate(DEATHS_MAX);
        for (field, value) in [(QUEUE, death.queue), (REASON, death.reason), (EXCHANGE, death.exchange)] {
            headers.0.entry(format!("x-first-death-{field}")).or_insert_with(|| value.into());
            headers.0.insert(format!("x-last-death-{field}"), value.into());
        }
        let letter = DeadLetter { untouched: untouched(&deaths), has_further_keys };
        loop {
            let listed = deaths.iter().cloned().map(FieldValue::Table).collect();
            headers.0.insert(DEATHS.to_owned(), FieldValue::List(listed));
            properties.headers = Some((&headers).into());
            if properties.encoded_len() <= DEAD_LETTER_PROPERTIES_BYTES_MAX || !shorten(&mut deaths) {
                return Ok(Written { properties: properties.encode_to_vec(), letter });
            }
        }
    }
}

/// The deaths that a message tells of. What else stands there is not kept.
fn deaths_of(headers: &FieldTable) -> Vec<FieldTable> {
    let Some(FieldValue::List(listed)) = headers.value(DEATHS) else { return Vec::new() };
    let tables = listed.iter().filter_map(|entry| match entry {
        FieldValue::Table(table) => Some(table.clone()),
        _ => None,
    });
    tables.collect()
}

/// Counts a death, which comes first then.
fn note(
    deaths: &mut Vec<FieldTable>,
    death: &Death<'_>,
    further_keys: Vec<String>,
    expiration_ms: Option<u64>,
) {
    let is_same = |entry: &FieldTable| {
        entry.text(QUEUE) == Some(death.queue) && entry.text(REASON) == Some(death.reason)
    };
    let mut entry = match deaths.iter().position(is_same) {
        Some(at) => deaths.remove(at),
        None => {
            let further_keys = further_keys.into_iter().map(FieldValue::Text);
            let keys = iter::once(death.routing_key.into()).chain(further_keys).collect();
            FieldTable::from([
                (QUEUE, death.queue.into()),
                (REASON, death.reason.into()),
                (EXCHANGE, death.exchange.into()),
                (ROUTING_KEYS, FieldValue::List(keys)),
                (TIME, FieldValue::TimestampSeconds(death.at_seconds)),
            ])
        }
    };
    let before = match entry.value(COUNT) {
        Some(FieldValue::Integer(count)) => *count,
        _ => 0,
    };
    entry.0.insert(COUNT.to_owned(), FieldValue::Integer(before.saturating_add(1)));
    if let Some(expiration_ms) = expiration_ms {
        entry.0.insert(ORIGINAL_EXPIRATION.to_owned(), FieldValue::Text(expiration_ms.to_string()));
    }
    deaths.insert(0, entry);
}

/// Leaves the older deaths out, and then all keys of the last one but the first, since the others stand in the message as well. False: it cannot
/// be shorter.
fn shorten(deaths: &mut Vec<FieldTable>) -> bool {
    if deaths.len() > 1 {
        deaths.truncate(deaths.len() / 2);
        return true;
    }
    match deaths.first_mut().and_then(|last| last.0.get_mut(ROUTING_KEYS)) {
        Some(FieldValue::List(keys)) if keys.len() > 1 => {
            keys.truncate(1);
            true
        }
        _ => false,
    }
}

fn untouched(deaths: &[FieldTable]) -> Arc<[String]> {
    let since = deaths.iter().take_while(|entry| entry.text(REASON) != Some(REJECTED));
    since.filter_map(|entry| entry.text(QUEUE)).map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::{DeliveredItem, Text};

    fn death<'a>(queue: &'a str, reason: &'a str, at_seconds: i64) -> Death<'a> {
        Death { queue, reason, exchange: "orders", routing_key: "a.b", at_seconds }
    }

    fn die(item: &Bytes, death: &Death<'_>) -> (Bytes, Arc<[String]>) {
        let mut out = BytesMut::new();
        let letter = DeadLetterWriter::default().write(item, *death, Some("dead"), &mut out).unwrap();
        assert!(!letter.has_further_keys);
        (out.freeze(), letter.untouched)
    }

    fn message(properties: &pb::Properties) -> Bytes {
        let mut out = BytesMut::new();
        encode_item(&properties.encode_to_vec(), b"body", Some("a.b"), true, &mut out);
        out.freeze()
    }

    fn listed(item: &Bytes) -> Vec<(String, String, i64, i64)> {
        let headers = DeliveredItem::decode(item).unwrap().headers().unwrap().unwrap();
        let entries = deaths_of(&headers).into_iter().map(|entry| {
            let Some(FieldValue::Integer(count)) = entry.value(COUNT) else { panic!("{entry:?}") };
            let Some(FieldValue::TimestampSeconds(time)) = entry.value(TIME) else { panic!("{entry:?}") };
            (entry.text(QUEUE).unwrap().to_owned(), entry.text(REASON).unwrap().to_owned(), *count, *time)
        });
        entries.collect()
    }

    #[test]
    fn the_latest_death_comes_first_and_equal_ones_are_counted() {
        let (first, _) = die(&message(&pb::Properties::default()), &death("a", "expired", 10));
        let (second, _) = die(&first, &death("b", "maxlen", 11));
        let (third, untouched) = die(&second, &death("a", "expired", 12));
        let entry =
            |queue: &str, reason: &str, count, time| (queue.to_owned(), reason.to_owned(), count, time);
        assert_eq!(listed(&third), [entry("a", "expired", 2, 10), entry("b", "maxlen", 1, 11)]);
        assert_eq!(untouched[..], ["a", "b"]);
        let item = DeliveredItem::decode(&third).unwrap();
        assert_eq!(
            (&item.body[..], item.routing_key.as_ref().map(Text::as_str)),
            (&b"body"[..], Some("dead"))
        );
        let headers = item.headers().unwrap().unwrap();
        assert_eq!(headers.text("x-first-death-queue"), Some("a"));
        assert_eq!(headers.text("x-first-death-reason"), Some("expired"));
        assert_eq!(headers.text("x-last-death-exchange"), Some("orders"));
        let (_, untouched) = die(&third, &death("a", "rejected", 13));
        assert!(untouched.is_empty(), "somebody had it: it may go round");
    }

    #[test]
    fn it_expires_no_more_and_all_else_stays() {
        let headers = FieldTable::from([("mine", 7i64.into())]);
        let properties = pb::Properties {
            content_type: "text/plain".to_owned(),
            headers: Some((&headers).into()),
            expiration_ms: Some(5_000),
            message_id: "m1".to_owned(),
            ..pb::Properties::default()
        };
        let (letter, _) = die(&message(&properties), &death("a", "expired", 10));
        let kept = DeliveredItem::decode(&letter).unwrap().decode_properties().unwrap();
        assert_eq!((kept.content_type.as_str(), kept.message_id.as_str()), ("text/plain", "m1"));
        assert_eq!(kept.expiration_ms, None);
        let headers = FieldTable::try_from(kept.headers.unwrap()).unwrap();
        assert_eq!(headers.value("mine"), Some(&FieldValue::Integer(7)));
        assert_eq!(deaths_of(&headers)[0].text(ORIGINAL_EXPIRATION), Some("5000"));
    }

    #[test]
    fn it_keeps_its_further_keys_with_its_own_key_and_loses_them_with_another() {
        let cc = FieldValue::List(vec!["far".into(), FieldValue::Void, "away".into()]);
        let headers = FieldTable::from([(CC, cc.clone()), (BCC, 5i64.into())]);
        let item = message(&pb::Properties { headers: Some((&headers).into()), ..pb::Properties::default() });
        for (key, kept) in [(Some("a.b"), Some(&cc)), (None, None)] {
            let mut out = BytesMut::new();
            let letter =
                DeadLetterWriter::default().write(&item, death("a", "rejected", 10), key, &mut out).unwrap();
            assert_eq!(letter.has_further_keys, key.is_some());
            let headers = DeliveredItem::decode(&out.freeze()).unwrap().headers().unwrap().unwrap();
            assert_eq!((headers.value(CC), headers.value(BCC)), (kept, None));
            let keys = ["a.b", "far", "away"].map(FieldValue::from).to_vec();
            assert_eq!(deaths_of(&headers)[0].value(ROUTING_KEYS), Some(&FieldValue::List(keys)));
        }
    }

    #[test]
    fn what_was_made_of_one_is_not_taken_for_another_that_differs() {
        let with = |content_type: &str| {
            let content_type = content_type.to_owned();
            message(&pb::Properties { content_type, ..pb::Properties::default() })
        };
        let (text, json) = (with("text/plain"), with("application/json"));
        let one = death("a", "maxlen", 10);
        let other_key = Death { routing_key: "b.c", ..one };
        let other_exchange = Death { exchange: "bills", ..one };
        let mut writer = DeadLetterWriter::default();
        let cases = [(&text, one), (&text, one), (&json, one), (&json, other_key), (&json, other_exchange)];
        for (item, death) in cases {
            for key in [Some("x"), Some("y"), None] {
                let (mut remembering, mut alone) = (BytesMut::new(), BytesMut::new());
                let letter = writer.write(item, death, key, &mut remembering).unwrap();
                assert_eq!(letter, DeadLetterWriter::default().write(item, death, key, &mut alone).unwrap());
                assert_eq!(remembering, alone);
            }
        }
    }

    /// They are as old as messages with anything under that name.
    #[test]
    fn a_cc_that_is_no_list_names_no_keys() {
        let headers = FieldTable::from([(CC, "far".into())]);
        let item = message(&pb::Properties { headers: Some((&headers).into()), ..pb::Properties::default() });
        let (letter, _) = die(&item, &death("a", "rejected", 10));
        let headers = DeliveredItem::decode(&letter).unwrap().headers().unwrap().unwrap();
        assert_eq!(headers.text(CC), Some("far"));
    }

    /// What a publisher may send has room for a death; a long story loses its beginning.
    #[test]
    fn properties_stay_within_their_bound() {
        let long = |number: usize| format!("{number:0>255}");
        let headers = FieldTable::from([("mine", FieldValue::Text("x".repeat(59 * 1024)))]);
        let properties = pb::Properties { headers: Some((&headers).into()), ..pb::Properties::default() };
        let mut letter = message(&properties);
        for number in 0..100 {
            let (queue, exchange) = (long(number), long(number + 1));
            let death = Death {
                queue: &queue,
                reason: "expired",
                exchange: &exchange,
                routing_key: &exchange,
                at_seconds: 1,
            };
            letter = die(&letter, &death).0;
            let item = DeliveredItem::decode(&letter).unwrap();
            assert!(item.properties.unwrap().len() <= 63 * 1024);
            assert_eq!(listed(&letter)[0].0, queue);
        }
        let mut letter = message(&pb::Properties::default());
        (0..100).for_each(|number| letter = die(&letter, &death(&long(number), "maxlen", 1)).0);
        assert!((2..=DEATHS_MAX).contains(&listed(&letter).len()));
    }

    /// So many keys do not stand there twice.
    #[test]
    fn many_further_keys_leave_room_for_a_death() {
        let key = |number: usize| FieldValue::Text(format!("{number:0>230}"));
        let cc = FieldValue::List((0..250).map(key).collect());
        let headers = FieldTable::from([(CC, cc.clone())]);
        let properties = pb::Properties { headers: Some((&headers).into()), ..pb::Properties::default() };
        assert!(properties.encoded_len() > 55 * 1024);
        let mut first = BytesMut::new();
        let item = message(&properties);
        DeadLetterWriter::default().write(&item, death("a", "maxlen", 1), Some("a.b"), &mut first).unwrap();
        let item = DeliveredItem::decode(&first.freeze()).unwrap();
        assert!(item.properties.as_ref().unwrap().len() <= DEAD_LETTER_PROPERTIES_BYTES_MAX);
        let headers = item.headers().unwrap().unwrap();
        assert_eq!(headers.value(CC), Some(&cc));
        let keys = deaths_of(&headers)[0].value(ROUTING_KEYS).cloned();
        assert_eq!(keys, Some(FieldValue::List(vec!["a.b".into()])));
    }

    /// Clients may put anything there.
    #[test]
    fn a_story_that_is_none_begins_anew() {
        for odd in [FieldValue::Integer(5), FieldValue::List(vec![FieldValue::Void, "x".into()])] {
            let headers = FieldTable::from([(DEATHS, odd)]);
            let properties = pb::Properties { headers: Some((&headers).into()), ..pb::Properties::default() };
            let (letter, _) = die(&message(&properties), &death("a", "rejected", 10));
            assert_eq!(listed(&letter).len(), 1);
        }
    }
}
