//! A broker in one thread on a disk in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use super::access::ShownAccess;
use super::books::Finding;
use super::dying::collector;
use super::logs::open_log;
use super::random::Random;
use super::subscriptions::{ShownSubscriptions, shown_in};
use super::workers::SteppedWorkers;
use crate::broker::{
    Binding, Broker, BrokerOptions, CloseFailure, Identity, OpenFailure, Password, Platform, QueueListing,
    SubscriptionFilter, SubscriptionListing, open_on,
};
use crate::model::UserName;
use crate::storage::testing::{MemoryDisk, Seeded};

/// Bytes of a segment: small, so that logs roll, are merged and shrink all the time.
pub(super) const SEGMENT_BYTES: u64 = 16 * 1024;
/// Rounds after which what waits for itself is taken to wait for ever.
const ROUNDS_MAX: usize = 20_000;
/// Milliseconds that a step of waiting takes, if nobody says when to be woken.
const IDLE_MS: u64 = 50;
/// Names that lists hold at most here.
pub(super) const LIST_MAX: usize = 1000;

/// Tries to see all lists as they are at one moment.
const SHOWN_TRIES_MAX: usize = 20;

const USER: &str = "guest";

pub(super) struct World {
    /// `None` once the broker is at its end.
    runtime: Option<Runtime>,
    pub(super) broker: Broker,
    pub(super) workers: Arc<SteppedWorkers>,
}

/// What a broker shows of what survives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) queues: BTreeSet<String>,
    /// Exchange, key, queue.
    pub(super) links: BTreeSet<(String, String, String)>,
    /// Messages and bytes of each queue.
    pub(super) contents: BTreeMap<String, (u64, u64)>,
    pub(super) subscriptions: ShownSubscriptions,
    pub(super) access: ShownAccess,
}

impl Shown {
    /// What it shows beside queues and subscriptions with these names.
    pub(super) fn without(mut self, names: &BTreeSet<&str>) -> Self {
        self.queues.retain(|name| !names.contains(&**name));
        self.links.retain(|(_, _, name)| !names.contains(&**name));
        self.contents.retain(|name, _| !names.contains(&**name));
        self.subscriptions.retain(|name, _| !names.contains(&**name));
        self
    }
}

impl World {
    /// Starts a broker on what the disk holds.
    pub(super) fn open(disk: &MemoryDisk, now_ms: u64) -> Result<Self, OpenFailure> {
        let runtime =
            Builder::new_current_thread().build().expect("a runtime without a driver needs nothing");
        let workers = Arc::new(SteppedWorkers::at(now_ms));
        let clock = Arc::clone(&workers);
        let random = Mutex::new(Seeded::new(now_ms));
        let platform = Platform {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(move || clock.now()),
            randomness: Arc::new(move |bytes: &mut [u8]| {
                let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.iter_mut().for_each(|byte| *byte = random.number() as u8);
                Ok(())
            }),
            workers: Arc::clone(&workers) as _,
            open_log: open_log(&workers),
        };
        let guard = runtime.enter();
        let broker = open_on(options(), platform)?;
        drop(guard);
        Ok(Self { runtime: Some(runtime), broker, workers })
    }

    /// Somebody who may do everything.
    pub(super) fn log_in(&self) -> Identity {
        let user = UserName::new(USER).expect("it is a name");
        self.broker.let_in(&user, "/").expect("the first user is there, and may open the first virtual host")
    }

    /// Does something on the broker's runtime.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _guard = self.runtime().enter();
        work()
    }

    /// Lets every task that is ready go on, so many times.
    pub(super) fn tick(&self, times: usize) {
        self.runtime().block_on(async {
            for _ in 0..times {
                yield_now().await;
            }
        });
    }

    /// Lets everything go on until `done` comes, in an order that the seed decides.
    pub(super) fn until<T>(
        &self,
        future: impl Future<Output = T>,
        random: &mut Random,
    ) -> Result<T, Finding> {
        let mut future = Box::pin(future);
        for _ in 0..ROUNDS_MAX {
            let polled = self.enter(|| future.as_mut().poll(&mut Context::from_waker(Waker::noop())));
            if let Poll::Ready(result) = polled {
                return Ok(result);
            }
            self.round(random);
        }
        Err("the broker waits for something that does not come".to_owned())
    }

    /// Lets everything do a little.
    pub(super) fn round(&self, random: &mut Random) {
        self.tick(2);
        if !self.workers.work(random) && !self.workers.step_logs() {
            self.workers.advance(self.workers.next_in().unwrap_or(IDLE_MS).max(1));
        }
    }

    /// What it shows, at one moment.
    pub(super) fn shown(&self, random: &mut Random) -> Result<Shown, Finding> {
        for _ in 0..SHOWN_TRIES_MAX {
            let links = self.links()?;
            let shown = self.shown_now(random)?;
            let members = shown.subscriptions.values().flat_map(|listening| &listening.queues);
            let queues = shown.queues.iter().filter(|name| name.starts_with("sub:"));
            // What expires between the lists is in some of them.
            if links == shown.links && members.collect::<BTreeSet<_>>() == queues.collect() {
                return Ok(shown);
            }
        }
        Err("the lists of queues, bindings and subscriptions do not agree".to_owned())
    }

    fn shown_now(&self, random: &mut Random) -> Result<Shown, Finding> {
        let who = self.log_in();
        let mut shown = Shown::default();
        for QueueListing { definition, counts, .. } in self.listed(&who, random)? {
            let name = definition.name.to_string();
            let messages = counts.ready + counts.held_back + counts.unsettled;
            shown.contents.insert(name.clone(), (messages, counts.bytes));
            shown.queues.insert(name);
        }
        shown.subscriptions = shown_in(&self.subscriptions(&who, random)?);
        shown.access = self.access(&who)?;
        shown.links = self.links()?;
        Ok(shown)
    }

    /// Exchange, key and queue of each binding.
    fn links(&self) -> Result<BTreeSet<(String, String, String)>, Finding> {
        let bindings = self.broker.list_bindings(&self.log_in(), "", LIST_MAX);
        let bindings = bindings.map_err(|refusal| format!("bindings cannot be listed: {refusal}"))?;
        let link = |binding: &Binding| {
            (binding.source.to_string(), binding.key.to_string(), binding.destination.name().to_owned())
        };
        Ok(bindings.entries.iter().map(|binding| link(binding)).collect())
    }

    /// Its queues.
    pub(super) fn listed(&self, who: &Identity, random: &mut Random) -> Result<Vec<QueueListing>, Finding> {
        self.until(self.broker.list_queues(who, "", "", LIST_MAX), random).map(|page| page.entries)
    }

    /// Its subscriptions.
    pub(super) fn subscriptions(
        &self,
        who: &Identity,
        random: &mut Random,
    ) -> Result<Vec<SubscriptionListing>, Finding> {
        let all = SubscriptionFilter::default();
        let listed = self.until(self.broker.list_subscriptions(who, "", &all, "", LIST_MAX), random)?;
        listed
            .map(|page| page.entries)
            .map_err(|refusal| format!("subscriptions cannot be listed: {refusal}"))
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("a broker that is at its end is not used")
    }

    /// Ends it where it is: no task goes on.
    pub(super) fn halt(&mut self) {
        self.runtime = None;
        self.workers.end();
    }

    /// Stops as asked. The inner error: what could not be put on disk.
    pub(super) fn close(&self, random: &mut Random) -> Result<Result<(), Vec<CloseFailure>>, Finding> {
        let broker = self.broker.clone();
        self.until(async move { broker.close().await }, random)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.halt();
    }
}

fn options() -> BrokerOptions {
    BrokerOptions {
        data: Some(PathBuf::from("/data")),
        shards: 2,
        shards_are_chosen: true,
        segment_bytes: SEGMENT_BYTES,
        checkpoint_bytes: 2 * SEGMENT_BYTES,
        lease_millis: None,
        disk_free_bytes_min: 0,
        resident_bytes_max: 64 * 1024,
        message_bytes_max: 256 * 1024,
        publish_bytes_max: 256 * 1024,
        memory_bytes_max: 1 << 30,
        deliver_bytes_max: 64 * 1024,
        journey_bytes_max: 8 * 1024 * 1024,
        journey_disk_bytes_max: None,
        first_user: Some((
            UserName::new(USER).expect("it is a name"),
            Password::new(USER).expect("it is a password"),
        )),
    }
}

/// The disk of a broker that was started once and stopped: making its first user takes long.
pub(super) fn fresh_disk() -> MemoryDisk {
    static DISK: OnceLock<MemoryDisk> = OnceLock::new();
    let disk = DISK.get_or_init(|| {
        let disk = MemoryDisk::new();
        let world = World::open(&disk, 1).expect("a broker starts on an empty disk");
        let (broker, who) = (world.broker.clone(), world.log_in());
        let declared = async move { broker.declare_queue(&who, collector()).await };
        let declared = world.until(declared, &mut Random::new(0)).expect("a broker answers");
        declared.expect("a disk without troubles takes a queue");
        let closed = world.close(&mut Random::new(0)).expect("a broker that does nothing stops");
        closed.expect("a disk without troubles takes everything");
        disk
    });
    disk.copy()
}
