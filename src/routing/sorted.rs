//! A sorted map whose clones share structure: a B+ tree of reference-counted nodes.
//!
//! A clone costs O(1). A change replaces the nodes from the root to one leaf and shares all others with the clones:
//! O(log n). Readers need no lock and allocate nothing.
//!
//! A node is one slice behind one pointer and exactly as long as its content. That keeps the way to an entry short:
//! on large maps nearly all the time of a lookup is waiting for memory, once for each pointer followed.
//!
//! Searches take a function that places a stored key relative to what is sought (`Less`: before it, `Equal`: it,
//! `Greater`: after it), so that a key can be sought by its parts without building one. It must agree with `Ord`.

use std::cmp::Ordering;
use std::fmt;
use std::iter;
use std::sync::Arc;

/// Most entries in a node.
const WIDTH: usize = 16;

pub(super) struct SortedMap<K, V> {
    root: Option<Node<K, V>>,
    len: usize,
}

/// Never empty, but for a moment within a removal.
enum Node<K, V> {
    Leaf(Arc<[(K, V)]>),
    /// Neighbours that fit into one node are merged whenever one of them shrinks.
    Inner(Arc<[Child<K, V>]>),
}

struct Child<K, V> {
    /// The first key below.
    least: K,
    node: Node<K, V>,
}

/// What an insertion did to a node.
enum Inserted<K, V> {
    Replaced(V),
    Added,
    /// Added, and the node's upper half became a node of its own.
    Split(Child<K, V>),
}

impl<K, V> SortedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry that `place` calls equal.
    pub(super) fn find(&self, place: impl Fn(&K) -> Ordering) -> Option<(&K, &V)> {
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let index = entries.binary_search_by(|(key, _)| place(key)).ok()?;
                    let (key, value) = &entries[index];
                    return Some((key, value));
                }
                Node::Inner(children) => node = &children[covering(children, &place)].node,
            }
        }
    }

    /// Visits the entries that `place` calls equal, in order; there may be many if it looks at a part of the key.
    pub(super) fn for_each_equal(&self, place: impl Fn(&K) -> Ordering, mut visit: impl FnMut(&K, &V)) {
        if let Some(root) = &self.root {
            root.for_each_equal(&place, &mut visit);
        }
    }

    /// Visits all entries in order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        if let Some(root) = &self.root {
            root.for_each(&mut visit);
        }
    }

    /// The entries in order, without those that `place` calls less. Allocates one small stack.
    pub(super) fn iter_from(&self, place: impl Fn(&K) -> Ordering) -> Iter<'_, K, V> {
        let mut iter = Iter { above: Vec::new(), leaf: [].iter() };
        let mut next = self.root.as_ref();
        while let Some(node) = next {
            next = match node {
                Node::Leaf(entries) => {
                    let first = entries.partition_point(|(key, _)| place(key) == Ordering::Less);
                    iter.leaf = entries[first..].iter();
                    None
                }
                Node::Inner(children) => {
                    let index = before(children, &place);
                    iter.above.push(children[index + 1..].iter());
                    Some(&children[index].node)
                }
            };
        }
        iter
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    /// The entry that `place` calls equal, with a value that can be changed in place.
    pub(super) fn find_mut(&mut self, place: impl Fn(&K) -> Ordering) -> Option<(&K, &mut V)> {
        // Looked up first, so that a miss copies no node.
        self.find(&place)?;
        let mut node = self.root.as_mut()?;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let index = entries.binary_search_by(|(key, _)| place(key)).ok()?;
                    let (key, value) = &mut Arc::make_mut(entries)[index];
                    return Some((key, value));
                }
                Node::Inner(children) => {
                    let index = covering(children, &place);
                    node = &mut Arc::make_mut(children)[index].node;
                }
            }
        }
    }

    /// Puts a value under a key; the value that was there is returned, and the key that was there stays.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(root) = &mut self.root else {
            self.root = Some(Node::Leaf(Arc::new([(key, value)])));
            self.len = 1;
            return None;
        };
        match root.insert(key, value) {
            Inserted::Replaced(old) => return Some(old),
            Inserted::Added => {}
            Inserted::Split(upper) => {
                let lower = Child { least: root.least().clone(), node: root.clone() };
                *root = Node::Inner(Arc::new([lower, upper]));
            }
        }
        self.len += 1;
        None
    }

    /// Takes out the entry that `place` calls equal.
    pub(super) fn remove(&mut self, place: impl Fn(&K) -> Ordering) -> Option<(K, V)> {
        self.find(&place)?;
        let root = self.root.as_mut()?;
        let removed = root.remove(&place)?;
        self.len -= 1;
        if self.len == 0 {
            self.root = None;
        } else if let Node::Inner(children) = root
            && let [only] = &children[..]
        {
            *root = only.node.clone();
        }
        Some(removed)
    }
}

/// The child under which a unique key must be: the last one that does not begin after it.
fn covering<K, V>(children: &[Child<K, V>], place: impl Fn(&K) -> Ordering) -> usize {
    children.partition_point(|child| place(&child.least) != Ordering::Greater).saturating_sub(1)
}

/// The first child that may hold keys that are not less: the last one that begins with a lesser key.
fn before<K, V>(children: &[Child<K, V>], place: impl Fn(&K) -> Ordering) -> usize {
    children.partition_point(|child| place(&child.least) == Ordering::Less).saturating_sub(1)
}

impl<K, V> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(children) => children.len(),
        }
    }

    fn least(&self) -> &K {
        match self {
            Self::Leaf(entries) => &entries[0].0,
            Self::Inner(children) => &children[0].least,
        }
    }

    fn for_each_equal(&self, place: &impl Fn(&K) -> Ordering, visit: &mut impl FnMut(&K, &V)) {
        match self {
            Self::Leaf(entries) => {
                let first = entries.partition_point(|(key, _)| place(key) == Ordering::Less);
                entries[first..]
                    .iter()
                    .take_while(|(key, _)| place(key) == Ordering::Equal)
                    .for_each(|(key, value)| visit(key, value));
            }
            Self::Inner(children) => {
                let first = before(children, place);
                children[first].node.for_each_equal(place, visit);
                children[first + 1..]
                    .iter()
                    .take_while(|child| place(&child.least) == Ordering::Equal)
                    .for_each(|child| child.node.for_each_equal(place, visit));
            }
        }
    }

    fn for_each(&self, visit: &mut impl FnMut(&K, &V)) {
        match self {
            Self::Leaf(entries) => entries.iter().for_each(|(key, value)| visit(key, value)),
            Self::Inner(children) => children.iter().for_each(|child| child.node.for_each(visit)),
        }
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    fn insert(&mut self, key: K, value: V) -> Inserted<K, V> {
        match self {
            Self::Leaf(entries) => match entries.binary_search_by(|(stored, _)| stored.cmp(&key)) {
                Ok(index) => {
                    Inserted::Replaced(std::mem::replace(&mut Arc::make_mut(entries)[index].1, value))
                }
                Err(index) => match insert_item(entries, index, (key, value)) {
                    None => Inserted::Added,
                    Some(upper) => {
                        let least = upper[0].0.clone();
                        Inserted::Split(Child { least, node: Self::Leaf(upper) })
                    }
                },
            },
            Self::Inner(children) => {
                let index = covering(children, |least| least.cmp(&key));
                let child = &mut Arc::make_mut(children)[index];
                if key < child.least {
                    child.least = key.clone();
                }
                let upper = match child.node.insert(key, value) {
                    Inserted::Split(upper) => upper,
                    done => return done,
                };
                match insert_item(children, index + 1, upper) {
                    None => Inserted::Added,
                    Some(upper) => {
                        let least = upper[0].least.clone();
                        Inserted::Split(Child { least, node: Self::Inner(upper) })
                    }
                }
            }
        }
    }

    /// May leave the node empty or with a single child; its parent (or the map, for the root) mends that.
    fn remove(&mut self, place: &impl Fn(&K) -> Ordering) -> Option<(K, V)> {
        match self {
            Self::Leaf(entries) => {
                let index = entries.binary_search_by(|(key, _)| place(key)).ok()?;
                let removed = entries[index].clone();
                *entries = without(entries, index);
                Some(removed)
            }
            Self::Inner(children) => {
                let index = covering(children, place);
                let removed = Arc::make_mut(children)[index].node.remove(place)?;
                mend(children, index);
                Some(removed)
            }
        }
    }

    fn joined(&self, right: &Self) -> Self {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                Self::Leaf(left.iter().chain(&**right).cloned().collect())
            }
            (Self::Inner(left), Self::Inner(right)) => {
                Self::Inner(left.iter().chain(&**right).cloned().collect())
            }
            _ => unreachable!("all leaves are at the same depth"),
        }
    }
}

/// Inserts into a node; the upper half is cut off and returned if it does not fit. A node that was appended to stays
/// full, so that ascending insertion packs nodes densely.
fn insert_item<T: Clone>(items: &mut Arc<[T]>, index: usize, item: T) -> Option<Arc<[T]>> {
    let (lower, upper) = items.split_at(index);
    if items.len() < WIDTH {
        *items = lower.iter().cloned().chain(iter::once(item)).chain(upper.iter().cloned()).collect();
        return None;
    }
    if upper.is_empty() {
        return Some(Arc::new([item]));
    }
    let mut all: Vec<T> = Vec::with_capacity(WIDTH + 1);
    all.extend_from_slice(lower);
    all.push(item);
    all.extend_from_slice(upper);
    let cut_off = all.split_off(WIDTH / 2).into();
    *items = all.into();
    Some(cut_off)
}

fn without<T: Clone>(items: &[T], index: usize) -> Arc<[T]> {
    items[..index].iter().chain(&items[index + 1..]).cloned().collect()
}

/// After an entry left child `index`: drops the child if it is empty, or else merges it with a neighbour if both
/// fit into one node.
fn mend<K: Ord + Clone, V: Clone>(children: &mut Arc<[Child<K, V>]>, index: usize) {
    if children[index].node.len() == 0 {
        *children = without(children, index);
        return;
    }
    let least = children[index].node.least();
    if children[index].least != *least {
        let least = least.clone();
        Arc::make_mut(children)[index].least = least;
    }
    let fits = |left: usize| {
        children.get(left + 1).is_some_and(|right| children[left].node.len() + right.node.len() <= WIDTH)
    };
    let left = if fits(index) {
        index
    } else if index > 0 && fits(index - 1) {
        index - 1
    } else {
        return;
    };
    let joined = children[left].node.joined(&children[left + 1].node);
    *children = without(children, left + 1);
    Arc::make_mut(children)[left].node = joined;
}

pub(super) struct Iter<'a, K, V> {
    /// For each inner node on the way down, its children further right.
    above: Vec<std::slice::Iter<'a, Child<K, V>>>,
    leaf: std::slice::Iter<'a, (K, V)>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            let siblings = self.above.last_mut()?;
            let Some(sibling) = siblings.next() else {
                self.above.pop();
                continue;
            };
            let mut node = &sibling.node;
            while let Node::Inner(children) = node {
                self.above.push(children[1..].iter());
                node = &children[0].node;
            }
            if let Node::Leaf(entries) = node {
                self.leaf = entries.iter();
            }
        }
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(Arc::clone(entries)),
            Self::Inner(children) => Self::Inner(Arc::clone(children)),
        }
    }
}

impl<K: Clone, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        Self { least: self.least.clone(), node: self.node.clone() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter_from(|_| Ordering::Equal)).finish()
    }
}

#[cfg(test)]
mod tests;
