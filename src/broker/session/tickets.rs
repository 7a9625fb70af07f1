//! What waits for answers, under numbers that go with the questions.

/// Values under small numbers. A number is used again once its value is gone.
#[derive(Debug)]
pub(super) struct Tickets<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Tickets<T> {
    pub(super) fn insert(&mut self, value: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(value);
        index as u64
    }

    pub(super) fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        self.slots.get_mut(usize::try_from(ticket).ok()?)?.as_mut()
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<T> {
        let index = usize::try_from(ticket).ok()?;
        let value = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        if self.is_empty() {
            // An idle connection keeps no memory for it.
            *self = Self::default();
        }
        Some(value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_nothing_is_kept_for_none() {
        let mut tickets = Tickets::default();
        let [one, two] = ["one", "two"].map(|value| tickets.insert(value));
        assert_eq!(tickets.remove(one), Some("one"));
        assert_eq!((tickets.remove(one), tickets.get_mut(one)), (None, None), "it was answered");
        assert_eq!(tickets.insert("three"), one);
        assert_eq!(tickets.values_mut().map(|value| *value).collect::<Vec<_>>(), ["three", "two"]);
        assert_eq!((tickets.remove(two), tickets.remove(one)), (Some("two"), Some("three")));
        assert!(tickets.is_empty());
        assert_eq!(tickets.slots.capacity() + tickets.free.capacity(), 0);
        assert_eq!(tickets.remove(u64::MAX), None);
    }
}
