//! Lanes for lines that go up or down between two columns of boxes.

/// All edges that leave one box, or enter one, and the rows that they go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trunk {
    /// The box.
    pub(super) node: usize,
    /// The edges.
    pub(super) edges: Vec<usize>,
    first_row: usize,
    last_row: usize,
}

impl Trunk {
    /// A trunk with one edge, between two rows.
    pub(super) fn new(node: usize, edge: usize, rows: [usize; 2]) -> Self {
        let [one, other] = rows;
        Self { node, edges: vec![edge], first_row: one.min(other), last_row: one.max(other) }
    }

    /// Adds an edge between two rows.
    pub(super) fn add(&mut self, edge: usize, rows: [usize; 2]) {
        self.edges.push(edge);
        for row in rows {
            self.first_row = self.first_row.min(row);
            self.last_row = self.last_row.max(row);
        }
    }
}

/// Gives each trunk one of so many lanes, in which no other is in the same rows; `None` if all are taken there.
pub(super) fn assign(mut trunks: Vec<Trunk>, lanes: usize) -> Vec<(Trunk, Option<usize>)> {
    trunks.sort_by_key(|trunk| (trunk.first_row, trunk.last_row));
    // The first row of each lane that is free.
    let mut free = vec![0; lanes];
    let assigned = trunks.into_iter().map(|trunk| {
        let lane = free.iter().position(|row| *row <= trunk.first_row);
        if let Some(lane) = lane {
            free[lane] = trunk.last_row + 1;
        }
        (trunk, lane)
    });
    assigned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trunks_in_the_same_rows_have_lanes_of_their_own() {
        let trunks = [[1, 9], [2, 4], [6, 5], [3, 8], [10, 12]];
        let trunks =
            trunks.into_iter().enumerate().map(|(node, rows)| Trunk::new(node, node, rows)).collect();
        let lanes: Vec<_> = assign(trunks, 2).into_iter().map(|(trunk, lane)| (trunk.node, lane)).collect();
        assert_eq!(lanes, [(0, Some(0)), (1, Some(1)), (3, None), (2, Some(1)), (4, Some(0))]);
    }
}
