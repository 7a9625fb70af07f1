//! Which consumers are of one priority, and whose turn it is among them. Knows places in a list, and no consumer.

use std::ops::Range;

/// Places in a list that is sorted by priority, the highest first.
#[derive(Debug, Default)]
pub(super) struct Levels(Vec<Level>);

/// Those of one priority: one of them at least.
#[derive(Debug)]
struct Level {
    priority: i32,
    members: Range<usize>,
    /// Whose turn it is, from the first one. At the end it is the first one's.
    turn: usize,
}

impl Levels {
    /// How many priorities there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The places of one priority.
    pub(super) fn members(&self, level: usize) -> Range<usize> {
        self.0[level].members.clone()
    }

    /// Whose turn it is among those of one priority, counted from its first place. The one behind is next.
    pub(super) fn next_turn(&mut self, level: usize) -> usize {
        let level = &mut self.0[level];
        let turn = level.turn % level.members.len();
        level.turn = turn + 1;
        turn
    }

    /// The place for one that comes: behind all others of its priority.
    pub(super) fn insert(&mut self, priority: i32) -> usize {
        let level = self.0.partition_point(|level| level.priority > priority);
        if self.0.get(level).is_none_or(|found| found.priority != priority) {
            let start = level.checked_sub(1).map_or(0, |before| self.0[before].members.end);
            self.0.insert(level, Level { priority, members: start..start, turn: 0 });
        }
        let place = self.0[level].members.end;
        self.0[level].members.end += 1;
        for behind in &mut self.0[level + 1..] {
            behind.members = behind.members.start + 1..behind.members.end + 1;
        }
        place
    }

    /// The one at a place has gone. Whose turn it is stays the same.
    pub(super) fn remove(&mut self, place: usize) {
        let level = self.0.partition_point(|level| level.members.end <= place);
        let found = &mut self.0[level];
        if found.turn > place - found.members.start {
            found.turn -= 1;
        }
        found.members.end -= 1;
        for behind in &mut self.0[level + 1..] {
            behind.members = behind.members.start - 1..behind.members.end - 1;
        }
        if self.0[level].members.is_empty() {
            self.0.remove(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Levels;

    #[test]
    fn places_are_by_priority_and_then_in_the_order_of_coming() {
        let mut levels = Levels::default();
        assert_eq!([0, 5, 0, -3, 5].map(|priority| levels.insert(priority)), [0, 0, 2, 3, 1]);
        assert_eq!([0, 1, 2].map(|level| levels.members(level)), [0..2, 2..4, 4..5]);
        levels.remove(4);
        levels.remove(0);
        assert_eq!((levels.count(), levels.members(0), levels.members(1)), (2, 0..1, 1..3));
        levels.remove(0);
        assert_eq!((levels.count(), levels.members(0)), (1, 0..2));
    }

    #[test]
    fn turns_go_around_among_those_of_one_priority() {
        let mut levels = Levels::default();
        assert_eq!([7, 0, 0, 0].map(|priority| levels.insert(priority)), [0, 1, 2, 3]);
        assert_eq!([0; 2].map(|level| levels.next_turn(level)), [0, 0]);
        assert_eq!([1; 2].map(|level| levels.next_turn(level)), [0, 1]);
        // The first of the three goes: the third is still next.
        levels.remove(1);
        assert_eq!([1; 3].map(|level| levels.next_turn(level)), [1, 0, 1]);
        // One comes while the turn is at the end.
        levels.insert(0);
        assert_eq!(levels.next_turn(1), 2);
    }
}
