//! Where the messages are that move in a picture.

use super::picture::Edge;

/// Cells from one message to the next at least: more of them are one line that does not seem to move.
const APART: usize = 3;

/// How many marks move along a line of so many cells, if so many messages did: one for each, as far as there is room.
fn marks(messages: u64, cells: usize) -> u64 {
    messages.min((cells / APART) as u64)
}

/// The cells with a mark, when this part (0 to 1) of the time between two looks has gone by. Each mark goes from the beginning
/// of its line to the end in this time, so that as many arrive as are on their way; where nothing was counted nothing moves.
pub(super) fn marked(edges: &[Edge], paths: &[Vec<(usize, usize)>], gone: f64) -> Vec<(usize, usize)> {
    let gone = gone.clamp(0.0, 1.0);
    let mut cells = Vec::new();
    for (edge, path) in edges.iter().zip(paths) {
        let count = marks(edge.flow.least, path.len());
        for mark in 0..count {
            let way = (mark as f64 / count as f64 + gone).fract();
            cells.extend(path.get((way * path.len() as f64) as usize));
        }
    }
    cells
}

/// Most messages that one mark stands for.
pub(super) fn stands_for(edges: &[Edge], paths: &[Vec<(usize, usize)>]) -> u64 {
    let each = edges.iter().zip(paths).filter_map(|(edge, path)| {
        let count = marks(edge.flow.least, path.len());
        (count > 0).then(|| edge.flow.least.div_ceil(count))
    });
    each.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::picture::Flow;
    use super::*;

    fn edge(least: u64, most: u64) -> Edge {
        Edge { from: 0, to: 1, labels: Vec::new(), flow: Flow { least, most } }
    }

    fn path(cells: usize) -> Vec<(usize, usize)> {
        (0..cells).map(|x| (x, 0)).collect()
    }

    #[test]
    fn nothing_moves_that_was_not_counted() {
        for gone in [0.0, 0.5, 1.0] {
            assert_eq!(marked(&[edge(0, 9)], &[path(12)], gone), []);
        }
    }

    #[test]
    fn one_message_goes_once_from_end_to_end() {
        let seen = |gone| marked(&[edge(1, 1)], &[path(10)], gone);
        assert_eq!(seen(0.0), [(0, 0)]);
        assert_eq!(seen(0.55), [(5, 0)]);
        assert_eq!(seen(0.99), [(9, 0)]);
    }

    #[test]
    fn as_many_move_as_were_counted_until_there_is_no_more_room() {
        let count = |messages| marked(&[edge(messages, messages)], &[path(12)], 0.3).len();
        assert_eq!([1, 3, 4, 1000].map(count), [1, 3, 4, 4]);
        assert_eq!(stands_for(&[edge(3, 3), edge(1000, 1000)], &[path(12), path(12)]), 250);
        assert_eq!(stands_for(&[edge(0, 5)], &[path(12)]), 0);
    }
}
