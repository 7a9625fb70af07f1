//! Which subscriptions may be, and what a change of one does to its queues and their bindings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::{Catalog, VhostState};
use super::decide_queues::Surroundings;
use super::decide_routes::with_unused;
use super::entry::Entry;
use super::request::SubscriptionDeclaration;
use crate::broker::presence::PresenceChange;
use crate::broker::subscription::{SEPARATOR, Sharing, Subscription, SubscriptionBinding, queue_name};
use crate::broker::vhost::QueueDefinition;
use crate::model::{Entity, FieldTable, QueueId, QueueName, Refusal, ReplyCode, SubscriptionName, VhostName};
use crate::routing::{Removed, RoutingTable, check_binding, no_such_exchange};

/// Bytes of a subscription's name, and of a member's: both fit into the name of a queue.
const NAME_BYTES_MAX: usize = 120;
/// Bindings of a subscription.
const BINDINGS_MAX: usize = 1_000;
/// Members of a subscription.
const MEMBERS_MAX: usize = 10_000;
/// Bindings of all its queues together.
const BOUND_MAX: usize = 100_000;
/// Annotations of a subscription.
const ANNOTATIONS_MAX: usize = 64;

impl Catalog {
    /// Of queues that are there still.
    pub(super) fn decide_note_presence(&self, change: &PresenceChange) -> Vec<Entry> {
        let there = self.subscribed_queues();
        let mut change = change.clone();
        change.dark.retain(|queue, _| there.contains(queue));
        change.back.retain(|queue| self.dark.contains_key(queue));
        if change.is_empty() { Vec::new() } else { vec![Entry::Presence(change)] }
    }

    /// A subscription is to be made or changed, unless the one there is equal; the name of the queue to consume from comes with
    /// the entries, and is empty if nobody joins.
    pub(super) fn decide_subscribe(
        &self,
        surroundings: &Surroundings,
        vhost: &VhostName,
        wanted: &SubscriptionDeclaration,
    ) -> Result<(Vec<Entry>, QueueName), Refusal> {
        let state = self.vhost(vhost)?;
        check_name("name", &wanted.name, 1, &wanted.name)?;
        check_name("member", &wanted.member, 0, &wanted.name)?;
        let current = state.subscriptions.get(&wanted.name);
        let mut next = match current {
            Some(current) => Subscription::clone(current),
            None => new_subscription(wanted, vhost)?,
        };
        check_sharing(&next, wanted)?;
        if current.is_none() || !wanted.keep {
            change(&mut next, wanted)?;
            if current.is_none_or(|current| current.bindings != next.bindings) {
                state.check_bindings(&next, vhost)?;
            }
        }
        let mut queue = QueueName::default();
        let mut joined = BTreeMap::new();
        if next.sharing == Sharing::Shared || !wanted.member.is_empty() {
            let member = &wanted.member;
            queue = QueueName::new(&queue_name(&next.name, member)).expect("both names are short");
            if !next.members.contains_key(member) {
                state.check_room(&queue, vhost)?;
                let definition = self.queue_of(surroundings, state, &next, queue.clone())?;
                joined.insert(member.clone(), Arc::new(definition));
            }
        }
        let bound = next.bindings.len() * (next.members.len() + joined.len());
        let changed = next.members.iter().filter(|(_, queue)| queue.arguments != next.queue_arguments);
        joined.extend(changed.map(|(member, queue)| {
            let arguments = next.queue_arguments.clone();
            (member.clone(), Arc::new(QueueDefinition { arguments, ..QueueDefinition::clone(queue) }))
        }));
        if bound > BOUND_MAX {
            return Err(too_many("bindings of its queues together", BOUND_MAX, bound, &next.name));
        }
        let is_as_it_was = current.is_some_and(|current| **current == next);
        if is_as_it_was && joined.is_empty() {
            return Ok((Vec::new(), queue));
        }
        let gone = current.map(|current| current.bindings_beyond(&next)).unwrap_or_default();
        let members = std::mem::replace(&mut next.members, joined);
        let next = Arc::new(next);
        let entry = Entry::PutSubscription(vhost.clone(), Arc::clone(&next));
        let entries = with_unused(vhost, &state.table, entry, |table| {
            let queues: Vec<&QueueName> = members.values().map(|queue| &queue.name).collect();
            if gone.is_empty() {
                return None;
            }
            // First what is new: an exchange that goes with its last binding stays if only the pattern changes.
            for queue in &queues {
                for binding in &next.bindings {
                    table.bind(binding.to_queue(queue));
                }
            }
            Some(unbind(table, &queues, &gone))
        });
        Ok((entries, queue))
    }

    /// The queue of a member that joins.
    fn queue_of(
        &self,
        surroundings: &Surroundings,
        state: &VhostState,
        subscription: &Subscription,
        name: QueueName,
    ) -> Result<QueueDefinition, Refusal> {
        let of = |refusal: Refusal| refusal.about(Entity::Subscription, subscription.name.as_str());
        if state.queues.contains_key(&name) {
            let text = format!(
                "subscription '{}' needs a queue '{name}', and there is one that is not its own",
                subscription.name
            );
            return Err(of(Refusal::new(ReplyCode::PreconditionFailed, text))
                .hint("delete that queue first, or choose another name"));
        }
        if subscription.members.len() >= MEMBERS_MAX {
            let text = format!("subscription '{}' has as many members as it may", subscription.name);
            return Err(of(Refusal::new(ReplyCode::PreconditionFailed, text))
                .field("member", format!("{MEMBERS_MAX} members at most"), "one more")
                .hint("take members away that do not come back, or let them expire"));
        }
        Ok(QueueDefinition {
            id: QueueId(self.next_queue + 1),
            name,
            durable: true,
            owner: None,
            auto_delete: false,
            arguments: subscription.queue_arguments.clone(),
            shard: self.place(true, surroundings)?,
            subscription: Some(subscription.name.clone()),
            governed: None,
        })
    }

    /// A subscription is to go, or one member of it (not ""); which queues go with it.
    pub(super) fn decide_unsubscribe(
        &self,
        vhost: &VhostName,
        name: &str,
        member: &str,
    ) -> Result<(Vec<Entry>, Vec<QueueId>), Refusal> {
        let state = self.vhost(vhost)?;
        let Some(subscription) = state.subscriptions.get(name) else { return Ok(Default::default()) };
        let (entry, queues): (Entry, Vec<&Arc<QueueDefinition>>) = match member {
            "" => (
                Entry::DeleteSubscription(vhost.clone(), subscription.name.clone()),
                subscription.members.values().collect(),
            ),
            member => match subscription.members.get_key_value(member) {
                Some((member, queue)) => {
                    let (vhost, subscription) = (vhost.clone(), subscription.name.clone());
                    (Entry::DeleteMember { vhost, subscription, member: member.clone() }, vec![queue])
                }
                None => return Ok(Default::default()),
            },
        };
        let names: Vec<&QueueName> = queues.iter().map(|queue| &queue.name).collect();
        let entries = with_unused(vhost, &state.table, entry, |table| {
            Some(together(names.into_iter().filter_map(|name| table.remove_queue(name))))
        });
        Ok((entries, queues.into_iter().map(|queue| queue.id).collect()))
    }

    /// A queue of a subscription goes because nobody came for it, and with the last one the subscription.
    pub(super) fn decide_expire(
        &self,
        vhost: &VhostName,
        subscription: &SubscriptionName,
        queue: QueueId,
    ) -> Vec<Entry> {
        let state = self.vhosts.get(vhost);
        let Some(subscription) = state.and_then(|state| state.subscriptions.get(subscription)) else {
            return Vec::new();
        };
        let Some((member, _)) = subscription.members.iter().find(|(_, own)| own.id == queue) else {
            return Vec::new();
        };
        let is_last = subscription.members.len() == 1;
        let member = if is_last { "" } else { member.as_str() };
        let decided = self.decide_unsubscribe(vhost, &subscription.name, member);
        decided.map(|(entries, _)| entries).unwrap_or_default()
    }
}

fn new_subscription(wanted: &SubscriptionDeclaration, vhost: &VhostName) -> Result<Subscription, Refusal> {
    if wanted.bindings.is_empty() {
        let text = format!("no subscription '{}' in vhost '{vhost}'", wanted.name);
        return Err(Refusal::new(ReplyCode::NotFound, text)
            .about(Entity::Subscription, wanted.name.as_str())
            .hint("say what it is to listen to, and it is made"));
    }
    Ok(Subscription {
        name: wanted.name.clone(),
        sharing: wanted.sharing.unwrap_or(Sharing::Shared),
        bindings: Vec::new(),
        expires_after_ms: 0,
        annotations: BTreeMap::new(),
        queue_arguments: FieldTable::default(),
        members: BTreeMap::new(),
    })
}

/// What was asked for, where it was.
fn change(next: &mut Subscription, wanted: &SubscriptionDeclaration) -> Result<(), Refusal> {
    if !wanted.bindings.is_empty() {
        let mut bindings = wanted.bindings.clone();
        bindings.sort_by(SubscriptionBinding::compare);
        bindings.dedup();
        if bindings.len() > BINDINGS_MAX {
            return Err(too_many("bindings", BINDINGS_MAX, bindings.len(), &next.name));
        }
        next.bindings = bindings;
    }
    next.expires_after_ms = wanted.expires_after_ms.unwrap_or(next.expires_after_ms);
    if let Some(arguments) = &wanted.queue_arguments {
        next.queue_arguments = arguments.clone();
    }
    for (key, value) in &wanted.annotations {
        match value.as_str() {
            "" => drop(next.annotations.remove(key)),
            value => drop(next.annotations.insert(key.clone(), value.to_owned())),
        }
    }
    if next.annotations.len() > ANNOTATIONS_MAX {
        return Err(too_many("annotations", ANNOTATIONS_MAX, next.annotations.len(), &next.name));
    }
    Ok(())
}

impl VhostState {
    /// Whether its queues can be bound as it says, and stay so.
    fn check_bindings(&self, subscription: &Subscription, vhost: &VhostName) -> Result<(), Refusal> {
        let nowhere = QueueName::default();
        for binding in &subscription.bindings {
            let name = &binding.exchange;
            let exchange = self.table.exchange(name).ok_or_else(|| no_such_exchange(name, vhost))?;
            check_binding(&binding.to_queue(&nowhere), exchange.definition().kind)?;
            if !exchange.definition().durable {
                let text = format!(
                    "subscription '{}' outlives a restart, and exchange '{name}' in vhost '{vhost}' does not",
                    subscription.name
                );
                return Err(Refusal::new(ReplyCode::PreconditionFailed, text)
                    .about(Entity::Exchange, name.as_str())
                    .field("durable", "true", "false")
                    .hint("subscribe to a durable exchange, or bind a queue of your own to this one"));
            }
        }
        Ok(())
    }
}

fn check_sharing(current: &Subscription, wanted: &SubscriptionDeclaration) -> Result<(), Refusal> {
    let refuse = |text: String| {
        Refusal::new(ReplyCode::PreconditionFailed, text).about(Entity::Subscription, current.name.as_str())
    };
    if let Some(sharing) = wanted.sharing.filter(|sharing| *sharing != current.sharing) {
        let text = format!("how subscription '{}' is shared cannot be changed", current.name);
        return Err(refuse(text)
            .field("sharing", current.sharing.as_str(), sharing.as_str())
            .hint("unsubscribe it first, or choose another name"));
    }
    if current.sharing == Sharing::Shared && !wanted.member.is_empty() {
        let text = format!("all who take part in subscription '{}' share one queue", current.name);
        return Err(refuse(text).field("member", "none", wanted.member.as_str()).hint(
            "leave the member's name away, or choose another subscription, of which each has a queue",
        ));
    }
    Ok(())
}

fn check_name(field: &str, name: &str, bytes_min: usize, of: &SubscriptionName) -> Result<(), Refusal> {
    let is_right = (bytes_min..=NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|letter| letter == SEPARATOR || letter.is_control());
    if is_right {
        return Ok(());
    }
    let what = if field == "name" { "a subscription" } else { "a member of a subscription" };
    Err(Refusal::new(ReplyCode::SyntaxError, format!("{what} cannot be called '{}'", name.escape_debug()))
        .about(Entity::Subscription, of.as_str())
        .field(
            field,
            format!("{bytes_min} to {NAME_BYTES_MAX} bytes without '{SEPARATOR}' and control characters"),
            format!("{} bytes", name.len()),
        ))
}

fn too_many(field: &str, max: usize, got: usize, name: &SubscriptionName) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, format!("subscription '{name}' has too many {field}"))
        .about(Entity::Subscription, name.as_str())
        .field(field, format!("{max} at most"), got.to_string())
}

fn unbind(table: &mut RoutingTable, queues: &[&QueueName], gone: &[&SubscriptionBinding]) -> Removed {
    let pairs = queues.iter().flat_map(|queue| gone.iter().map(move |binding| binding.to_queue(queue)));
    together(pairs.filter_map(|binding| table.unbind(&binding)))
}

fn together(removed: impl Iterator<Item = Removed>) -> Removed {
    removed.fold(Removed::default(), |mut all, one| {
        all.bindings.extend(one.bindings);
        all.unused_exchanges.extend(one.unused_exchanges);
        all
    })
}

/// Refuses what only the subscription of a queue may do to it.
pub(super) fn check_own_queue(queue: &QueueDefinition, what: &str) -> Result<(), Refusal> {
    let Some(subscription) = &queue.subscription else { return Ok(()) };
    let text = format!("queue '{}' belongs to subscription '{subscription}', which {what}", queue.name);
    Err(Refusal::new(ReplyCode::PreconditionFailed, text)
        .about(Entity::Queue, queue.name.as_str())
        .hint("change the subscription, or unsubscribe it"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::catalog::Changed;
    use super::*;
    use crate::auth::Access;
    use crate::model::{ExchangeName, FieldValue, MemberName, RETAIN_MESSAGES, RoutingKey};
    use crate::routing::{Binding, Destination, ExchangeDefinition, ExchangeKind};
    use crate::storage::Machine;

    /// A catalog, and one that is made anew from what goes into the log.
    struct World {
        vhost: VhostName,
        live: Catalog,
        replayed: Catalog,
    }

    impl World {
        fn new() -> Self {
            let vhost = VhostName::new("shop").unwrap();
            let mut world = Self { vhost, live: Catalog::default(), replayed: Catalog::default() };
            world.record(vec![Entry::Shards(2), Entry::PutVhost(world.vhost.clone())]);
            world
        }

        fn record(&mut self, entries: Vec<Entry>) {
            for entry in entries {
                self.live.apply(&entry, &mut Changed::default());
                let again = Entry::of(entry.record().unwrap()).unwrap();
                assert_eq!(again, entry, "the log gives back what it was given");
                self.replayed.apply(&again, &mut Changed::default());
            }
            self.check();
        }

        /// The queues are bound as the subscriptions say, and a restart changes nothing, be it with a checkpoint or without.
        fn check(&self) {
            let state = &self.live.vhosts[&self.vhost];
            let mut owned = 0;
            for subscription in state.subscriptions.values() {
                for queue in subscription.members.values() {
                    owned += 1;
                    assert_eq!(state.queues[&queue.name], *queue);
                    let to_queue = Destination::Queue(queue.name.clone());
                    let is = state.table.bindings_to(&to_queue);
                    let mut is: Vec<Binding> = is.map(|binding| Binding::clone(binding)).collect();
                    let ought = subscription.bindings.iter().map(|binding| binding.to_queue(&queue.name));
                    let mut ought: Vec<Binding> = ought.collect();
                    for bindings in [&mut is, &mut ought] {
                        bindings.sort_by_key(|binding| (binding.source.to_string(), binding.key.to_string()));
                    }
                    assert_eq!(is, ought, "{}", queue.name);
                }
            }
            assert_eq!(state.queues.values().filter(|queue| queue.subscription.is_some()).count(), owned);
            assert_eq!(self.replayed.records(), self.live.records());
            let mut restored = Catalog::default();
            restored.restore(self.live.snapshot().concat().into()).unwrap();
            assert_eq!(restored.records(), self.live.records());
            let load =
                |catalog: &Catalog| catalog.load.values().copied().filter(|count| *count > 0).collect();
            let loads: [Vec<u64>; 2] = [load(&restored), load(&self.live)];
            assert_eq!(loads[0], loads[1]);
        }

        fn exchange(&mut self, name: &str, auto_delete: bool) {
            let definition = ExchangeDefinition {
                name: ExchangeName::new(name).unwrap(),
                kind: ExchangeKind::Topic,
                durable: true,
                auto_delete,
                internal: false,
                arguments: FieldTable::default(),
            };
            let entries =
                self.live.decide_declare_exchange(&self.vhost, &Access::unrestricted(), &definition).unwrap();
            self.record(entries);
        }

        /// How many entries it took.
        fn subscribe(&mut self, wanted: &SubscriptionDeclaration) -> usize {
            let decided = self.live.decide_subscribe(&Surroundings::default(), &self.vhost, wanted);
            let (entries, _) = decided.unwrap();
            let count = entries.len();
            self.record(entries);
            count
        }

        fn shape(&self) -> String {
            let state = &self.live.vhosts[&self.vhost];
            let queues: Vec<&str> = state.queues.keys().map(|name| &**name).collect();
            format!("{} {}", queues.join(" "), state.table.bindings_count())
        }
    }

    #[test]
    fn many_bindings_of_many_members_are_bounded() {
        let mut world = World::new();
        world.exchange("news", false);
        let keys: Vec<String> = (0..BINDINGS_MAX).map(|key| key.to_string()).collect();
        let bindings: Vec<(&str, &str)> = keys.iter().map(|key| ("news", key.as_str())).collect();
        let mut decide = |member: &str| {
            let wanted = wanted("app", member, &bindings);
            let decided = world.live.decide_subscribe(&Surroundings::default(), &world.vhost, &wanted);
            let (entries, _) = decided?;
            entries.iter().for_each(|entry| world.live.apply(entry, &mut Changed::default()));
            Ok::<_, Refusal>(())
        };
        for member in 0..BOUND_MAX / BINDINGS_MAX {
            decide(&member.to_string()).unwrap();
        }
        let refusal = decide("one more").unwrap_err();
        assert_eq!(refusal.expected, "100000 at most");
        assert_eq!(world.shape().split(' ').next_back(), Some("100000"));
    }

    fn wanted(name: &str, member: &str, bindings: &[(&str, &str)]) -> SubscriptionDeclaration {
        let binding = |(exchange, key): &(&str, &str)| SubscriptionBinding {
            exchange: ExchangeName::new(exchange).unwrap(),
            key: RoutingKey::new(key).unwrap(),
            arguments: FieldTable::default(),
        };
        SubscriptionDeclaration {
            name: SubscriptionName::new(name).unwrap(),
            sharing: (!member.is_empty()).then_some(Sharing::Each),
            member: MemberName::new(member).unwrap(),
            bindings: bindings.iter().map(binding).collect(),
            expires_after_ms: None,
            annotations: BTreeMap::new(),
            queue_arguments: None,
            keep: false,
        }
    }

    #[test]
    fn a_subscription_is_one_entry_and_a_restart_knows_all_of_it() {
        let mut world = World::new();
        world.exchange("news", false);
        world.exchange("fleeting", true);
        assert_eq!(
            world.subscribe(&wanted("app", "", &[("news", "a"), ("fleeting", "b"), ("news", "a")])),
            1
        );
        assert_eq!(world.shape(), "sub:app 2");
        assert_eq!(
            world.subscribe(&wanted("app", "", &[("fleeting", "b"), ("news", "a")])),
            0,
            "the same again"
        );
        assert_eq!(world.subscribe(&wanted("app", "", &[])), 0, "nothing is said, and nothing changed");
        let kept = SubscriptionDeclaration { keep: true, ..wanted("app", "", &[("news", "other")]) };
        assert_eq!(world.subscribe(&kept), 0);
        assert_eq!(
            world.subscribe(&wanted("app", "", &[("fleeting", "c"), ("news", "a")])),
            1,
            "it stays bound"
        );
        // The exchange that goes with its last binding is an entry beside.
        assert_eq!(world.subscribe(&wanted("app", "", &[("news", "a"), ("news", "d")])), 2);
        for member in ["1", "2", "2"] {
            world.subscribe(&wanted("tills", member, &[("news", "a"), ("news", "#")]));
        }
        assert_eq!(world.shape(), "sub:app sub:tills:1 sub:tills:2 6");
        let noted = SubscriptionDeclaration {
            expires_after_ms: Some(5),
            annotations: BTreeMap::from([("owner".to_owned(), "ann".to_owned())]),
            ..wanted("tills", "", &[("news", "z")])
        };
        assert_eq!(world.subscribe(&noted), 1, "of all members at once");
        let retain = FieldTable::from([(RETAIN_MESSAGES, FieldValue::Integer(5))]);
        let retaining =
            SubscriptionDeclaration { queue_arguments: Some(retain.clone()), ..wanted("tills", "3", &[]) };
        assert_eq!(world.subscribe(&retaining), 1, "of all members, and of one that joins");
        for catalog in [&world.live, &world.replayed] {
            let queues = &catalog.vhosts[&world.vhost].queues;
            for member in ["1", "2", "3"] {
                assert_eq!(queues[format!("sub:tills:{member}").as_str()].arguments, retain);
            }
        }
        assert_eq!(world.subscribe(&wanted("tills", "1", &[])), 0, "what is not said stays");
        let (entries, _) = world.live.decide_unsubscribe(&world.vhost, "tills", "3").unwrap();
        world.record(entries);
        assert_eq!(world.shape(), "sub:app sub:tills:1 sub:tills:2 4");

        let (entries, gone) = world.live.decide_unsubscribe(&world.vhost, "tills", "1").unwrap();
        assert_eq!((entries.len(), gone.len()), (1, 1));
        world.record(entries);
        let vhost = world.vhost.clone();
        let tills = SubscriptionName::new("tills").unwrap();
        let last = world.live.vhosts[&vhost].queues["sub:tills:2"].clone();
        let entries = world.live.decide_expire(&vhost, &tills, last.id);
        assert_eq!(entries, [Entry::DeleteSubscription(vhost.clone(), tills.clone())], "with its last queue");
        world.record(entries);
        assert_eq!(world.live.decide_expire(&vhost, &tills, last.id), [], "once is enough");
        assert_eq!(world.shape(), "sub:app 2");

        let entries = world.live.decide_delete_exchange(&vhost, "news", false).unwrap();
        world.record(entries);
        assert_eq!(world.shape(), "sub:app 0");
        world.exchange("news", false);
        assert_eq!(world.shape(), "sub:app 0", "a new exchange of the name is another one");
        let (entries, _) = world.live.decide_unsubscribe(&vhost, "app", "").unwrap();
        world.record(entries);
        assert_eq!(world.shape(), " 0");
    }
}
