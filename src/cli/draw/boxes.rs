//! The picture in character cells: boxes in four columns, and lines between them.
//!
//! ```text
//! ┌ producer ──┐      ┌ topic ─────┐              ┌ queue ─────┐      ┌ consumer ──┐
//! │ name       ├─╮    │ name       ├─╮            │ name       ├─╮    │ name       │
//! │            │ ╰───▶│            │ ╰── key ────▶│            │ ╰───▶│            │
//! └ rate ──────┘      └ rate ──────┘              └ rate ──────┘      └ rate ──────┘
//! ```
//!
//! Every box begins on an even row, and lines leave boxes on odd rows and enter them on even ones: so no two lines that do not
//! belong together lie in one row. Where they go up or down each trunk has a lane of its own; ways for which no lane is left are
//! told in words.

use super::super::table::shortened;
use super::super::terminal::printable;
use super::canvas::{Canvas, DOWN, LEFT, Look, RIGHT, UP};
use super::lanes::{Trunk, assign};
use super::picture::{LAYERS, Layer, Node, Picture};
use super::words::{self, Card};

/// Fewest columns that a picture needs.
pub(super) const COLUMNS_MIN: usize = 72;

/// Most ways into a queue that are drawn.
const ENTRIES_MAX: usize = 3;

/// Most lines below the picture that tell what could not be drawn.
const NOTES_MAX: usize = 8;

/// The picture on a sheet.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    /// The sheet.
    pub(super) canvas: Canvas,
    /// The cells that the line of each edge takes, in order; none if it is not drawn.
    pub(super) paths: Vec<Vec<(usize, usize)>>,
}

/// Where columns begin, and how wide everything is.
#[derive(Debug, Clone, Copy)]
struct Measures {
    box_width: usize,
    /// For lines that go up or down between two columns.
    lanes: usize,
    /// For what bindings say.
    label: usize,
}

impl Measures {
    fn of(columns: usize) -> Self {
        let more = columns.saturating_sub(80);
        let label = 9 + (more / 5).min(22);
        let lanes = 4 + (more / 15).min(6);
        // An arrow in each of the three gaps.
        let box_width = (columns - label - 3 * (lanes + 1)) / LAYERS;
        Self { box_width: box_width.min(40), lanes, label }
    }

    /// Where a column of boxes begins.
    fn column(&self, layer: usize) -> usize {
        let labels = if layer > Layer::Exchanges.index() { self.label } else { 0 };
        layer * (self.box_width + self.lanes + 1) + labels
    }
}

/// A box on its place.
#[derive(Debug, Clone, Copy)]
struct Place {
    x: usize,
    y: usize,
    /// Rows between its borders.
    rows: usize,
}

/// Draws a picture into so many columns ([`COLUMNS_MIN`] at least), as high as it becomes.
pub(super) fn draw(picture: &Picture, columns: usize) -> Drawing {
    let columns = columns.max(COLUMNS_MIN);
    let measures = Measures::of(columns);
    let ways = ways(picture);
    let places = places(picture, &measures, &ways);
    let bottom = places.iter().map(|place| place.y + place.rows + 2).max().unwrap_or(HEAD_ROWS);
    let mut sketch = Sketch {
        picture,
        measures,
        places,
        ways,
        paths: vec![Vec::new(); picture.edges.len()],
        undrawn: Vec::new(),
    };
    let mut canvas = Canvas::new(columns, bottom);
    for layer in Layer::ALL {
        let x = measures.column(layer.index());
        canvas.text(x, 1, measures.box_width, layer.words(), Look::Faint);
    }
    canvas.text(0, 0, columns, &words::summary(picture), Look::Bold);
    for gap in 0..LAYERS - 1 {
        sketch.draw_gap(&mut canvas, gap);
    }
    for (node, place) in picture.nodes.iter().zip(&sketch.places) {
        draw_box(&mut canvas, node, picture, *place, measures.box_width);
    }
    let notes = sketch.notes();
    let mut below = Canvas::new(columns, notes.len());
    for (y, note) in notes.iter().enumerate() {
        below.text(0, y, columns, &shortened(&printable(note), columns), Look::Faint);
    }
    canvas.append(below);
    Drawing { canvas, paths: sketch.paths }
}

/// Above the boxes; an even number.
const HEAD_ROWS: usize = 2;

/// A row in which an edge enters its node, counted from the top border of that.
type Entry = Option<usize>;

/// In which row each edge enters the box that it leads to. All enter in one, but for queues, where each has its label.
fn ways(picture: &Picture) -> Vec<Entry> {
    let mut entered = vec![0; picture.nodes.len()];
    let way = |edge: &super::picture::Edge| {
        let (from, to) = (picture.nodes[edge.from].layer().index(), picture.nodes[edge.to].layer().index());
        if to != from + 1 {
            return None;
        }
        if to != Layer::Queues.index() {
            return Some(2);
        }
        entered[edge.to] += 1;
        (entered[edge.to] <= ENTRIES_MAX).then(|| 2 * entered[edge.to])
    };
    picture.edges.iter().map(way).collect()
}

fn places(picture: &Picture, measures: &Measures, ways: &[Entry]) -> Vec<Place> {
    let mut rows = vec![2; picture.nodes.len()];
    for (edge, entry) in picture.edges.iter().zip(ways) {
        rows[edge.to] = rows[edge.to].max(entry.unwrap_or(0));
    }
    let mut next = [HEAD_ROWS; LAYERS];
    let place = |(node, rows): (&Node, usize)| {
        let layer = node.layer().index();
        let place = Place { x: measures.column(layer), y: next[layer], rows };
        next[layer] += rows + 2;
        place
    };
    picture.nodes.iter().zip(rows).map(place).collect()
}

struct Sketch<'p> {
    picture: &'p Picture,
    measures: Measures,
    places: Vec<Place>,
    ways: Vec<Entry>,
    paths: Vec<Vec<(usize, usize)>>,
    /// Edges that are told in words.
    undrawn: Vec<usize>,
}

impl Sketch<'_> {
    /// Draws all lines between two neighbouring columns. What comes from one box shares a trunk; only producers are many for
    /// few exchanges: there it is what goes to one box.
    fn draw_gap(&mut self, canvas: &mut Canvas, gap: usize) {
        let by_target = gap == Layer::Producers.index();
        let edges = self.picture.edges.iter().enumerate().filter(|(index, edge)| {
            self.picture.nodes[edge.from].layer().index() == gap && self.ways[*index].is_some()
        });
        let mut trunks: Vec<Trunk> = Vec::new();
        for (index, edge) in edges {
            let node = if by_target { edge.to } else { edge.from };
            let rows = [self.exit(index), self.entry(index)];
            match trunks.iter_mut().find(|trunk| trunk.node == node) {
                Some(trunk) => trunk.add(index, rows),
                None => trunks.push(Trunk::new(node, index, rows)),
            }
        }
        for (trunk, lane) in assign(trunks, self.measures.lanes) {
            for edge in trunk.edges {
                match lane {
                    Some(lane) => self.draw_line(canvas, edge, lane, trunk.node),
                    None => self.undrawn.push(edge),
                }
            }
        }
    }

    fn exit(&self, edge: usize) -> usize {
        self.places[self.picture.edges[edge].from].y + 1
    }

    fn entry(&self, edge: usize) -> usize {
        self.places[self.picture.edges[edge].to].y + self.ways[edge].unwrap_or(0)
    }

    fn draw_line(&mut self, canvas: &mut Canvas, index: usize, lane: usize, trunk: usize) {
        let edge = &self.picture.edges[index];
        let (left, right) = (self.places[edge.from].x + self.measures.box_width, self.places[edge.to].x - 1);
        let (exit, entry, turn) = (self.exit(index), self.entry(index), left + lane);
        let mut path = Vec::new();
        for x in left..turn {
            canvas.line(x, exit, trunk, LEFT | RIGHT);
            path.push((x, exit));
        }
        let (away, back) = if exit < entry { (DOWN, UP) } else { (UP, DOWN) };
        canvas.line(turn, exit, trunk, LEFT | away);
        path.push((turn, exit));
        let between: Vec<usize> =
            if exit < entry { (exit + 1..entry).collect() } else { (entry + 1..exit).rev().collect() };
        for y in between {
            canvas.line(turn, y, trunk, UP | DOWN);
            path.push((turn, y));
        }
        canvas.line(turn, entry, trunk, back | RIGHT);
        path.push((turn, entry));
        for x in turn + 1..right {
            canvas.line(x, entry, trunk, LEFT | RIGHT);
            path.push((x, entry));
        }
        canvas.put(right, entry, '▶', Look::Plain);
        let label = words::label(edge);
        if !label.is_empty() && right > self.measures.label + left {
            // What is left of the line on both sides shows that it goes on.
            let columns = self.measures.label - 2;
            let label = shortened(&printable(&label), columns);
            canvas.text(right - columns - 1, entry, columns, &label, Look::Plain);
        }
        self.paths[index] = path;
    }

    /// What is there and could not be drawn.
    fn notes(&self) -> Vec<String> {
        let mut told: Vec<String> = self
            .picture
            .edges
            .iter()
            .enumerate()
            .filter(|(index, _)| self.ways[*index].is_none() || self.undrawn.contains(index))
            .map(|(_, edge)| {
                let name = |node: usize| Card::of(&self.picture.nodes[node], self.picture).name;
                match words::label(edge) {
                    label if label.is_empty() => format!("also: {} ─▶ {}", name(edge.from), name(edge.to)),
                    label => format!("also: {} ─ {label} ─▶ {}", name(edge.from), name(edge.to)),
                }
            })
            .collect();
        let more = told.len().saturating_sub(NOTES_MAX);
        told.truncate(NOTES_MAX);
        if more > 0 {
            told.push(format!("and {} more lines", words::grouped(more as u64)));
        }
        told.extend(words::left_out(self.picture));
        told
    }
}

fn draw_box(canvas: &mut Canvas, node: &Node, picture: &Picture, place: Place, width: usize) {
    let card = Card::of(node, picture);
    let look = match (node.is_dark(), node.is_troubled()) {
        (true, _) => Look::Faint,
        (_, true) => Look::Red,
        _ => Look::Plain,
    };
    let (across, down) = if node.is_dark() { ('╌', '╎') } else { ('─', '│') };
    let Place { x, y, rows } = place;
    let inner = width - 2;
    let bottom = y + rows + 1;
    for column in x + 1..x + width - 1 {
        canvas.put(column, y, across, look);
        canvas.put(column, bottom, across, look);
    }
    for row in y + 1..bottom {
        canvas.put(x, row, down, look);
        canvas.put(x + width - 1, row, down, look);
    }
    for (column, row, corner) in
        [(x, y, '┌'), (x + width - 1, y, '┐'), (x, bottom, '└'), (x + width - 1, bottom, '┘')]
    {
        canvas.put(column, row, corner, look);
    }
    for (row, words) in [(y, &card.title), (bottom, &card.rate)] {
        let padded: Vec<String> =
            words.iter().filter(|words| !words.is_empty()).map(|words| format!(" {words} ")).collect();
        let bare = words.last().cloned();
        canvas.text(x + 1, row, inner, &fitting(&[padded, bare.into_iter().collect()].concat(), inner), look);
    }
    let name_look = if look == Look::Plain { Look::Bold } else { look };
    canvas.text(x + 1, y + 1, inner, &fitting(std::slice::from_ref(&card.name), inner), name_look);
    canvas.text(x + 1, y + 2, inner, &fitting(&card.detail, inner), look);
}

/// The longest words that fit, or as much of the shortest as does.
fn fitting(words: &[String], columns: usize) -> String {
    use unicode_width::UnicodeWidthStr;

    let words: Vec<String> = words.iter().map(|words| printable(words)).collect();
    let fits = words.iter().find(|words| words.width() <= columns);
    fits.cloned().unwrap_or_else(|| words.last().map_or(String::new(), |words| shortened(words, columns)))
}
