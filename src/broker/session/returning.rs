//! Mandatory messages that reached no queue go back, a few of a frame's at a time: as the front end has room.

use std::ops::Range;
use std::sync::Arc;

use super::target::Publication;
use super::word::Returned;
use crate::shard::Origin;

/// Messages that go back in one word at most, and their bytes, unless a single one has more.
const RETURNED_MESSAGES_MAX: u32 = 64;
const RETURNED_BYTES_MAX: usize = 16 * 1024;

/// What is left to go back of a frame. Until that is told, no word of what became of messages is.
#[derive(Debug)]
pub(super) struct Returning<M> {
    pub(super) channel: u32,
    pub(super) publisher: u32,
    pub(super) first_sequence: u64,
    pub(super) origin: Arc<Origin>,
    pub(super) messages: Arc<M>,
    /// Which of the messages, the last ones first.
    pub(super) rest: Vec<Range<u32>>,
}

impl<M: Publication> Returning<M> {
    /// The next that go back; `None`: all are told.
    pub(super) fn next(&mut self) -> Option<Returned<M>> {
        let whole = self.rest.pop()?;
        let run = self.messages.run();
        let mut bytes = run.item(whole.start as usize).len();
        let fits = |index: &u32| {
            bytes += run.item(*index as usize).len();
            bytes <= RETURNED_BYTES_MAX
        };
        let others = (whole.start + 1..whole.end).take(RETURNED_MESSAGES_MAX as usize - 1);
        let end = whole.start + 1 + others.take_while(fits).count() as u32;
        if end < whole.end {
            self.rest.push(end..whole.end);
        }
        Some(Returned {
            channel: self.channel,
            publisher: self.publisher,
            first_sequence: self.first_sequence,
            origin: Arc::clone(&self.origin),
            messages: Arc::clone(&self.messages),
            range: whole.start..end,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::message::{MessageRun, MessageRunBuilder};
    use crate::model::{ExchangeName, RoutingKey};

    #[derive(Debug)]
    struct Messages(MessageRun);

    impl Publication for Messages {
        fn run(&self) -> &MessageRun {
            &self.0
        }

        fn has_keys(&self) -> bool {
            false
        }

        fn key(&self, _: usize) -> Option<&str> {
            None
        }

        fn body_bytes_max(&self) -> usize {
            0
        }
    }

    /// The words in which messages of these sizes go back, of which those in `rest` do.
    fn words(sizes: &[usize], rest: &[Range<u32>]) -> Vec<Range<u32>> {
        let mut run = MessageRunBuilder::default();
        sizes.iter().for_each(|size| run.push(&vec![0; *size]));
        let origin = Origin {
            exchange: ExchangeName::new("").unwrap(),
            routing_key: RoutingKey::new("nowhere").unwrap(),
        };
        let mut returning = Returning {
            channel: 1,
            publisher: 1,
            first_sequence: 1,
            origin: Arc::new(origin),
            messages: Arc::new(Messages(run.finish())),
            rest: rest.iter().rev().cloned().collect(),
        };
        std::iter::from_fn(|| returning.next()).map(|word| word.range).collect()
    }

    #[test]
    fn many_go_back_a_few_at_a_time() {
        let words = words(&[6; 1_000], &[0..10, 20..1_000]);
        assert!(words.iter().all(|range| range.len() <= RETURNED_MESSAGES_MAX as usize), "{words:?}");
        let expected: Vec<u32> = (0..10).chain(20..1_000).collect();
        assert_eq!(words.into_iter().flatten().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn large_ones_go_back_alone() {
        let large = RETURNED_BYTES_MAX + 1;
        let sizes = [1, large, large, 1, 1, 8 * 1024, 8 * 1024 - 1, 1];
        assert_eq!(words(&sizes, std::slice::from_ref(&(0..8))), [0..1, 1..2, 2..3, 3..6, 6..8]);
    }
}
