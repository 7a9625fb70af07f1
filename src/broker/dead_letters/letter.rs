//! A page of dead letters, as the messages that they become.

use std::sync::Arc;

use bytes::BytesMut;

use super::address::DeadLetterAddress;
use crate::broker::browse::routing_key_of;
use crate::broker::session::Publication;
use crate::message::{DeadLetter, DeadLetterWriter, Death, ItemFault, MessageRun, MessageRunBuilder};
use crate::model::Timestamp;
use crate::queue::Departure;
use crate::shard::LookedAt;

/// Why messages died, as RabbitMQ says it.
pub(super) const REASONS: [(Departure, &str); 4] = [
    (Departure::Rejected, "rejected"),
    (Departure::Expired, "expired"),
    (Departure::MaxLength, "maxlen"),
    (Departure::DeliveryLimit, "delivery_limit"),
];

/// Messages that were dead letters.
#[derive(Debug)]
pub(super) struct Letters {
    run: MessageRun,
    /// Length of each one's own routing key, which its item ends with; none if all have the address's.
    key_bytes: Vec<usize>,
    /// Those that name further keys, in order.
    with_further_keys: Vec<u32>,
    pub(super) written: Vec<Written>,
}

/// What is known of one of them.
#[derive(Debug)]
pub(super) struct Written {
    /// Its sequence in the queue that it left.
    pub(super) sequence: u64,
    /// Queues in which it died since it was rejected last, that one first.
    pub(super) untouched: Arc<[String]>,
}

impl Letters {
    /// What messages become that left this queue for this reason. Those that cannot be read are left out; why, of the last of them, is the
    /// fault.
    pub(super) fn write(
        queue: &str,
        reason: &str,
        now: Timestamp,
        address: &DeadLetterAddress,
        dead: &[LookedAt],
    ) -> (Self, Option<ItemFault>) {
        let mut builder = MessageRunBuilder::default();
        let (mut key_bytes, mut written, mut fault) = (Vec::new(), Vec::new(), None);
        let mut with_further_keys = Vec::new();
        let at_seconds = (now.0 / 1_000) as i64;
        let (mut writer, mut item) = (DeadLetterWriter::default(), BytesMut::new());
        for message in dead {
            let own_key = routing_key_of(message);
            let exchange = message.origin.exchange.as_str();
            let death = Death { queue, reason, exchange, routing_key: own_key, at_seconds };
            let key = address.routing_key.is_none().then_some(own_key);
            item.clear();
            match writer.write(&message.bytes, death, key, &mut item) {
                Ok(DeadLetter { untouched, has_further_keys }) => {
                    builder.push(&item);
                    key_bytes.extend(key.map(str::len));
                    with_further_keys.extend(has_further_keys.then_some(written.len() as u32));
                    written.push(Written { sequence: message.sequence, untouched });
                }
                Err(why) => fault = Some(why),
            }
        }
        (Self { run: builder.finish(), key_bytes, with_further_keys, written }, fault)
    }
}

impl Publication for Letters {
    fn run(&self) -> &MessageRun {
        &self.run
    }

    fn has_keys(&self) -> bool {
        !self.key_bytes.is_empty()
    }

    fn key(&self, index: usize) -> Option<&str> {
        let item = self.run.item(index);
        let from = item.len().checked_sub(*self.key_bytes.get(index)?)?;
        std::str::from_utf8(&item[from..]).ok()
    }

    fn with_further_keys(&self) -> &[u32] {
        &self.with_further_keys
    }

    fn body_bytes_max(&self) -> usize {
        (0..self.run.len()).map(|index| self.body_bytes(index)).max().unwrap_or(0)
    }
}
