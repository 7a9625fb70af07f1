//! Carries dead letters over: from the queue that they left to those that their exchange sends them to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};

use super::address::{DeadLetterAddress, address_of};
use super::letter::{Letters, REASONS};
use crate::broker::broker::Shared;
use crate::broker::histories;
use crate::broker::published::Published;
use crate::broker::session::{Address, Fate, Publication, Router, SizesMax, Target};
use crate::broker::vhost::{QueueDefinition, Vhost};
use crate::model::{
    BodySequence, Bug, Entity, QueueId, Refusal, ReplyCode, RoutingKey, ShardId, Timestamp, planted,
};
use crate::queue::{Departure, SequenceRuns};
use crate::shard::{
    Came, Command, DeadLetters, Look, Looked, LookedAt, Segment, ShardHandle, StoreBatch, Which,
};

/// Queues of which dead letters are on their way at a time: a page each.
const CARRIED_QUEUES_MAX: usize = 8;
/// Dead letters of a page.
const PAGE_MESSAGES_MAX: usize = 4_096;
/// Bytes of a page, unless a single one has more.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Until those are tried again that have nowhere to go; twice as long each time.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest of these.
const RETRY_MAX: Duration = Duration::from_secs(4);
/// While some have nowhere to go a look at all of them is followed by a rest of so many times its length.
const REST_TIMES: u64 = 10;
/// The longest of these rests.
const REST_MAX: Duration = Duration::from_secs(60);

/// Carries dead letters of all queues, as long as there are shards that tell of some.
pub(in crate::broker) async fn carry_dead_letters(
    shared: Weak<Shared>,
    mut told: UnboundedReceiver<DeadLetters>,
) {
    let permits = Arc::new(Semaphore::new(CARRIED_QUEUES_MAX));
    let (done, mut is_done) = unbounded_channel::<DeadLetters>();
    // Whether there were more while it was under way.
    let mut under_way: HashMap<QueueId, bool> = HashMap::new();
    loop {
        let letters = tokio::select! {
            biased;
            letters = told.recv() => match letters {
                None => return,
                Some(letters) => match under_way.get_mut(&letters.queue) {
                    Some(more) => {
                        *more = true;
                        continue;
                    }
                    None => letters,
                },
            },
            Some(letters) = is_done.recv() => match under_way.remove(&letters.queue) {
                Some(true) => letters,
                _ => continue,
            },
        };
        let Some(carrier) = Carrier::find(&shared, letters, &permits) else { continue };
        under_way.insert(letters.queue, false);
        let done = done.clone();
        tokio::spawn(async move {
            carrier.carry().await;
            // Nobody waits for it once the broker stops.
            let _ = done.send(letters);
        });
    }
}

/// Carries dead letters of one queue.
struct Carrier {
    /// Not held while it waits: the broker may go.
    shared: Weak<Shared>,
    permits: Arc<Semaphore>,
    vhost: Arc<Vhost>,
    queue: Arc<QueueDefinition>,
    shard: ShardHandle,
    address: DeadLetterAddress,
    target: Target,
    router: Router,
    published: Published,
}

/// The queue is gone, or the broker stops.
struct Gone;

/// What came of a look at all dead letters of a queue.
struct Pass {
    /// Some have gone.
    any_moved: bool,
    /// Why others have not.
    stuck: Option<Refusal>,
}

impl Carrier {
    fn find(shared: &Weak<Shared>, letters: DeadLetters, permits: &Arc<Semaphore>) -> Option<Self> {
        let strong = shared.upgrade()?;
        let vhosts: Vec<Arc<Vhost>> = strong.vhosts().values().cloned().collect();
        let of_vhost = |vhost: Arc<Vhost>| Some((vhost.queue_of_id(letters.queue)?, vhost));
        let (queue, vhost) = vhosts.into_iter().find_map(of_vhost)?;
        // Arguments that say nothing were refused when the queue was declared.
        let address = address_of(queue.effective()).ok().flatten()?;
        let target = target_at(&address);
        Some(Self {
            shared: Weak::clone(shared),
            permits: Arc::clone(permits),
            vhost,
            queue,
            shard: strong.shard(letters.shard)?.clone(),
            address,
            target,
            router: Router::default(),
            published: Published::default(),
        })
    }

    /// The queue may have been altered: they go where it says now.
    fn follow_alteration(&mut self) -> Result<(), Gone> {
        let queue =
            self.vhost.queue(&self.queue.name).filter(|queue| queue.id == self.queue.id).ok_or(Gone)?;
        if Arc::ptr_eq(&queue, &self.queue) {
            return Ok(());
        }
        let address = address_of(queue.effective()).ok().flatten().ok_or(Gone)?;
        if address != self.address {
            (self.target, self.address) = (target_at(&address), address);
        }
        self.queue = queue;
        Ok(())
    }

    /// Until there are none.
    async fn carry(mut self) {
        let mut pause = RETRY_FIRST;
        let mut is_told = false;
        loop {
            let Some(began) = self.now() else { return };
            let Ok(Pass { any_moved, stuck }) = self.pass().await else { return };
            if any_moved {
                pause = RETRY_FIRST;
            }
            let Some(why) = stuck else {
                if any_moved {
                    continue;
                }
                return;
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    vhost = %self.vhost.name, queue = %self.queue.name, exchange = %self.address.exchange, %why,
                    "dead letters have nowhere to go and stay with their queue"
                );
            }
            let Some(shared) = self.shared.upgrade() else { return };
            let took_ms = (shared.platform.clock)().0.saturating_sub(began.0);
            let rest = pause.max(Duration::from_millis(REST_TIMES.saturating_mul(took_ms)).min(REST_MAX));
            let rested = shared.platform.workers.sleep(rest);
            drop(shared);
            rested.await;
            pause = (2 * pause).min(RETRY_MAX);
        }
    }

    fn now(&self) -> Option<Timestamp> {
        self.shared.upgrade().map(|shared| (shared.platform.clock)())
    }

    async fn pass(&mut self) -> Result<Pass, Gone> {
        self.follow_alteration()?;
        let (mut stuck, mut any_moved) = (None, false);
        for (why, reason) in REASONS {
            let mut from = Some(0);
            while let Some(first) = from {
                let permits = Arc::clone(&self.permits);
                let Ok(_permit) = permits.acquire().await else { return Err(Gone) };
                let Looked { messages, next, .. } = match self.look(why, first).await? {
                    Ok(looked) => looked,
                    Err(refusal) => {
                        stuck = Some(*refusal);
                        break;
                    }
                };
                from = next;
                if messages.is_empty() {
                    continue;
                }
                let left = self.carry_page(why, reason, &messages).await?;
                any_moved |= left.messages < messages.len();
                stuck = left.why.or(stuck);
            }
        }
        Ok(Pass { any_moved, stuck })
    }

    async fn look(&self, why: Departure, from: u64) -> Result<Result<Looked, Box<Refusal>>, Gone> {
        let look = Look {
            queue: self.queue.id,
            from,
            end: 0,
            came: Came::default(),
            which: Which::DeadLetters(why),
            newest: None,
            count_max: PAGE_MESSAGES_MAX,
            bytes_max: PAGE_BYTES_MAX,
        };
        let (reply, looked) = oneshot::channel();
        self.shard.send(Command::Browse { look, reply });
        match looked.await {
            Ok(Err(refusal)) if refusal.code == ReplyCode::NotFound => Err(Gone),
            Ok(looked) => Ok(looked),
            Err(_) => Err(Gone),
        }
    }

    /// Has a page of dead letters stored, and those of them forgotten that are.
    async fn carry_page(&mut self, why: Departure, reason: &str, dead: &[LookedAt]) -> Result<Left, Gone> {
        let shared = self.shared.upgrade().ok_or(Gone)?;
        let now = (shared.platform.clock)();
        let (letters, fault) = Letters::write(&self.queue.name, reason, now, &self.address, dead);
        let mut left = Left { messages: dead.len() - letters.written.len(), why: fault.map(|f| f.refusal()) };
        let fates = match self.route(&shared, &letters) {
            Ok(fates) => fates,
            Err(refusal) => return Ok(Left { messages: dead.len(), why: Some(refusal) }),
        };
        let mut plan = Plan { shards: Vec::new(), ends: vec![End::Stored; letters.written.len()] };
        let mut first = 0;
        for (count, fate) in &fates {
            match self.refusal(fate) {
                Some(refusal) => {
                    plan.ends[first as usize..(first + count) as usize].fill(End::Left);
                    left.why = Some(refusal);
                }
                None => self.plan(why, fate, first..first + count, &letters, &mut plan),
            }
            first += count;
        }
        self.target.count(&self.vhost, &self.published, &fates);
        let mut answers = Vec::new();
        for (shard, segments) in plan.shards {
            let Some(handle) = shared.shard(shard) else { continue };
            let (reply, answer) = oneshot::channel();
            let places: Vec<_> = segments.iter().map(|segment| segment.first..segment.end).collect();
            let (origin, run) = (Arc::clone(&self.target.origin), letters.run().clone());
            handle.send(Command::Store(StoreBatch { origin, run, segments, reply }));
            answers.push((places, answer));
        }
        // The broker may go while this waits for the disk.
        drop(shared);
        if planted(Bug::DeadLettersLetGo) {
            answers.clear();
        }
        for (places, answer) in answers {
            let Err(refusal) = answer.await.map_err(|_| Gone)? else { continue };
            left.why = Some(*refusal);
            for place in places.into_iter().flatten() {
                plan.ends[place as usize] = End::Left;
            }
        }
        left.messages += plan.ends.iter().filter(|end| **end == End::Left).count();
        for (end, departure) in [(End::Stored, Departure::DeadLettered), (End::Cycled, Departure::Cycle)] {
            let mut gone = SequenceRuns::default();
            let ended = letters.written.iter().zip(&plan.ends).filter(|(_, of)| **of == end);
            ended.for_each(|(letter, _)| gone.push(BodySequence(letter.sequence)));
            if !gone.is_empty() {
                let queue = self.queue.id;
                self.shard.send(Command::DismissDeadLetters { queue, why: departure, letters: gone });
            }
        }
        Ok(left)
    }

    /// The fates of dead letters, after exchanges on their way have kept them; or why there is no room for them.
    fn route(&mut self, shared: &Shared, letters: &Letters) -> Result<Vec<(u32, Fate)>, Refusal> {
        let Self { vhost, target, router, .. } = self;
        let fates = target.fates(vhost, letters, SizesMax::NONE, router);
        let (held, fates) = histories::hold(vhost, target, letters, fates, (SizesMax::NONE, router));
        if let Some(refusal) = no_room(shared, &fates) {
            return Err(refusal);
        }
        if let Some(held) = held {
            // What reaches no queue is tried again, and kept when it does.
            let goes = |fate: &Fate| matches!(fate, Fate::Routed(route) if route.queues > 0);
            held.keep(&shared.gauges.histories, &target.origin, letters, &fates, goes);
        }
        Ok(fates)
    }

    /// Why messages with this fate have nowhere to go, if so.
    fn refusal(&self, fate: &Fate) -> Option<Refusal> {
        let DeadLetterAddress { exchange, routing_key } = &self.address;
        match fate {
            Fate::Routed(route) if route.queues > 0 => None,
            Fate::Routed(_) => {
                let key = routing_key.as_ref().map_or("their own routing key", RoutingKey::as_str);
                let text = format!("exchange '{exchange}' sends them to no queue, with key '{key}'");
                Some(Refusal::new(ReplyCode::NoRoute, text).about(Entity::Exchange, exchange.as_str()))
            }
            _ => fate.refusal().cloned(),
        }
    }

    /// Adds neighbouring messages to what goes to shards, but where they would go round in a circle.
    fn plan(
        &self,
        why: Departure,
        fate: &Fate,
        places: std::ops::Range<u32>,
        letters: &Letters,
        plan: &mut Plan,
    ) {
        let Fate::Routed(route) = fate else { return };
        // What somebody rejects may come round.
        let circles = |place: u32| match why {
            Departure::Rejected => Vec::new(),
            _ => self.circles(fate, &letters.written[place as usize].untouched),
        };
        let mut first = places.start;
        for place in places.clone() {
            let circles = circles(place);
            if circles.is_empty() {
                continue;
            }
            if first < place {
                route.add_segments(first, place, &mut plan.shards);
            }
            if !route.add_segment_without(place, &circles, &mut plan.shards) {
                plan.ends[place as usize] = End::Cycled;
            }
            first = place + 1;
        }
        if first < places.end {
            route.add_segments(first, places.end, &mut plan.shards);
        }
    }

    /// Which of the queues that a message goes to are among those in which it died untouched.
    fn circles(&self, fate: &Fate, untouched: &[String]) -> Vec<QueueId> {
        let mut circles = Vec::new();
        for name in untouched {
            let id = match name == self.queue.name.as_str() {
                true => Some(self.queue.id),
                false => self.vhost.queue(name).map(|queue| queue.id),
            };
            circles.extend(id.filter(|id| fate.queues().any(|queue| queue == *id)));
        }
        circles
    }
}

fn target_at(address: &DeadLetterAddress) -> Target {
    Target::new(Address {
        exchange: address.exchange.clone(),
        routing_key: address.routing_key.clone().unwrap_or_default(),
        mandatory: false,
        transient: false,
    })
}

/// How many dead letters of a page stay, and why.
struct Left {
    messages: usize,
    why: Option<Refusal>,
}

/// What goes to which shard, and what becomes of each message if that is stored.
struct Plan {
    shards: Vec<(ShardId, Vec<Segment>)>,
    ends: Vec<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stored,
    Left,
    Cycled,
}

/// Why nothing more may be stored now, if so: as for publishers, who wait then.
fn no_room(shared: &Shared, fates: &[(u32, Fate)]) -> Option<Refusal> {
    let gauges = &shared.gauges;
    let text = match () {
        () if gauges.memory.is_full() => "the broker's memory is full".to_owned(),
        () if gauges.disk.is_short() && fates.iter().any(|(_, fate)| fate.reaches_disk()) => {
            gauges.disk.reason().unwrap_or_else(|| "the disk is full".to_owned())
        }
        () => return None,
    };
    Some(Refusal::new(ReplyCode::ResourceError, text).about(Entity::Queue, "").retryable())
}
