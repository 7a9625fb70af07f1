//! What queues would do with a message that came now, for whoever asks where one would go.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::broker::Broker;
use super::dead_letters::{DeadLetterAddress, address_of};
use super::limits::limits_of;
use super::login::Identity;
use super::session::{check_delay, check_expiration};
use super::vhost::QueueDefinition;
use crate::message::{Delay, Expiration};
use crate::model::{MAX_LENGTH, MAX_LENGTH_BYTES, Overflow, QueueId, QueueName, Refusal, ShardId, Timestamp};
use crate::queue::{Fate, Full, Outlook};
use crate::shard::{Command, Foreseen, WouldBe, out_of_service};

/// Queues that are asked at most.
const QUEUES_MAX: usize = 1_000;

/// A message that was not published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enquiry {
    /// Bytes of it, as it is encoded.
    pub size_bytes: u32,
    /// Whether its body is known; if not, the bytes are those of one with an empty body.
    pub body_is_known: bool,
    /// Its priority.
    pub priority: u8,
    /// Milliseconds after which it expires by itself.
    pub expiration_ms: Option<u64>,
    /// Milliseconds for which it is to be held back.
    pub delay_ms: Option<u64>,
    /// Until when it is to be held back: milliseconds since 1970-01-01T00:00:00Z. Not together with `delay_ms`.
    pub deliver_at_ms: Option<u64>,
}

/// What becomes of a message in a queue, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutlookKind {
    /// Somebody who is there takes it at once.
    Taken,
    /// It waits.
    Waits,
    /// It is held back until a later time.
    HeldBack,
    /// It is not let in.
    Refused,
    /// It is let in, and leaves at once, since there is no room.
    Dropped,
    /// It is let in, and leaves at once, since its time is over.
    Expires,
}

/// What a queue would do with a message. Its [`Display`](fmt::Display) is a sentence about the queue, without its name.
#[derive(Debug, Clone)]
pub struct QueueOutlook {
    name: QueueName,
    foreseen: Result<Foreseen, Box<Refusal>>,
    /// Where that goes that leaves or is refused.
    address: Option<DeadLetterAddress>,
    /// It may be otherwise with the bytes of the body, which nobody knows.
    body_is_guessed: bool,
}

impl QueueOutlook {
    /// The queue's name.
    pub fn queue(&self) -> &QueueName {
        &self.name
    }

    /// What becomes of the message.
    pub fn kind(&self) -> OutlookKind {
        match self.foreseen.as_ref().map(|foreseen| foreseen.outlook.fate) {
            Err(_) | Ok(Fate::Refused(_)) => OutlookKind::Refused,
            Ok(Fate::HeldBack) => OutlookKind::HeldBack,
            Ok(Fate::Taken) => OutlookKind::Taken,
            Ok(Fate::Dropped(_)) => OutlookKind::Dropped,
            Ok(Fate::Expires) => OutlookKind::Expires,
            Ok(Fate::Waits(_)) => OutlookKind::Waits,
        }
    }

    /// Until when it is held back, if it is.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.foreseen.as_ref().ok().and_then(|foreseen| foreseen.held_until)
    }

    /// How many of those that wait leave to make room for it.
    pub fn drops(&self) -> u64 {
        let drops = self.foreseen.as_ref().ok().and_then(|foreseen| foreseen.outlook.drops);
        drops.map_or(0, |(count, _)| count)
    }

    /// Where that goes that leaves or is refused, the message itself or others: an exchange, and a key unless it is that of each
    /// message. `None`: nothing leaves, or it goes nowhere.
    pub fn dead_letters(&self) -> Option<(&str, Option<&str>)> {
        self.address.as_ref().map(|address| (address.exchange.as_str(), address.routing_key.as_deref()))
    }
}

impl Broker {
    /// What the first 1,000 of these queues would do with a message that came now; of others that are gone nothing is told. Nothing
    /// changes.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub async fn outlook(
        &self,
        who: &Identity,
        queues: &[QueueName],
        enquiry: &Enquiry,
    ) -> Result<Vec<QueueOutlook>, Refusal> {
        let Enquiry { size_bytes, body_is_known, priority, expiration_ms, delay_ms, deliver_at_ms } =
            *enquiry;
        if let Some(after_millis) = expiration_ms {
            check_expiration(&Expiration { index: 0, after_millis })?;
        }
        let delay = Delay { index: 0, after_millis: delay_ms, at_millis: deliver_at_ms };
        check_delay(&delay)?;
        let message = WouldBe { size_bytes, priority, expiration_ms, delay };
        let queues = queues.iter().take(QUEUES_MAX).filter_map(|queue| who.vhost.queue(queue));
        let definitions: Vec<Arc<QueueDefinition>> = queues.collect();
        let mut foreseen = match who.vhost.full() {
            // It lets nothing in, whatever its queues have room for.
            Some(full) => definitions.iter().map(|queue| (queue.id, Err(full.clone()))).collect(),
            None => self.foresee(&definitions, message).await,
        };
        let each = definitions.into_iter().filter_map(|definition| {
            let foreseen = foreseen.remove(&definition.id)?;
            Some(QueueOutlook::new(definition, foreseen, body_is_known))
        });
        Ok(each.collect())
    }

    async fn foresee(
        &self,
        queues: &[Arc<QueueDefinition>],
        message: WouldBe,
    ) -> HashMap<QueueId, Result<Foreseen, Box<Refusal>>> {
        let mut by_shard: BTreeMap<ShardId, Vec<QueueId>> = BTreeMap::new();
        queues.iter().for_each(|queue| by_shard.entry(queue.shard).or_default().push(queue.id));
        let mut foreseen = HashMap::new();
        for (id, queues) in by_shard {
            let Some(shard) = self.shared.shard(id) else { continue };
            let (reply, answer) = oneshot::channel();
            shard.send(Command::Foresee { queues: queues.clone(), message, reply });
            match answer.await {
                Ok(Ok(of_queues)) => {
                    foreseen.extend(of_queues.into_iter().map(|of_queue| (of_queue.queue, Ok(of_queue))));
                }
                Ok(Err(refusal)) => foreseen.extend(queues.iter().map(|id| (*id, Err(refusal.clone())))),
                // It has stopped.
                Err(_) => {
                    let refusal = Box::new(out_of_service(id));
                    foreseen.extend(queues.iter().map(|id| (*id, Err(refusal.clone()))));
                }
            }
        }
        foreseen
    }
}

impl QueueOutlook {
    fn new(
        definition: Arc<QueueDefinition>,
        foreseen: Result<Foreseen, Box<Refusal>>,
        body_is_known: bool,
    ) -> Self {
        let limits = limits_of(definition.effective()).unwrap_or_default();
        let leaves = foreseen.as_ref().is_ok_and(|Foreseen { outlook, .. }| match outlook.fate {
            Fate::Refused(_) => limits.overflow == Overflow::RejectPublishDlx,
            Fate::Dropped(_) | Fate::Expires => true,
            Fate::HeldBack | Fate::Taken | Fate::Waits(_) => outlook.drops.is_some(),
        });
        let address = address_of(definition.effective()).ok().flatten().filter(|_| leaves);
        let body_is_guessed = limits.bytes.is_some() && !body_is_known;
        Self { name: definition.name.clone(), foreseen, address, body_is_guessed }
    }
}

/// For instance "keeps it behind 3 that wait, for 5000 ms at most".
impl fmt::Display for QueueOutlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Foreseen { outlook: Outlook { fate, drops, expires_after_millis }, fault, .. } =
            match &self.foreseen {
                Ok(foreseen) => foreseen,
                Err(refusal) => return write!(f, "does not take it: {}", refusal.text),
            };
        match fate {
            Fate::Refused(full) => write!(f, "refuses it, since it is full ({})", Bound(*full))?,
            Fate::HeldBack => f.write_str("holds it back")?,
            Fate::Taken => f.write_str("gives it to a consumer at once")?,
            Fate::Dropped(full) => write!(f, "drops it at once, since there is no room ({})", Bound(*full))?,
            Fate::Expires => f.write_str("lets it expire at once, since no consumer takes it")?,
            Fate::Waits(0) => f.write_str("keeps it, as the next one")?,
            Fate::Waits(1) => f.write_str("keeps it behind 1 that waits")?,
            Fate::Waits(ahead) => write!(f, "keeps it behind {ahead} that wait")?,
        }
        if let (Fate::Waits(_), Some(millis)) = (fate, expires_after_millis) {
            write!(f, ", for {millis} ms at most")?;
        }
        match drops {
            None => {}
            Some((1, full)) => write!(f, "; 1 that waits leaves to make room ({})", Bound(*full))?,
            Some((count, full)) => write!(f, "; {count} that wait leave to make room ({})", Bound(*full))?,
        }
        if let Some(DeadLetterAddress { exchange, routing_key }) = &self.address {
            let what = if matches!(fate, Fate::Refused(_)) { "it" } else { "what leaves" };
            match exchange.as_str() {
                "" => write!(f, "; {what} goes to the default exchange")?,
                exchange => write!(f, "; {what} goes to exchange '{exchange}'")?,
            }
            if let Some(key) = routing_key {
                write!(f, " with key '{key}'")?;
            }
            f.write_str(" as a dead letter")?;
        }
        if self.body_is_guessed {
            f.write_str("; its body was taken to be empty")?;
        }
        fault.as_ref().map_or(Ok(()), |fault| write!(f, "; it hands out nothing: {fault}"))
    }
}

/// A bound, for people.
struct Bound(Full);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Full::Messages(most) => write!(f, "{MAX_LENGTH}: at most {most} messages waiting"),
            Full::Bytes(most) => write!(f, "{MAX_LENGTH_BYTES}: at most {most} bytes waiting"),
        }
    }
}
