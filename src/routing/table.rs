//! The routing state of one virtual host.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use foldhash::fast::FixedState;

use crate::model::{ExchangeName, FieldTable, QueueName, VhostName};

use super::kind::Index;
use super::sorted::SortedMap;
use super::target::Target;
use super::{
    AllowedKeys, Binding, BindingPosition, Destination, ExchangeDefinition, ExchangeKind, History,
    Quarantine, QueueTarget, Schemas,
};

/// Exchanges that every virtual host has, beside the default exchange.
const PREDECLARED: [(&str, ExchangeKind); 5] = [
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
    ("amq.topic", ExchangeKind::Topic),
];

/// Exchanges with their bindings, and the queues they lead to, of one virtual host.
///
/// A value: clones are cheap (O(1)) and share structure, a later change to one does not show in the other. So the
/// owner changes its copy and publishes a clone, and readers route on it without locks. A change costs O(log n).
///
/// Changes are deterministic and cannot fail: the owner asks the `check_*` functions first. While there is no clone
/// they copy less, so an owner that makes many at once, as in recovery, publishes after the last of them.
#[derive(Debug, Clone)]
pub struct RoutingTable {
    vhost: VhostName,
    exchanges: SortedMap<ExchangeName, Arc<ExchangeEntry>>,
    queues: SortedMap<QueueKey, QueueTarget>,
    by_source: SortedMap<BySource, ()>,
    by_destination: SortedMap<ByDestination, ()>,
}

/// An exchange in the table.
#[derive(Debug, Clone)]
pub struct ExchangeEntry {
    definition: Arc<ExchangeDefinition>,
    alternate: Option<ExchangeName>,
    /// Of a policy: where messages go that match no binding, unless the declaration says it.
    alternate_of_policy: Option<ExchangeName>,
    allowed: Option<Arc<AllowedKeys>>,
    schemas: Option<Arc<Schemas>>,
    quarantine: Option<Arc<Quarantine>>,
    bindings: usize,
    /// Whoever publishes counts; it is the same one as long as the exchange is.
    published: Arc<AtomicU64>,
    pub(super) index: Index,
}

impl ExchangeEntry {
    fn new(definition: ExchangeDefinition) -> Self {
        Self {
            alternate: definition.alternate_exchange(),
            alternate_of_policy: None,
            // A list that makes no sense is refused by check_declare.
            allowed: AllowedKeys::of(&definition.arguments).ok().flatten().map(Arc::new),
            schemas: Schemas::of(&definition.arguments)
                .unwrap_or_else(|fault| Some(Schemas::unreadable(fault)))
                .map(Arc::new),
            quarantine: definition.quarantine_queue().map(|queue| Arc::new(Quarantine::new(queue))),
            bindings: 0,
            published: Arc::default(),
            index: Index::new(&definition),
            definition: Arc::new(definition),
        }
    }

    /// As it was declared.
    pub fn definition(&self) -> &Arc<ExchangeDefinition> {
        &self.definition
    }

    /// Where a message goes that matches none of its bindings.
    pub fn alternate_exchange(&self) -> Option<&ExchangeName> {
        self.alternate.as_ref().or(self.alternate_of_policy.as_ref())
    }

    /// The keys that clients may publish to it; `None`: all.
    pub fn allowed_keys(&self) -> Option<&Arc<AllowedKeys>> {
        self.allowed.as_ref()
    }

    /// What the messages that clients publish to it have to fit; `None`: anything.
    pub fn schemas(&self) -> Option<&Arc<Schemas>> {
        self.schemas.as_ref()
    }

    /// What keeps a copy of what its list and its schemas refuse.
    pub fn quarantine(&self) -> Option<&Arc<Quarantine>> {
        self.quarantine.as_ref()
    }

    /// What it keeps for what is bound to it later, if it does.
    pub fn history(&self) -> Option<&Arc<History>> {
        self.index.history()
    }

    /// Messages that were published to it and taken, for whoever takes them to count.
    pub fn published(&self) -> &Arc<AtomicU64> {
        &self.published
    }

    /// Number of bindings with this exchange as their source.
    pub fn bindings_count(&self) -> usize {
        self.bindings
    }
}

/// What became of a binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The binding is new.
    Added,
    /// An equal one was there; nothing changed.
    AlreadyThere,
    /// There is no such source exchange, or it is the default exchange; nothing changed.
    NoSource,
    /// There is no such destination, or it is the default exchange; nothing changed.
    NoDestination,
}

/// What a removal took with it.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// The bindings that are gone, in order.
    pub bindings: Vec<Arc<Binding>>,
    /// Auto-delete exchanges that lost their last binding as a source, in order of name. They are still there:
    /// the caller removes them, which may name further ones.
    pub unused_exchanges: Vec<ExchangeName>,
}

impl RoutingTable {
    /// A table with the default exchange and the predeclared ones: amq.direct, amq.fanout, amq.headers, amq.match
    /// and amq.topic.
    pub fn new(vhost: VhostName) -> Self {
        let mut table = Self {
            vhost,
            exchanges: SortedMap::default(),
            queues: SortedMap::default(),
            by_source: SortedMap::default(),
            by_destination: SortedMap::default(),
        };
        for (name, kind) in [("", ExchangeKind::Direct)].into_iter().chain(PREDECLARED) {
            table.insert_exchange(ExchangeDefinition {
                name: ExchangeName::new(name).expect("these names are short"),
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: FieldTable::default(),
            });
        }
        table
    }

    /// The virtual host it belongs to.
    pub fn vhost(&self) -> &VhostName {
        &self.vhost
    }

    /// Adds an exchange. False, and nothing changed, if there is one of that name.
    pub fn insert_exchange(&mut self, definition: ExchangeDefinition) -> bool {
        if self.exchange(&definition.name).is_some() {
            return false;
        }
        self.exchanges.insert(definition.name.clone(), Arc::new(ExchangeEntry::new(definition)));
        true
    }

    /// Replaces what is known of an exchange besides its bindings; its kind stays. False, and nothing changed, if there is none.
    pub fn alter_exchange(&mut self, definition: ExchangeDefinition) -> bool {
        let name = definition.name.clone();
        if self.exchange(&name).is_none_or(|entry| entry.definition.kind != definition.kind) {
            return false;
        }
        let Some((_, entry)) = self.exchanges.find_mut(|stored| (**stored).cmp(&*name)) else { return false };
        let entry = Arc::make_mut(entry);
        let ExchangeEntry { alternate, allowed, schemas, quarantine, definition, .. } =
            ExchangeEntry::new(definition);
        *entry = ExchangeEntry { alternate, allowed, schemas, quarantine, definition, ..entry.clone() };
        true
    }

    /// Says where messages go that match no binding of an exchange whose declaration does not say it. False, and nothing changed, if it
    /// is so already, or if there is no such exchange.
    pub fn set_alternate_of_policy(&mut self, exchange: &str, alternate: Option<&ExchangeName>) -> bool {
        if self.exchange(exchange).is_none_or(|entry| entry.alternate_of_policy.as_ref() == alternate) {
            return false;
        }
        let Some((_, entry)) = self.exchanges.find_mut(|stored| (**stored).cmp(exchange)) else {
            return false;
        };
        Arc::make_mut(entry).alternate_of_policy = alternate.cloned();
        true
    }

    /// Removes an exchange and its bindings on both sides. `None` if there is none, or if it is the default exchange.
    pub fn remove_exchange(&mut self, name: &str) -> Option<Removed> {
        if name.is_empty() {
            return None;
        }
        let (name, _) = self.exchanges.remove(|stored| (**stored).cmp(name))?;
        let mut bindings: Vec<_> = self.bindings_from(&name).cloned().collect();
        for binding in &bindings {
            self.forget(binding);
        }
        let incoming: Vec<_> = self.bindings_to(&Destination::Exchange(name.clone())).cloned().collect();
        let Removed { bindings: incoming, unused_exchanges } =
            self.unbind_all(incoming, &Target::Exchange(name));
        bindings.extend(incoming);
        bindings.sort_unstable_by(|left, right| left.compare(right));
        Some(Removed { bindings, unused_exchanges })
    }

    /// Adds a queue, or moves it to another target; its bindings then lead there.
    pub fn insert_queue(&mut self, name: QueueName, target: QueueTarget) {
        let key = QueueKey { hash: hash(&name), name: name.clone() };
        let Some(former) = self.queues.insert(key, target).filter(|former| *former != target) else { return };
        let bindings: Vec<_> = self.bindings_to(&Destination::Queue(name)).cloned().collect();
        for binding in bindings {
            let source = self.source_mut(&binding.source);
            source.index.remove(&binding, &Target::Queue(former));
            source.index.insert(&binding, Target::Queue(target));
        }
    }

    /// Removes a queue and its bindings. `None` if there is none.
    pub fn remove_queue(&mut self, name: &str) -> Option<Removed> {
        let (key, target) = self.queues.remove(QueueKey::place(name))?;
        let bindings: Vec<_> = self.bindings_to(&Destination::Queue(key.name)).cloned().collect();
        Some(self.unbind_all(bindings, &Target::Queue(target)))
    }

    /// Adds a binding.
    pub fn bind(&mut self, binding: Binding) -> Bound {
        let Some(source) = self.exchange(&binding.source).filter(|_| !binding.source.is_empty()) else {
            return Bound::NoSource;
        };
        let Some((destination, target)) = self.destination(&binding.destination) else {
            return Bound::NoDestination;
        };
        // All bindings of an exchange share one copy of its name; so less memory is touched to compare them.
        let source = source.definition.name.clone();
        let binding = Arc::new(Binding { source, destination, ..binding });
        // An equal binding stays; the insertion then changes nothing.
        if self.by_source.insert(BySource(Arc::clone(&binding)), ()).is_some() {
            return Bound::AlreadyThere;
        }
        self.by_destination.insert(ByDestination(Arc::clone(&binding)), ());
        let source = self.source_mut(&binding.source);
        source.bindings += 1;
        source.index.insert(&binding, target);
        Bound::Added
    }

    /// Removes a binding. `None` if there is none.
    pub fn unbind(&mut self, binding: &Binding) -> Option<Removed> {
        let stored = self.bindings_from_place(|stored| stored.compare(binding)).next()?;
        let stored = Some(Arc::clone(stored)).filter(|stored| stored.compare(binding).is_eq())?;
        let (_, target) = self.destination(&stored.destination)?;
        Some(self.unbind_all(vec![stored], &target))
    }

    /// Removes bindings that lead to this target.
    fn unbind_all(&mut self, bindings: Vec<Arc<Binding>>, target: &Target) -> Removed {
        let mut unused_exchanges = Vec::new();
        for binding in &bindings {
            self.forget(binding);
            let source = self.source_mut(&binding.source);
            source.bindings -= 1;
            source.index.remove(binding, target);
            if source.bindings == 0 && source.definition.auto_delete {
                unused_exchanges.push(binding.source.clone());
            }
        }
        unused_exchanges.sort_unstable();
        Removed { bindings, unused_exchanges }
    }

    fn forget(&mut self, binding: &Binding) {
        self.by_source.remove(|stored| stored.0.compare(binding));
        self.by_destination.remove(|stored| stored.0.compare_by_destination(binding));
    }

    fn source_mut(&mut self, name: &str) -> &mut ExchangeEntry {
        let entry = self.exchanges.find_mut(|stored| (**stored).cmp(name));
        let (_, entry) = entry.expect("a binding's source exists as long as the binding");
        Arc::make_mut(entry)
    }

    /// A destination under the table's own copy of its name, and where it is.
    fn destination(&self, destination: &Destination) -> Option<(Destination, Target)> {
        match destination {
            Destination::Queue(name) => {
                let (key, target) = self.queues.find(QueueKey::place(name))?;
                Some((Destination::Queue(key.name.clone()), Target::Queue(*target)))
            }
            Destination::Exchange(name) => {
                let name = &self.exchange(name).filter(|_| !name.is_empty())?.definition.name;
                Some((Destination::Exchange(name.clone()), Target::Exchange(name.clone())))
            }
        }
    }

    /// An exchange.
    pub fn exchange(&self, name: &str) -> Option<&ExchangeEntry> {
        self.exchanges.find(|stored| (**stored).cmp(name)).map(|(_, entry)| &**entry)
    }

    /// Exchanges in order of name, from the first one after `after`; the default exchange comes first.
    pub fn exchanges(&self, after: Option<&str>) -> impl Iterator<Item = &ExchangeEntry> {
        let place = |stored: &ExchangeName| match after {
            Some(after) if **stored <= *after => Ordering::Less,
            _ => Ordering::Greater,
        };
        self.exchanges.iter_from(place).map(|(_, entry)| &**entry)
    }

    /// Number of exchanges, the default exchange and the predeclared ones included.
    pub fn exchanges_count(&self) -> usize {
        self.exchanges.len()
    }

    /// Where a queue lives.
    pub fn queue(&self, name: &str) -> Option<QueueTarget> {
        self.queues.find(QueueKey::place(name)).map(|(_, target)| *target)
    }

    /// Number of queues.
    pub fn queues_count(&self) -> usize {
        self.queues.len()
    }

    /// Bindings in order of their positions, from the first one after `after`. The default exchange has none: that
    /// it leads to each queue under the queue's name is not written down.
    pub fn bindings(&self, after: Option<&BindingPosition>) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings_from_place(move |stored| match after {
            Some(after) if after.place(stored).is_le() => Ordering::Less,
            _ => Ordering::Greater,
        })
    }

    /// Bindings with this exchange as their source, in order.
    pub fn bindings_from(&self, source: &str) -> impl Iterator<Item = &Arc<Binding>> {
        self.bindings_from_place(|stored| (*stored.source).cmp(source))
            .take_while(move |binding| *binding.source == *source)
    }

    fn bindings_from_place(
        &self,
        place: impl Fn(&Binding) -> Ordering,
    ) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_source.iter_from(move |stored| place(&stored.0)).map(|(stored, ())| &stored.0)
    }

    /// Bindings that lead to this queue or exchange, in order of their sources.
    pub fn bindings_to(&self, destination: &Destination) -> impl Iterator<Item = &Arc<Binding>> {
        self.by_destination
            .iter_from(|stored| stored.0.destination.cmp(destination))
            .map(|(stored, ())| &stored.0)
            .take_while(move |binding| binding.destination == *destination)
    }

    /// Whether this very binding is there.
    pub fn has_binding(&self, binding: &Binding) -> bool {
        self.by_source.find(|stored| stored.0.compare(binding)).is_some()
    }

    /// Number of bindings.
    pub fn bindings_count(&self) -> usize {
        self.by_source.len()
    }
}

/// A queue's name, ordered by its hash first: numbers compare faster than names with common beginnings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct QueueKey {
    hash: u64,
    name: QueueName,
}

impl QueueKey {
    fn place(name: &str) -> impl Fn(&Self) -> Ordering {
        let hash = hash(name);
        move |stored| stored.hash.cmp(&hash).then_with(|| (*stored.name).cmp(name))
    }
}

fn hash(name: &str) -> u64 {
    FixedState::with_seed(0).hash_one(name)
}

/// Defines a binding under one of its orders.
macro_rules! ordered_binding {
    ($name:ident, $compare:ident) => {
        #[derive(Debug, Clone)]
        pub(super) struct $name(pub(super) Arc<Binding>);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.$compare(&other.0)
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $name {}
    };
}

ordered_binding!(BySource, compare);
ordered_binding!(ByDestination, compare_by_destination);
