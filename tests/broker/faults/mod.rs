//! A whole broker on a disk in memory that fails at each call that changes it in turn, and what its clients were told held
//! against what is there afterwards.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use leveret::client::{
    Binding, Channel, DeleteQueue, Destination, Get, Message, Queue, RequestError, Subscription,
};
use leveret::storage::testing::{Fault, MemoryDisk, PowerLoss};
use world::World;

/// What clients know for certain, and what they do not.
#[derive(Debug, Default)]
struct Journal {
    queues: BTreeMap<&'static str, Knowledge>,
    /// Bodies that were published to each queue, in order, and whether the disk was said to have them.
    bodies: BTreeMap<&'static str, Vec<(String, bool)>>,
    /// Queues that are bound for certain.
    bound: BTreeSet<&'static str>,
    /// What the subscription listens to for certain, if it is there; and what it may listen to after a restart.
    listens: Option<Keys>,
    may_listen: Vec<Keys>,
    /// Something was refused.
    refused: bool,
}

/// Patterns of the subscription, in order.
type Keys = Vec<&'static str>;

/// The queue of the one subscription.
const SUBSCRIBED: &str = "sub:app";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    There,
    Gone,
    /// It was refused: not to be seen before a restart, and unknown after one, since a sync that failed may have written.
    Refused,
    /// Its deletion was refused: to be seen with all its messages before a restart.
    DeletionRefused,
}

impl Journal {
    fn hear<T>(&mut self, answer: Result<T, RequestError>, done: Knowledge, refused: Knowledge) -> Knowledge {
        match answer {
            Ok(_) => done,
            Err(RequestError::Refused(_)) => {
                self.refused = true;
                refused
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Publishes, declares and deletes, and checks after each refusal that nothing of it is seen.
async fn work(channel: &Channel, journal: &mut Journal) {
    declare(channel, journal, "first").await;
    declare(channel, journal, "second").await;
    bind(channel, journal, "first").await;
    publish(channel, journal, "first", 3).await;
    publish(channel, journal, "second", 3).await;
    subscribe(channel, journal, vec!["a", "b"]).await;
    publish(channel, journal, SUBSCRIBED, 2).await;
    subscribe(channel, journal, vec!["b", "c", "d"]).await;
    delete(channel, journal, "second").await;
    // It would take the number of the one before, if numbers were used twice.
    declare(channel, journal, "third").await;
    publish(channel, journal, "third", 3).await;
    declare(channel, journal, "fourth").await;
    bind(channel, journal, "third").await;
    delete(channel, journal, "first").await;
    // What needs no record goes on whatever happened, and makes nothing visible that was refused.
    channel.declare_queue(Queue::private()).await.unwrap();
    check_seen(channel, journal).await;
}

async fn declare(channel: &Channel, journal: &mut Journal, name: &'static str) {
    let declared = channel.declare_queue(Queue::new(name)).await;
    let known = journal.hear(declared, Knowledge::There, Knowledge::Refused);
    journal.queues.insert(name, known);
    check_seen(channel, journal).await;
}

async fn delete(channel: &Channel, journal: &mut Journal, name: &'static str) {
    if journal.queues[name] != Knowledge::There {
        return;
    }
    let deleted = channel.delete_queue(name, DeleteQueue::default()).await;
    let known = journal.hear(deleted, Knowledge::Gone, Knowledge::DeletionRefused);
    journal.queues.insert(name, known);
    check_seen(channel, journal).await;
}

/// All of it, or nothing: queue and patterns.
async fn subscribe(channel: &Channel, journal: &mut Journal, keys: Keys) {
    let listen = |app: Subscription, key: &&'static str| app.listen("amq.topic", *key);
    let declared = channel.declare_subscription(keys.iter().fold(Subscription::new("app"), listen)).await;
    let before = *journal.queues.get(SUBSCRIBED).unwrap_or(&Knowledge::Refused);
    let is_done = declared.is_ok();
    let known = journal.hear(declared, Knowledge::There, before);
    journal.queues.insert(SUBSCRIBED, known);
    match is_done {
        true => (journal.listens, journal.may_listen) = (Some(keys), Vec::new()),
        false => journal.may_listen.push(keys),
    }
    check_seen(channel, journal).await;
}

/// What the subscription says that it listens to; that is what its queue is bound with.
async fn listens(channel: &Channel) -> Option<Vec<String>> {
    let is_its = |binding: &Binding| binding.destination == Destination::Queue(SUBSCRIBED.to_owned());
    let bindings = channel.list_bindings().await.unwrap().into_iter().filter(is_its);
    let mut bound: Vec<String> = bindings.map(|binding| binding.routing_key).collect();
    bound.sort();
    let found = channel.find_subscription("app").await.unwrap().pop()?;
    let mut said: Vec<String> = found.bindings.into_iter().map(|binding| binding.routing_key).collect();
    said.sort();
    assert_eq!(said, bound, "what it says and what is bound");
    assert_eq!(found.queue.as_deref(), Some(SUBSCRIBED));
    Some(said)
}

/// Asks twice if need be: that something was refused does not make it done the second time.
async fn bind(channel: &Channel, journal: &mut Journal, queue: &'static str) {
    for _ in 0..2 {
        if channel.bind(Binding::to_queue("amq.topic", queue, "all.#")).await.is_ok() {
            journal.bound.insert(queue);
            return;
        }
    }
}

async fn publish(channel: &Channel, journal: &mut Journal, queue: &'static str, count: usize) {
    let publisher = channel.publisher("", queue).open().await.unwrap();
    for number in 0..count {
        let body = format!("{queue} {number}");
        let confirmed = match publisher.publish(Message::new(body.clone())).await {
            Ok(confirm) => confirm.await.is_ok(),
            Err(error) => panic!("{error}"),
        };
        let known = journal.queues[queue];
        assert!(known == Knowledge::There || !confirmed, "a message was confirmed to {queue}, {known:?}");
        journal.bodies.entry(queue).or_default().push((body, confirmed));
    }
    publisher.close().await.ok();
}

/// Before a restart all is as it was said to be.
async fn check_seen(channel: &Channel, journal: &Journal) {
    let seen: BTreeSet<String> =
        channel.list_queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    for (name, knowledge) in &journal.queues {
        let there = matches!(knowledge, Knowledge::There | Knowledge::DeletionRefused);
        assert_eq!(seen.contains(*name), there, "{name} is {knowledge:?} and listed are {seen:?}");
        assert_eq!(channel.check_queue(name).await.is_ok(), there, "{name} is {knowledge:?}");
    }
    let certain = journal.listens.as_ref();
    assert_eq!(listens(channel).await, certain.map(|keys| keys.iter().map(ToString::to_string).collect()));
}

/// After a restart nothing that was confirmed is missing, nothing is where it does not belong.
async fn check_kept(channel: &Channel, journal: &Journal) {
    let there: BTreeSet<String> =
        channel.list_queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    for (name, knowledge) in &journal.queues {
        match knowledge {
            Knowledge::There => assert!(there.contains(*name), "{name} was declared and is gone"),
            Knowledge::Gone => assert!(!there.contains(*name), "{name} was deleted and is back"),
            Knowledge::Refused | Knowledge::DeletionRefused => {}
        }
        if there.contains(*name) {
            check_messages(channel, name, journal.bodies.get(name).map_or(&[], |bodies| bodies)).await;
        }
    }
    assert!(there.iter().all(|name| journal.queues.contains_key(&**name)), "{there:?}");
    let listened = listens(channel).await;
    let is_listened = |keys: &Keys| listened.as_ref().is_some_and(|listened| listened == keys);
    let is_right = listened.is_none() && journal.listens.is_none();
    assert!(
        is_right || journal.listens.iter().chain(&journal.may_listen).any(is_listened),
        "it listens to {listened:?}: {journal:?}"
    );
    let bindings = channel.list_bindings().await.unwrap();
    for queue in &journal.bound {
        let bound = bindings.contains(&Binding::to_queue("amq.topic", *queue, "all.#"));
        assert!(bound || !there.contains(*queue), "{queue} was bound and is not any more");
    }
}

async fn check_messages(channel: &Channel, queue: &str, published: &[(String, bool)]) {
    let mut rest = published.iter();
    while let Some(got) = channel.get(queue, Get { no_ack: true }).await.unwrap() {
        let body = std::str::from_utf8(got.delivery.body()).unwrap().to_owned();
        let skipped = rest.by_ref().take_while(|(other, _)| *other != body);
        let lost: Vec<_> = skipped.filter(|(_, confirmed)| *confirmed).collect();
        assert!(lost.is_empty(), "{queue}: {body} came, and {lost:?} before it did not");
        assert!(published.iter().any(|(other, _)| *other == body), "{queue}: {body} does not belong there");
    }
    let lost: Vec<_> = rest.filter(|(_, confirmed)| *confirmed).collect();
    assert!(lost.is_empty(), "{queue}: {lost:?} were confirmed and are gone");
}

/// The disk of a broker that has nothing yet, and was stopped cleanly.
fn used_once() -> MemoryDisk {
    static DISK: LazyLock<MemoryDisk> = LazyLock::new(|| {
        let disk = MemoryDisk::new();
        World::open(&disk).unwrap().close().unwrap();
        disk
    });
    DISK.copy()
}

/// Works on a disk that meets trouble at one call, loses power, and opens again. Returns whether something was refused.
fn in_trouble_at(call: u64, trouble: Trouble, loss: PowerLoss) -> bool {
    let disk = used_once();
    let mut journal = Journal::default();
    match trouble {
        Trouble::Fails(fault) => disk.fail_at(disk.changes() + call, fault),
        Trouble::LosesPower => disk.cut_power_at(disk.changes() + call),
    }
    // A broker that does not even start has promised nothing.
    if let Ok(world) = World::open(&disk) {
        world.run(async |channel| work(channel, &mut journal).await).crash();
    }
    disk.restore_power(loss, call);
    World::open(&disk).unwrap().run(async |channel| check_kept(channel, &journal).await).crash();
    journal.refused
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Fails(Fault),
    /// And every call after it fails, too.
    LosesPower,
}

/// How many calls a start and the work make that could fail.
fn calls() -> u64 {
    let disk = used_once();
    let before = disk.changes();
    let mut journal = Journal::default();
    World::open(&disk).unwrap().run(async |channel| work(channel, &mut journal).await).crash();
    assert!(!journal.refused);
    disk.changes() - before
}

#[test]
fn whatever_call_of_the_disk_fails_clients_were_told_the_truth() {
    let calls = calls();
    assert!(calls > 30, "only {calls} calls: is this the right disk?");
    let mut refused = 0;
    for call in 0..calls {
        let loss = if call % 2 == 0 { PowerLoss::KeepsAll } else { PowerLoss::LosesAll };
        refused += u32::from(in_trouble_at(call, Trouble::Fails(Fault::Io), loss));
    }
    assert!(refused > 10, "only {refused} faults led to a refusal");
}

#[test]
fn a_call_that_finds_no_room_loses_nothing() {
    for call in 0..calls() {
        in_trouble_at(call, Trouble::Fails(Fault::Full), PowerLoss::Tears);
    }
}

#[test]
fn a_call_that_finds_no_file_to_open_loses_nothing() {
    for call in 0..calls() {
        in_trouble_at(call, Trouble::Fails(Fault::OutOfFiles), PowerLoss::LosesAll);
    }
}

#[test]
fn whenever_the_power_goes_clients_were_told_the_truth() {
    for call in 0..calls() {
        in_trouble_at(call, Trouble::LosesPower, PowerLoss::Tears);
    }
}

/// Opens after a crash on a disk that fails at each call by which the recovery changes it, and then on one that works.
#[test]
fn a_recovery_that_fails_changes_nothing() {
    let mut call = 0;
    let crashed = used_once();
    let mut journal = Journal::default();
    World::open(&crashed).unwrap().run(async |channel| work(channel, &mut journal).await).crash();
    crashed.restore_power(PowerLoss::KeepsAll, 0);
    loop {
        let disk = crashed.copy();
        let before = disk.changes();
        disk.fail_at(before + call, Fault::Io);
        if let Ok(world) = World::open(&disk) {
            world.crash();
        }
        let done = disk.changes() <= before + call;
        disk.restore_power(PowerLoss::LosesAll, 0);
        World::open(&disk).unwrap().run(async |channel| check_kept(channel, &journal).await).crash();
        if done {
            break;
        }
        call += 1;
    }
    assert!(call > 5, "only {call} calls: is this the right disk?");
}

/// A number for all that a broker shows of what survives a crash.
async fn digest(channel: &Channel) -> u64 {
    let mut shown = Vec::new();
    for queue in channel.list_queues().await.unwrap().into_iter().filter(|queue| queue.durable) {
        let messages = queue.messages_ready + queue.messages_unacknowledged;
        shown.push(format!("{} {messages} {} {:?}", queue.name, queue.message_bytes, queue.arguments));
        let mut got = Vec::new();
        while let Some(message) = channel.get(&queue.name, Get::default()).await.unwrap() {
            shown.push(format!("{:?} {}", message.delivery.body(), message.delivery.delivery_count()));
            got.push(message);
        }
    }
    shown.extend(channel.list_subscriptions().await.unwrap().iter().map(|entry| {
        format!("{} {:?} {:?} {:?}", entry.name, entry.queue, entry.bindings, entry.annotations)
    }));
    shown.extend(channel.list_exchanges().await.unwrap().into_iter().map(|mut exchange| {
        // Of this run of the broker.
        exchange.published_total = 0;
        format!("{exchange:?}")
    }));
    shown.extend(channel.list_bindings().await.unwrap().iter().map(|binding| format!("{binding:?}")));
    let mut hasher = DefaultHasher::new();
    shown.hash(&mut hasher);
    hasher.finish()
}

/// What the broker on this disk shows; then it loses power.
fn digest_of(disk: &MemoryDisk) -> u64 {
    let mut shown = 0;
    World::open(disk).unwrap().run(async |channel| shown = digest(channel).await).crash();
    shown
}

#[test]
fn a_broker_after_a_crash_is_the_one_before() {
    let disk = used_once();
    let mut journal = Journal::default();
    let mut before = 0;
    let world = World::open(&disk).unwrap();
    world
        .run(async |channel| {
            work(channel, &mut journal).await;
            before = digest(channel).await;
        })
        .crash();
    assert!(!journal.refused);
    disk.restore_power(PowerLoss::LosesAll, 0);
    assert_eq!(digest_of(&disk), before, "everything had been confirmed");
}

#[test]
fn whenever_the_power_went_each_start_makes_the_same_broker() {
    for call in 0..calls() {
        let disk = used_once();
        disk.cut_power_at(disk.changes() + call);
        if let Ok(world) = World::open(&disk) {
            world.run(async |channel| work(channel, &mut Journal::default()).await).crash();
        }
        disk.restore_power(PowerLoss::Tears, call);
        let first = digest_of(&disk);
        disk.restore_power(PowerLoss::LosesAll, call);
        assert_eq!(digest_of(&disk), first, "after call {call}");
    }
}

/// A binding that was refused may be on the disk all the same, so nobody can say that it is gone.
#[test]
fn what_was_refused_is_not_said_to_be_gone() {
    let mut refused = 0;
    for call in 0..calls() {
        let disk = used_once();
        disk.fail_at(disk.changes() + call, Fault::Io);
        let Ok(world) = World::open(&disk) else { continue };
        world
            .run(async |channel| {
                let binding = || Binding::to_queue("amq.topic", "first", "all.#");
                let declared = channel.declare_queue(Queue::new("first")).await;
                if declared.is_ok() && channel.bind(binding()).await.is_err() {
                    refused += 1;
                    assert!(channel.unbind(binding()).await.is_err(), "call {call}");
                }
            })
            .crash();
    }
    assert!(refused > 0, "no call refused a binding");
}
