use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The rule of the module's first paragraph and nothing else.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), None) => matches(rest, key),
        (Some((&"#", rest)), Some((_, behind))) => matches(rest, key) || matches(pattern, behind),
        (Some((&"*", rest)), Some((_, behind))) => matches(rest, behind),
        (Some((wanted, rest)), Some((word, behind))) => wanted == word && matches(rest, behind),
        _ => false,
    }
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

/// The patterns that match, in order; fails if the trie visits one of them twice.
fn matching(trie: &PatternTrie<String>, key: &str) -> Vec<String> {
    let mut cut = KeyWords::default();
    cut.cut(key);
    let mut found = Vec::new();
    trie.for_each_match(key, &cut, |pattern| found.push(pattern.clone()));
    found.sort();
    let visited = found.len();
    found.dedup();
    assert_eq!(visited, found.len(), "a value was visited twice for `{key}`: {found:?}");
    found
}

fn insert(trie: &mut PatternTrie<String>, pattern: &str) {
    trie.update(pattern, |value| *value = Some(pattern.to_owned()));
}

fn remove(trie: &mut PatternTrie<String>, pattern: &str) {
    trie.update(pattern, |value| *value = None);
}

/// Every node but the root has a value, or parts two edges.
fn check_shape<V: Clone>(node: &Node<V>, root: bool) {
    let mut ends: Vec<&End<V>> =
        [&node.star, &node.hash].into_iter().flatten().map(|wild| &wild.end).collect();
    node.literals.for_each(|label, _| assert!(label.first() != b"*" && label.first() != b"#"));
    ends.extend(node.literals.iter_from(|_| Ordering::Equal).map(|(_, end)| end));
    assert!(root || ends.len() > 1 || (ends.len() == 1 && node.value.is_some()));
    for end in ends {
        if let End::Node(node) = end {
            check_shape(node, false);
        }
    }
}

/// Few different words, so that patterns share beginnings, part, and match.
fn pattern() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        3 => Just("a"), 2 => Just("b"), 1 => Just(""), 1 => Just("a-rather-long-word-of-a-key"),
        3 => Just("*"), 3 => Just("#"),
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.join("."))
}

fn key() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("a-rather-long-word-of-a-key"),
        1 => Just("*"), 1 => Just("#"),
    ];
    prop::collection::vec(word, 0..9).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn finds_what_the_rule_says_also_after_removals(
        patterns in prop::collection::vec(pattern(), 1..60),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        keys in prop::collection::vec(key(), 1..30),
    ) {
        let mut trie = PatternTrie::default();
        let mut model = BTreeMap::new();
        for pattern in &patterns {
            insert(&mut trie, pattern);
            check_shape(&trie.root, true);
            model.insert(pattern.as_str(), words(pattern));
        }
        let before = (trie.clone(), model.clone());
        for index in removed {
            let pattern = index.get(&patterns);
            remove(&mut trie, pattern);
            check_shape(&trie.root, true);
            model.remove(pattern.as_str());
        }
        for (trie, model) in [(trie, model), before] {
            for key in &keys {
                let expected: Vec<&str> = model
                    .iter()
                    .filter(|(_, pattern)| matches(pattern, &words(key)))
                    .map(|(pattern, _)| *pattern)
                    .collect();
                prop_assert_eq!(matching(&trie, key), expected, "key `{}`", key);
            }
        }
    }

    #[test]
    fn is_empty_again_when_all_is_removed(patterns in prop::collection::vec(pattern(), 1..60)) {
        let mut trie = PatternTrie::default();
        for pattern in &patterns {
            insert(&mut trie, pattern);
        }
        for pattern in patterns.iter().rev() {
            remove(&mut trie, pattern);
        }
        prop_assert!(!trie.root.has_children());
        prop_assert!(trie.root.value.is_none());
    }
}

#[test]
fn many_hashes_do_not_multiply() {
    // Each `#` of these patterns could stand for any number of words: trying all ways in turn would never end.
    let mut trie = PatternTrie::default();
    let patterns: Vec<String> = (1..60).map(|count| vec!["#.a"; count].join(".")).collect();
    for pattern in &patterns {
        insert(&mut trie, pattern);
    }
    let key = vec!["a"; 128].join(".");
    assert_eq!(matching(&trie, &key).len(), patterns.len());
    assert_eq!(matching(&trie, &format!("{key}.b")), Vec::<String>::new());
}

#[test]
fn the_longest_keys_and_the_deepest_trees_work() {
    let mut trie = PatternTrie::default();
    let dots = |count| ".".repeat(count);
    for count in 0..=255 {
        insert(&mut trie, &dots(count));
        insert(&mut trie, &vec!["*"; count].join("."));
    }
    check_shape(&trie.root, true);
    // 255 dots are 256 empty words, for which there is no pattern of stars.
    assert_eq!(matching(&trie, &dots(255)), [dots(255)]);
    assert_eq!(matching(&trie, &dots(254)), [vec!["*"; 255].join("."), dots(254)]);
    assert_eq!(matching(&trie, ""), [""]);
    insert(&mut trie, "#");
    assert_eq!(matching(&trie, &dots(255)), ["#".to_owned(), dots(255)]);
    assert_eq!(matching(&trie, &dots(256)), Vec::<String>::new(), "more words than any key has");
}

#[test]
fn a_pattern_costs_one_edge_and_one_more_where_it_parts() {
    fn nodes<V: Clone>(end: &End<V>) -> usize {
        let End::Node(node) = end else { return 0 };
        let wild = [&node.star, &node.hash].into_iter().flatten().map(|wild| nodes(&wild.end));
        1 + wild.sum::<usize>()
            + node.literals.iter_from(|_| Ordering::Equal).map(|(_, end)| nodes(end)).sum::<usize>()
    }
    let mut trie = PatternTrie::default();
    insert(&mut trie, &format!("{}.x", vec!["a"; 100].join(".")));
    assert_eq!(nodes(&End::Node(Arc::clone(&trie.root))), 1);
    insert(&mut trie, &format!("{}.y", vec!["a"; 100].join(".")));
    assert_eq!(nodes(&End::Node(Arc::clone(&trie.root))), 2);
}

#[test]
fn words_with_equal_hashes_stay_apart() {
    let label = |text: &[u8]| Label { hash: 7, words: ShortBytes::new(text) };
    let mut words = SortedMap::default();
    for text in [b"one", b"two"] {
        words.insert(label(text), text);
    }
    assert_eq!(words.len(), 2);
    let found = words.find(|stored| stored.place(7, b"two")).map(|(_, text)| *text);
    assert_eq!(found, Some(b"two"));
}
