//! Where everything stands in a terminal of a size, and what finds no room there.

use ratatui::layout::Rect;

use super::board::Parts;
use crate::cli::draw::Animation;

/// Fewest columns and rows in which anything is shown.
pub(super) const COLUMNS_MIN: u16 = 40;
pub(super) const ROWS_MIN: u16 = 10;

/// Fewest columns of a pane: a name, and a few words.
const PANE_COLUMNS_MIN: u16 = 24;

/// Fewest rows of a pane: its frame, and a line.
const PANE_ROWS_MIN: u16 = 3;

/// Rows of a pane in which one sees what came before: rather fewer panes beside each other than lower ones.
const PANE_ROWS_GOOD: u16 = 6;

/// Columns of a terminal in which panes and picture stand beside each other.
const BESIDE_COLUMNS_MIN: u16 = 130;

/// Rows of a terminal in which there is room for more than two notes.
const ROWS_LARGE: u16 = 40;

/// Parts of a terminal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) header: Rect,
    /// Those of the first actors.
    pub(super) panes: Vec<Rect>,
    pub(super) picture: Option<Rect>,
    pub(super) notes: Rect,
    pub(super) footer: Rect,
    /// What was to be shown and has no room.
    pub(super) left_out: Vec<String>,
}

/// Shares out the terminal among so many panes and the picture; `None` if it is too small for anything.
pub(super) fn lay_out(area: Rect, actors: usize, parts: Parts) -> Option<Layout> {
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        return None;
    }
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    let notes_rows = if area.height >= ROWS_LARGE { 8 } else { 2 };
    let middle = row(2, area.height - 3 - notes_rows);
    let (panes, picture) = share(middle, actors, parts);
    let mut left_out = Vec::new();
    if picture.is_none() && parts != Parts::Panes {
        let (columns, rows) = Animation::needs();
        // In a high enough terminal Tab gives the picture all the room.
        let rows = rows + area.height - middle.height;
        left_out.push(match Animation::fits(middle.width, middle.height) {
            true => "the picture (Tab)".to_owned(),
            false => format!("the picture ({columns} x {rows})"),
        });
    }
    let panes = panes.map(|panes| grid(panes, actors)).unwrap_or_default();
    if panes.len() < actors && (parts != Parts::Picture || picture.is_none()) {
        left_out.insert(0, format!("{} of {actors} panes", actors - panes.len()));
    }
    Some(Layout {
        header: row(0, 2),
        panes,
        picture,
        notes: row(area.height - 1 - notes_rows, notes_rows),
        footer: row(area.height - 1, 1),
        left_out,
    })
}

/// The part of the panes and that of the picture.
fn share(middle: Rect, actors: usize, parts: Parts) -> (Option<Rect>, Option<Rect>) {
    let whole = Animation::fits(middle.width, middle.height).then_some(middle);
    match parts {
        Parts::Panes => return (Some(middle), None),
        // Rather the panes than nothing.
        Parts::Picture => return (whole.is_none().then_some(middle), whole),
        Parts::Both => {}
    }
    if middle.width >= BESIDE_COLUMNS_MIN {
        let left = middle.width * 2 / 5;
        let panes = Rect { width: left - 1, ..middle };
        let picture = Rect { x: middle.x + left, width: middle.width - left, ..middle };
        return match Animation::fits(picture.width, picture.height) {
            true => (Some(panes), Some(picture)),
            false => (Some(middle), None),
        };
    }
    // Below each other: the panes as low as they can be read, and half of what is left.
    let beside = usize::from((middle.width / PANE_COLUMNS_MIN).max(1));
    let lowest = rows_for(actors, beside).saturating_mul(PANE_ROWS_MIN);
    let (_, picture_rows) = Animation::needs();
    let Some(spare) = middle.height.checked_sub(lowest.saturating_add(picture_rows)) else {
        return (Some(middle), None);
    };
    let rows = lowest + spare / 2;
    let panes = Rect { height: rows, ..middle };
    let picture = Rect { y: middle.y + rows, height: middle.height - rows, ..middle };
    match Animation::fits(picture.width, picture.height) {
        true => (Some(panes), Some(picture)),
        false => (Some(middle), None),
    }
}

fn rows_for(panes: usize, beside: usize) -> u16 {
    u16::try_from(panes.div_ceil(beside)).unwrap_or(u16::MAX)
}

/// A place for each pane, or for as many as there is room for.
fn grid(area: Rect, panes: usize) -> Vec<Rect> {
    let most_beside = usize::from((area.width / PANE_COLUMNS_MIN).max(1));
    let most_above = usize::from(area.height / PANE_ROWS_MIN);
    let panes = panes.min(most_beside * most_above);
    if panes == 0 {
        return Vec::new();
    }
    let is_good = |beside: &usize| rows_for(panes, *beside).saturating_mul(PANE_ROWS_GOOD) <= area.height;
    let beside = (1..=most_beside).find(is_good).unwrap_or(most_beside).min(panes);
    let above = usize::from(rows_for(panes, beside));
    // What a division leaves over goes to the last ones.
    let part = |whole: u16, count: usize, index: usize| {
        let at = |index: usize| (usize::from(whole) * index / count) as u16;
        (at(index), at(index + 1) - at(index))
    };
    let places = (0..panes).map(|pane| {
        let (x, width) = part(area.width, beside, pane % beside);
        let (y, height) = part(area.height, above, pane / beside);
        Rect { x: area.x + x, y: area.y + y, width, height }
    });
    places.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(columns: u16, rows: u16, parts: Parts) -> Layout {
        lay_out(Rect::new(0, 0, columns, rows), 6, parts).unwrap()
    }

    #[test]
    fn nothing_is_drawn_over_anything_else_whatever_the_size() {
        for (columns, rows) in (COLUMNS_MIN..220).step_by(7).flat_map(|x| (ROWS_MIN..70).map(move |y| (x, y)))
        {
            for parts in [Parts::Both, Parts::Picture, Parts::Panes] {
                for actors in [1, 4, 5, 6] {
                    let area = Rect::new(0, 0, columns, rows);
                    let layout = lay_out(area, actors, parts).unwrap();
                    let mut places = layout.panes.clone();
                    places.extend(layout.picture);
                    places.extend([layout.header, layout.notes, layout.footer]);
                    for (index, place) in places.iter().enumerate() {
                        assert_eq!(area.intersection(*place), *place, "{columns}x{rows}: {layout:?}");
                        let over = places[index + 1..].iter().find(|other| place.intersects(**other));
                        assert_eq!(over, None, "{columns}x{rows} over {place:?}: {layout:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_no_room_is_told() {
        for (columns, rows) in [(80, 24), (200, 50), (100, 60)] {
            let layout = of(columns, rows, Parts::Both);
            assert_eq!(layout.panes.len(), 6, "{columns}x{rows}");
            assert!(layout.picture.is_some(), "{columns}x{rows}");
            assert!(layout.left_out.is_empty(), "{columns}x{rows}: {layout:?}");
        }
        let check = |columns, rows, parts, panes, left_out: &[&str]| {
            let layout = of(columns, rows, parts);
            assert_eq!((layout.panes.len(), layout.picture), (panes, None), "{columns}x{rows}");
            assert_eq!(layout.left_out, left_out, "{columns}x{rows}");
        };
        let needs = "the picture (72 x 14)";
        check(60, 24, Parts::Both, 6, &[needs]);
        check(60, 24, Parts::Picture, 6, &[needs]);
        check(60, 24, Parts::Panes, 6, &[]);
        check(80, 16, Parts::Both, 6, &["the picture (Tab)"]);
        check(40, 12, Parts::Both, 2, &["4 of 6 panes", needs]);
        assert_eq!(lay_out(Rect::new(0, 0, COLUMNS_MIN, ROWS_MIN - 1), 6, Parts::Both), None);
        assert!(of(80, 16, Parts::Picture).picture.is_some());
    }

    #[test]
    fn in_a_large_terminal_the_picture_stands_beside_the_panes() {
        let layout = of(200, 50, Parts::Both);
        let picture = layout.picture.unwrap();
        assert!(picture.x > 0 && picture.width >= 118, "{layout:?}");
        assert!(layout.panes.iter().all(|pane| pane.height >= PANE_ROWS_GOOD), "{layout:?}");
    }
}
