//! Patterns of words, and which of them match a key.
//!
//! A key is words with dots between them; the empty key has no words, and two dots in a row have an empty word
//! between them. A pattern is a key whose word `*` stands for exactly one word and whose word `#` stands for any
//! number of words, none included. `*` and `#` mean that only as whole words.
//!
//! The patterns are a tree: each edge is one or more words, each node knows the value of the pattern that ends there.
//! A chain of words without a branch is one edge, so a pattern adds two nodes at most. Matching walks down with the
//! places in the key at which the rest of the pattern could begin: one place as long as no `#` was met, and then a
//! set of places. So a node is visited once at most, whatever the key and the patterns are: `#` costs a factor of
//! the words in the key, never an exponent.

use std::cmp::Ordering;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::places::Places;
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
    /// Further words of the edge that leads here, after the word by which the parent knows this node; each has a
    /// dot before it, so "" is none and "." is one empty word.
    rest: Box<str>,
    /// What belongs to the pattern that ends here.
    value: Option<V>,
    literals: SortedMap<Word, Arc<Node<V>>>,
    star: Option<Arc<Node<V>>>,
    hash: Option<Arc<Node<V>>>,
}

/// A literal word, ordered by its hash: numbers compare faster than text with common beginnings. The text behind it
/// keeps words with equal hashes apart, so words chosen to collide cost their author one comparison more, no list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    hash: u64,
    text: Arc<str>,
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
        for word in key.split('.') {
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
        Arc::make_mut(&mut self.root).update(&path, change);
    }

    /// Visits the value of every pattern that matches, each once. `words` are the words of `key`.
    pub(super) fn for_each_match(&self, key: &str, words: &KeyWords, visit: impl FnMut(&V)) {
        if words.0.len() <= WORDS_MAX {
            Matching { key, words: &words.0, visit }.from_place(&self.root, 0);
        }
    }
}

impl<V> Default for PatternTrie<V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::new("", None)) }
    }
}

fn hash(word: &str) -> u64 {
    FixedState::with_seed(0).hash_one(word)
}

/// The first word of a path (words that each have a dot before them), and the path behind it.
fn first_word(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('.')?;
    Some(path.split_at(path.find('.').unwrap_or(path.len())))
}

/// Bytes that two paths have in common, in whole words.
fn common_words(left: &str, right: &str) -> usize {
    let mut bytes = 0;
    while let (Some((word, _)), Some((other, _))) = (first_word(&left[bytes..]), first_word(&right[bytes..]))
        && word == other
    {
        bytes += 1 + word.len();
    }
    bytes
}

impl<V> Node<V> {
    fn new(rest: &str, value: Option<V>) -> Self {
        Self { rest: rest.into(), value, literals: SortedMap::default(), star: None, hash: None }
    }
}

impl<V: Clone> Node<V> {
    /// Changes the value at the end of `path`, which begins below this node.
    fn update(&mut self, path: &str, change: impl FnOnce(&mut Option<V>)) {
        let Some((word, path)) = first_word(path) else {
            return change(&mut self.value);
        };
        if let Some(child) = self.child_mut(word) {
            let child = Arc::make_mut(child);
            child.update_on_edge(path, change);
            if child.value.is_none() && child.children_count() == 0 {
                self.remove_child(word);
            }
            return;
        }
        let mut value = None;
        change(&mut value);
        if value.is_some() {
            self.add_child(word, Arc::new(Self::new(path, value)));
        }
    }

    /// Changes the value at the end of `path`, which begins on the edge to this node, behind the edge's first word.
    fn update_on_edge(&mut self, path: &str, change: impl FnOnce(&mut Option<V>)) {
        let common = common_words(&self.rest, path);
        if common < self.rest.len() {
            self.split_edge(common);
        }
        self.update(&path[common..], change);
        if self.value.is_none() && self.children_count() == 1 {
            self.absorb_child();
        }
    }

    /// Makes this node end after `common` bytes of its edge; what it was becomes its only child.
    fn split_edge(&mut self, common: usize) {
        let rest = std::mem::take(&mut self.rest);
        let (upper, lower) = rest.split_at(common);
        let (word, lower) = first_word(lower).expect("an edge is split between its words");
        let mut child = Self::new(lower, None);
        std::mem::swap(self, &mut child);
        std::mem::swap(&mut self.rest, &mut child.rest);
        self.rest = upper.into();
        self.add_child(word, Arc::new(child));
    }

    /// Takes in the only child of a node at which no pattern ends: the two edges become one.
    fn absorb_child(&mut self) {
        let literal = self.literals.iter_from(|_| Ordering::Equal).next();
        let (word, child) = match (literal, &self.star, &self.hash) {
            (Some((word, child)), None, None) => (&*word.text, child),
            (None, Some(child), None) => ("*", child),
            (None, None, Some(child)) => ("#", child),
            _ => return,
        };
        let rest = format!("{}.{word}{}", self.rest, child.rest);
        *self = Self { rest: rest.into(), ..Self::clone(child) };
    }

    fn children_count(&self) -> usize {
        self.literals.len() + usize::from(self.star.is_some()) + usize::from(self.hash.is_some())
    }

    fn child_mut(&mut self, word: &str) -> Option<&mut Arc<Self>> {
        match word {
            "*" => self.star.as_mut(),
            "#" => self.hash.as_mut(),
            literal => self.literals.find_mut(Word::place(hash(literal), literal)),
        }
    }

    fn add_child(&mut self, word: &str, child: Arc<Self>) {
        match word {
            "*" => self.star = Some(child),
            "#" => self.hash = Some(child),
            literal => {
                self.literals.insert(Word { hash: hash(literal), text: literal.into() }, child);
            }
        }
    }

    fn remove_child(&mut self, word: &str) {
        match word {
            "*" => self.star = None,
            "#" => self.hash = None,
            literal => {
                self.literals.remove(Word::place(hash(literal), literal));
            }
        }
    }
}

impl Word {
    fn place(hash: u64, text: &str) -> impl Fn(&Self) -> Ordering {
        move |stored| stored.hash.cmp(&hash).then_with(|| (*stored.text).cmp(text))
    }
}

struct Matching<'a, F> {
    key: &'a str,
    words: &'a [KeyWord],
    visit: F,
}

impl<F> Matching<'_, F> {
    /// Walks down from a node whose edge begins at one place: before word `at` of the key, or at its end.
    fn from_place<V: Clone>(&mut self, node: &Node<V>, mut at: usize)
    where
        F: FnMut(&V),
    {
        let end = self.words.len();
        let mut rest = &*node.rest;
        while let Some((word, behind)) = first_word(rest) {
            rest = behind;
            match word {
                "#" => return self.from_places(node, rest, Places::range(at, end)),
                _ if at == end => return,
                "*" => at += 1,
                literal if literal == self.text(at) => at += 1,
                _ => return,
            }
        }
        if at == end
            && let Some(value) = &node.value
        {
            (self.visit)(value);
        }
        if let Some(child) = &node.hash {
            self.from_places(child, &child.rest, Places::range(at, end));
        }
        if at == end {
            return;
        }
        if let Some(child) = &node.star {
            self.from_place(child, at + 1);
        }
        if let Some(child) = self.literal(node, at) {
            self.from_place(child, at + 1);
        }
    }

    /// Walks down from a node on whose edge the words `rest` are still to come, from each of these places.
    fn from_places<V: Clone>(&mut self, node: &Node<V>, mut rest: &str, mut places: Places)
    where
        F: FnMut(&V),
    {
        let end = self.words.len();
        while let Some((word, behind)) = first_word(rest) {
            rest = behind;
            places = match word {
                "#" => places.first().map_or_else(Places::none, |first| Places::range(first, end)),
                "*" => places.without(end).next(),
                literal => places.without(end).filter(|at| literal == self.text(at)).next(),
            };
        }
        let Some(first) = places.first() else { return };
        if places.contains(end)
            && let Some(value) = &node.value
        {
            (self.visit)(value);
        }
        if let Some(child) = &node.hash {
            self.from_places(child, &child.rest, Places::range(first, end));
        }
        let mut before_word = places.without(end);
        if let Some(child) = &node.star {
            self.from_places(child, &child.rest, before_word.next());
        }
        if node.literals.is_empty() {
            return;
        }
        while let Some(at) = before_word.first() {
            before_word = before_word.without(at);
            if let Some(child) = self.literal(node, at) {
                let same = before_word.filter(|other| self.text(other) == self.text(at));
                before_word = before_word.minus(same);
                self.from_places(child, &child.rest, same.with(at).next());
            }
        }
    }

    fn literal<'n, V: Clone>(&self, node: &'n Node<V>, at: usize) -> Option<&'n Arc<Node<V>>> {
        node.literals.find(Word::place(self.words[at].hash, self.text(at)))
    }

    fn text(&self, at: usize) -> &str {
        &self.key[self.words[at].start..self.words[at].end]
    }
}
