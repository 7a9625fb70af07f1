use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::*;

/// Every rule of the shape, checked from the root down.
fn check_shape<K: Ord + Clone + fmt::Debug, V: Clone>(map: &SortedMap<K, V>) {
    fn depth<K: Ord + Clone + fmt::Debug, V: Clone>(node: &Node<K, V>, root: bool) -> usize {
        assert!((1..=WIDTH).contains(&node.len()));
        match node {
            Node::Leaf(entries) => {
                assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0));
                0
            }
            Node::Inner(children) => {
                assert!(!root || children.len() > 1, "a root with one child is replaced by it");
                let depths: Vec<_> = children.iter().map(|child| depth(&child.node, false)).collect();
                assert!(depths.iter().all(|depth| *depth == depths[0]));
                assert!(children.iter().all(|child| child.least == *child.node.least()));
                depths[0] + 1
            }
        }
    }
    if let Some(root) = &map.root {
        depth(root, true);
    }
}

fn entries(map: &SortedMap<u16, u32>) -> Vec<(u16, u32)> {
    map.iter_from(|_| Ordering::Equal).map(|(key, value)| (*key, *value)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u32),
    Remove(u16),
    Change(u16, u32),
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..400u16;
    prop_oneof![
        4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => key.clone().prop_map(Step::Remove),
        1 => (key, any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
        1 => Just(Step::Keep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn is_a_sorted_map_whose_clones_stay_as_they_were(steps in prop::collection::vec(step(), 1..800)) {
        let mut map = SortedMap::default();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                Step::Remove(key) => {
                    prop_assert_eq!(map.remove(|stored| stored.cmp(&key)), model.remove_entry(&key));
                }
                Step::Change(key, value) => {
                    let found = map.find_mut(|stored| stored.cmp(&key));
                    prop_assert_eq!(found.is_some(), model.contains_key(&key));
                    if let Some((_, found)) = found {
                        *found = value;
                        model.insert(key, value);
                    }
                }
                Step::Keep => kept.push((map.clone(), model.clone())),
            }
            prop_assert_eq!(map.len(), model.len());
            check_shape(&map);
        }
        kept.push((map, model));
        for (map, model) in kept {
            prop_assert_eq!(entries(&map), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn reads_ranges(keys in prop::collection::btree_set(0..2_000u16, 0..600), from in 0..2_000u16) {
        let mut map = SortedMap::default();
        for key in &keys {
            map.insert(*key, u32::from(*key));
        }
        let after: Vec<u16> = map.iter_from(|key| key.cmp(&from)).map(|(key, _)| *key).collect();
        let expected = keys.range((Bound::Included(from), Bound::Unbounded));
        prop_assert_eq!(after, expected.copied().collect::<Vec<_>>());

        let mut decade = Vec::new();
        map.for_each_equal(|key| (key / 10).cmp(&(from / 10)), |key, _| decade.push(*key));
        let expected = keys.range(from / 10 * 10..from / 10 * 10 + 10);
        prop_assert_eq!(decade, expected.copied().collect::<Vec<_>>());

        let mut all = Vec::new();
        map.for_each(|key, _| all.push(*key));
        prop_assert_eq!(all, keys.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_change_shares_all_but_one_path_with_the_clone() {
    let mut map = SortedMap::default();
    for key in 0..10_000u32 {
        map.insert(key, key);
    }
    let before = map.clone();
    map.insert(5_000, 0);
    fn shared<K, V>(new: &Node<K, V>, old: &Node<K, V>) -> bool {
        match (new, old) {
            (Node::Inner(new), Node::Inner(old)) => Arc::ptr_eq(new, old),
            (Node::Leaf(new), Node::Leaf(old)) => Arc::ptr_eq(new, old),
            _ => false,
        }
    }
    fn copied<K, V>(new: &Node<K, V>, old: &Node<K, V>) -> usize {
        match (new, old) {
            (Node::Inner(new), Node::Inner(old)) => {
                1 + new
                    .iter()
                    .zip(&**old)
                    .filter(|(new, old)| !shared(&new.node, &old.node))
                    .map(|(new, old)| copied(&new.node, &old.node))
                    .sum::<usize>()
            }
            _ => 1,
        }
    }
    let roots = map.root.as_ref().zip(before.root.as_ref()).expect("both hold entries");
    assert_eq!(copied(roots.0, roots.1), 4, "10,000 entries at 16 a node are four levels");
}
