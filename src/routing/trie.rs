//! Patterns of words, and which of them match a key.
//!
//! A key is words with dots between them; the empty key has no words, and two dots in a row have an empty word
//! between them. A pattern is a key whose word `*` stands for exactly one word and whose word `#` stands for any
//! number of words, none included. `*` and `#` mean that only as whole words.
//!
//! The patterns are a tree. Each edge is one or more words; it ends at a value if no further pattern goes on there,
//! and else at a node. So a pattern costs one edge, and another one where it parts from the others.
//!
//! ```text
//! a.b.c  a.b.#  a.b  #.z          node ── a.b ──▶ node with a value ── c ──▶ value
//!                                   │                            └──── # ──▶ value
//!                                   └── #.z ──▶ value
//! ```
//!
//! Matching walks down with the places in the key at which the rest of a pattern could begin: one place as long as
//! no `#` was met, and then a set of places. So each node is visited once at most, whatever the key and the patterns
//! are: `#` costs a factor of the words in the key, never an exponent.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::places::Places;
use super::short::ShortBytes;
use super::sorted::SortedMap;

/// Most words of a key that can match anything; a key of 255 bytes has no more.
pub(super) const WORDS_MAX: usize = 256;

/// Values under patterns. Clones share structure, like [`SortedMap`].
#[derive(Debug, Clone)]
pub(super) struct PatternTrie<V> {
    root: Arc<Node<V>>,
}

#[derive(Debug, Clone)]
struct Node<V> {
    /// What belongs to the pattern that ends here.
    value: Option<V>,
    literals: SortedMap<Label, End<V>>,
    star: Option<Wild<V>>,
    hash: Option<Wild<V>>,
}

/// The words of an edge that begins with a literal word. Two of them are equal if they begin with the same word.
///
/// Ordered by the hash of that word: numbers compare faster than text with common beginnings. The text behind it
/// keeps words with equal hashes apart, so words chosen to collide cost their author a comparison and gain nothing.
#[derive(Debug, Clone)]
struct Label {
    hash: u64,
    words: ShortBytes,
}

/// An edge that begins with a wildcard.
#[derive(Debug, Clone)]
struct Wild<V> {
    /// The words behind the wildcard, as a path.
    rest: ShortBytes,
    end: End<V>,
}

#[derive(Debug, Clone)]
enum End<V> {
    Value(V),
    /// Has a value or two children at least.
    Node(Arc<Node<V>>),
}

/// A key cut into words. Made once and reused: cutting then allocates nothing.
#[derive(Debug, Default)]
pub(super) struct KeyWords(Vec<KeyWord>);

#[derive(Debug, Clone, Copy)]
struct KeyWord {
    hash: u64,
    start: usize,
    end: usize,
}

impl KeyWords {
    pub(super) fn cut(&mut self, key: &str) {
        self.0.clear();
        if key.is_empty() {
            return;
        }
        let mut start = 0;
        for word in key.as_bytes().split(|byte| *byte == b'.') {
            let end = start + word.len();
            self.0.push(KeyWord { hash: hash(word), start, end });
            start = end + 1;
        }
    }
}

impl<V: Clone> PatternTrie<V> {
    /// Changes the value under a pattern: `change` finds `None` if there is none yet, and leaves `None` to remove it.
    pub(super) fn update(&mut self, pattern: &str, change: impl FnOnce(&mut Option<V>)) {
        let path = if pattern.is_empty() { String::new() } else { format!(".{pattern}") };
        Arc::make_mut(&mut self.root).update(path.as_bytes(), change);
    }

    /// Visits the value of every pattern that matches, each once. `words` are the words of `key`.
    pub(super) fn for_each_match(&self, key: &str, words: &KeyWords, visit: impl FnMut(&V)) {
        if words.0.len() <= WORDS_MAX {
            Matching { key: key.as_bytes(), words: &words.0, visit }.node_from_place(&self.root, 0);
        }
    }
}

impl<V> Default for PatternTrie<V> {
    fn default() -> Self {
        Self { root: Arc::default() }
    }
}

fn hash(word: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(word)
}

// A path is words that each have a dot before them: "" is no word, "." is one empty word.

/// The first word of a path, and the path behind it.
fn first_word(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b".")?;
    Some(path.split_at(word_len(path)))
}

/// Bytes until the next dot.
fn word_len(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'.').unwrap_or(text.len())
}

/// Bytes that two paths have in common, in whole words.
fn common_words(left: &[u8], right: &[u8]) -> usize {
    let mut bytes = 0;
    while let (Some((word, _)), Some((other, _))) = (first_word(&left[bytes..]), first_word(&right[bytes..]))
        && word == other
    {
        bytes += 1 + word.len();
    }
    bytes
}

/// What a change below an edge means for the edge.
enum Changed {
    Kept,
    /// The words behind its first one are others now.
    Rest(Vec<u8>),
    /// Nothing is left at its end.
    Gone,
}

impl<V: Clone> Node<V> {
    /// Changes the value at the end of `path`, which begins at this node.
    fn update(&mut self, path: &[u8], change: impl FnOnce(&mut Option<V>)) {
        let Some((word, path)) = first_word(path) else {
            return change(&mut self.value);
        };
        match word {
            b"*" => Wild::update(&mut self.star, path, change),
            b"#" => Wild::update(&mut self.hash, path, change),
            literal => self.update_literal(literal, path, change),
        }
    }

    fn update_literal(&mut self, word: &[u8], path: &[u8], change: impl FnOnce(&mut Option<V>)) {
        let hash = hash(word);
        let place = |label: &Label| label.place(hash, word);
        let Some((label, end)) = self.literals.find_mut(place) else {
            let mut value = None;
            change(&mut value);
            if let Some(value) = value {
                self.literals.insert(Label::new(word, path), End::Value(value));
            }
            return;
        };
        match end.update(label.rest(), path, change) {
            Changed::Kept => {}
            Changed::Rest(rest) => {
                let label = Label::new(word, &rest);
                if let Some((_, end)) = self.literals.remove(place) {
                    self.literals.insert(label, end);
                }
            }
            Changed::Gone => {
                self.literals.remove(place);
            }
        }
    }

    /// Adds a child where there is none.
    fn add_child(&mut self, word: &[u8], rest: &[u8], end: End<V>) {
        match word {
            b"*" => self.star = Some(Wild { rest: ShortBytes::new(rest), end }),
            b"#" => self.hash = Some(Wild { rest: ShortBytes::new(rest), end }),
            literal => {
                self.literals.insert(Label::new(literal, rest), end);
            }
        }
    }

    /// The only child, as a path and its end; `None` if there are several or none.
    fn only_child(&self) -> Option<(Vec<u8>, &End<V>)> {
        let literal = self.literals.iter_from(|_| Ordering::Equal).next();
        match (self.literals.len(), &self.star, &self.hash) {
            (1, None, None) => literal.map(|(label, end)| ([b".", label.words.as_bytes()].concat(), end)),
            (0, Some(star), None) => Some(([b".*", star.rest.as_bytes()].concat(), &star.end)),
            (0, None, Some(hash)) => Some(([b".#", hash.rest.as_bytes()].concat(), &hash.end)),
            _ => None,
        }
    }

    fn has_children(&self) -> bool {
        !self.literals.is_empty() || self.star.is_some() || self.hash.is_some()
    }
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { value: None, literals: SortedMap::default(), star: None, hash: None }
    }
}

impl<V: Clone> Wild<V> {
    fn update(slot: &mut Option<Self>, path: &[u8], change: impl FnOnce(&mut Option<V>)) {
        let Some(wild) = slot else {
            let mut value = None;
            change(&mut value);
            *slot = value.map(|value| Self { rest: ShortBytes::new(path), end: End::Value(value) });
            return;
        };
        match wild.end.update(wild.rest.as_bytes(), path, change) {
            Changed::Kept => {}
            Changed::Rest(rest) => wild.rest = ShortBytes::new(&rest),
            Changed::Gone => *slot = None,
        }
    }
}

impl<V: Clone> End<V> {
    /// Changes the value at the end of `path`, which begins together with `rest`, the words of the edge to this end.
    fn update(&mut self, rest: &[u8], path: &[u8], change: impl FnOnce(&mut Option<V>)) -> Changed {
        let common = common_words(rest, path);
        let path = &path[common..];
        let mut node = match (first_word(&rest[common..]), &mut *self) {
            (None, Self::Value(value)) => Node { value: Some(value.clone()), ..Node::default() },
            (None, Self::Node(node)) => {
                Arc::make_mut(node).update(path, change);
                return self.tidy(rest);
            }
            // They part on the way: a node comes between.
            (Some((word, lower)), end) => {
                let mut node = Node::default();
                node.add_child(word, lower, end.clone());
                node
            }
        };
        node.update(path, change);
        *self = Self::Node(Arc::new(node));
        match self.tidy(&rest[..common]) {
            Changed::Kept if common < rest.len() => Changed::Rest(rest[..common].to_vec()),
            changed => changed,
        }
    }

    /// Replaces a node that is none any more: one without children, or one that its only child passes through.
    fn tidy(&mut self, rest: &[u8]) -> Changed {
        let Self::Node(node) = self else { return Changed::Kept };
        if let Some(value) = &node.value {
            if !node.has_children() {
                *self = Self::Value(value.clone());
            }
            return Changed::Kept;
        }
        if let Some((path, end)) = node.only_child() {
            let end = end.clone();
            *self = end;
            return Changed::Rest([rest, &path].concat());
        }
        if node.has_children() { Changed::Kept } else { Changed::Gone }
    }
}

impl Label {
    fn new(word: &[u8], rest: &[u8]) -> Self {
        Self { hash: hash(word), words: ShortBytes::new(&[word, rest].concat()) }
    }

    fn first(&self) -> &[u8] {
        let words = self.words.as_bytes();
        &words[..word_len(words)]
    }

    fn rest(&self) -> &[u8] {
        &self.words.as_bytes()[self.first().len()..]
    }

    fn place(&self, hash: u64, word: &[u8]) -> Ordering {
        self.hash.cmp(&hash).then_with(|| self.first().cmp(word))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place(other.hash, other.first())
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Label {}

/// A walk down the tree. Places are counted in words: place 0 is before the first one, the last place is the end.
struct Matching<'a, F> {
    key: &'a [u8],
    words: &'a [KeyWord],
    visit: F,
}

impl<F> Matching<'_, F> {
    /// From one place, along the words `rest` to the end of an edge.
    fn edge_from_place<V: Clone>(&mut self, mut rest: &[u8], end: &End<V>, mut at: usize)
    where
        F: FnMut(&V),
    {
        while let Some((word, behind)) = first_word(rest) {
            rest = behind;
            match word {
                b"#" => return self.edge_from_places(rest, end, Places::range(at, self.words.len())),
                _ if at == self.words.len() => return,
                b"*" => at += 1,
                literal if literal == self.word(at) => at += 1,
                _ => return,
            }
        }
        match end {
            End::Value(value) if at == self.words.len() => (self.visit)(value),
            End::Value(_) => {}
            End::Node(node) => self.node_from_place(node, at),
        }
    }

    fn node_from_place<V: Clone>(&mut self, node: &Node<V>, at: usize)
    where
        F: FnMut(&V),
    {
        let last = self.words.len();
        if let Some(wild) = &node.hash {
            self.edge_from_places(wild.rest.as_bytes(), &wild.end, Places::range(at, last));
        }
        if at == last {
            if let Some(value) = &node.value {
                (self.visit)(value);
            }
            return;
        }
        if let Some(wild) = &node.star {
            self.edge_from_place(wild.rest.as_bytes(), &wild.end, at + 1);
        }
        if let Some((label, end)) = self.literal(node, at) {
            self.edge_from_place(label.rest(), end, at + 1);
        }
    }

    /// From several places, along the words `rest` to the end of an edge.
    fn edge_from_places<V: Clone>(&mut self, mut rest: &[u8], end: &End<V>, mut places: Places)
    where
        F: FnMut(&V),
    {
        let last = self.words.len();
        while let Some((word, behind)) = first_word(rest) {
            rest = behind;
            places = match word {
                b"#" => places.first().map_or_else(Places::none, |first| Places::range(first, last)),
                b"*" => places.without(last).next(),
                literal => places.without(last).filter(|at| literal == self.word(at)).next(),
            };
        }
        match end {
            End::Value(value) if places.contains(last) => (self.visit)(value),
            End::Value(_) => {}
            End::Node(node) => self.node_from_places(node, places),
        }
    }

    fn node_from_places<V: Clone>(&mut self, node: &Node<V>, places: Places)
    where
        F: FnMut(&V),
    {
        let Some(first) = places.first() else { return };
        let last = self.words.len();
        if places.contains(last)
            && let Some(value) = &node.value
        {
            (self.visit)(value);
        }
        if let Some(wild) = &node.hash {
            self.edge_from_places(wild.rest.as_bytes(), &wild.end, Places::range(first, last));
        }
        let mut before_word = places.without(last);
        if let Some(wild) = &node.star {
            self.edge_from_places(wild.rest.as_bytes(), &wild.end, before_word.next());
        }
        if node.literals.is_empty() {
            return;
        }
        while let Some(at) = before_word.first() {
            before_word = before_word.without(at);
            if let Some((label, end)) = self.literal(node, at) {
                let same = before_word.filter(|other| self.word(other) == self.word(at));
                before_word = before_word.minus(same);
                self.edge_from_places(label.rest(), end, same.with(at).next());
            }
        }
    }

    /// The edge of a node that begins with the word behind this place.
    fn literal<'n, V: Clone>(&self, node: &'n Node<V>, at: usize) -> Option<(&'n Label, &'n End<V>)> {
        let hash = self.words[at].hash;
        node.literals.find(|label| label.place(hash, self.word(at)))
    }

    fn word(&self, at: usize) -> &[u8] {
        &self.key[self.words[at].start..self.words[at].end]
    }
}

#[cfg(test)]
mod tests;
