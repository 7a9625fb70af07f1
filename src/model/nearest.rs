//! Guessing what somebody meant to type.

/// The candidate of which the smallest part was mistyped (letters added, dropped, changed, or swapped with their
/// neighbour); `None` if that is more than half of it.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let unlikeness = |candidate: &str| {
        let letters = typed.chars().count().max(candidate.chars().count()).clamp(1, LETTERS_MAX);
        1000 * distance(&typed, &candidate.to_lowercase()) / letters
    };
    let (unlikeness, candidate) = candidates
        .into_iter()
        .map(|candidate| (unlikeness(candidate), candidate))
        .min_by_key(|(unlikeness, _)| *unlikeness)?;
    (unlikeness <= 500).then_some(candidate)
}

/// Optimal string alignment distance: Levenshtein's, and a swap of neighbours counts once.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(LETTERS_MAX).collect();
    let to: Vec<char> = to.chars().take(LETTERS_MAX).collect();
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row; to.len() + 1];
        for column in 1..=to.len() {
            let changed = usize::from(from[row - 1] != to[column - 1]);
            let mut best = (last[column] + 1).min(current[column - 1] + 1).min(last[column - 1] + changed);
            let swapped =
                row > 1 && column > 1 && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1];
            if swapped {
                best = best.min(before_last[column - 2] + 1);
            }
            current[column] = best;
        }
        before_last = last;
        last = current;
    }
    last[to.len()]
}

/// Letters that are compared; what is typed may be anything.
const LETTERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_slips_of_the_finger() {
        let check =
            |from: &str, to: &str, expect: usize| assert_eq!(distance(from, to), expect, "{from} {to}");
        check("", "", 0);
        check("", "abc", 3);
        check("abc", "", 3);
        check("kitten", "sitting", 3);
        check("shrads", "shards", 1);
        check("listen", "listen", 0);
    }

    #[test]
    fn a_guess_needs_some_likeness() {
        let keys = ["listen", "shards", "heartbeat_seconds"];
        let check = |typed: &str, expect: Option<&str>| assert_eq!(nearest(typed, keys), expect, "{typed}");
        check("hearbeat_seconds", Some("heartbeat_seconds"));
        check("heartbeat", Some("heartbeat_seconds"));
        check("SHARD", Some("shards"));
        check("lisetn", Some("listen"));
        check("xylophone", None);
        assert_eq!(nearest("x", []), None);
    }
}
