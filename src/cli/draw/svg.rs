//! The picture as a file in SVG that stands alone: no font, script or style comes from elsewhere, and it follows the light or
//! dark mode of whoever looks at it.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

use super::super::terminal::printable;
use super::picture::{Edge, LAYERS, Layer, Node, Picture, What};
use super::words::{self, Card};

/// Size of a box, and from one to the next, in pixels.
const BOX_WIDTH: usize = 196;
const BOX_HEIGHT: usize = 66;
const COLUMN: usize = 330;
const ROW: usize = 84;
const MARGIN: usize = 20;
/// Above the boxes.
const HEAD: usize = 68;
/// Of a line of text.
const LINE: usize = 18;

/// Columns of a letter's width that fit into a box, and beside an edge.
const BOX_TEXT_COLUMNS: usize = 26;
const EDGE_TEXT_COLUMNS: usize = 16;

const STYLE: &str = "\
text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1f2328;unicode-bidi:isolate}\
.paper{fill:#fff}.head{font-size:15px;font-weight:600}.column,.small,.note{fill:#59636e}.small{font-size:11px}\
.name{font-weight:600}.box{fill:#f6f8fa;stroke:#59636e;stroke-width:1.2}.exchange{fill:#ddf4ff;stroke:#0969da}\
.queue{fill:#fff8c5;stroke:#9a6700}.reader{fill:#dafbe1;stroke:#1a7f37}.trouble{stroke:#cf222e;stroke-width:3}\
.tip{fill:#59636e}.edge{fill:none;stroke:#59636e;stroke-width:1.2}.busy{stroke:#0969da;stroke-width:2.4}\
.label{paint-order:stroke;stroke:#fff;stroke-width:4px;font-size:11px}\
.dark{opacity:.5}.dark .box,.edge.dark{stroke-dasharray:5 4}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.paper{fill:#0d1117}.column,.small,.note{fill:#9198a1}\
.box{fill:#151b23;stroke:#9198a1}.exchange{fill:#0c2d4d;stroke:#4493f8}.queue{fill:#341a00;stroke:#d29922}\
.reader{fill:#033a16;stroke:#3fb950}.trouble{stroke:#f85149}.tip{fill:#9198a1}.edge{stroke:#9198a1}.busy{stroke:#4493f8}\
.label{stroke:#0d1117}}";

/// The file.
pub(super) fn render(picture: &Picture) -> String {
    let rows = Layer::ALL.map(|layer| picture.layer(layer).count());
    let rows_max = rows.into_iter().max().unwrap_or(0).max(1);
    let notes = words::left_out(picture);
    let width = 2 * MARGIN + (LAYERS - 1) * COLUMN + BOX_WIDTH;
    let height = HEAD + rows_max * ROW + notes.len() * LINE + MARGIN;
    let places = places(picture, rows, rows_max);
    let title = escaped(&words::summary(picture));
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"title\">\n\
         <title id=\"title\">{title}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" class=\"tip\"/></marker></defs>\n\
         <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"head\" x=\"{MARGIN}\" y=\"28\">{title}</text>"
    );
    for layer in Layer::ALL {
        let x = MARGIN + layer.index() * COLUMN;
        let _ = writeln!(out, "<text class=\"column\" x=\"{x}\" y=\"54\">{}</text>", layer.words());
    }
    let mut labels = String::new();
    for edge in picture.edges.iter().zip(entries(picture)) {
        draw_edge(&mut out, &mut labels, edge, picture, &places);
    }
    for (node, (x, y)) in picture.nodes.iter().zip(&places) {
        draw_node(&mut out, node, picture, *x, *y);
    }
    out.push_str(&labels);
    for (index, note) in notes.iter().enumerate() {
        let y = HEAD + rows_max * ROW + index * LINE + 4;
        let _ = writeln!(out, "<text class=\"note\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", escaped(note));
    }
    out.push_str("</svg>\n");
    out
}

/// The upper left corner of each node: the boxes of a column stand in its middle.
fn places(picture: &Picture, rows: [usize; LAYERS], rows_max: usize) -> Vec<(usize, usize)> {
    let mut next = [0; LAYERS];
    let place = |node: &Node| {
        let layer = node.layer().index();
        let above = (rows_max - rows[layer]) * ROW / 2;
        let place = (MARGIN + layer * COLUMN, HEAD + above + next[layer] * ROW);
        next[layer] += 1;
        place
    };
    picture.nodes.iter().map(place).collect()
}

fn draw_node(out: &mut String, node: &Node, picture: &Picture, x: usize, y: usize) {
    let card = Card::of(node, picture);
    let class = match node.what {
        What::Producer { .. } => "",
        What::Exchange { .. } => " exchange",
        What::Queue { .. } => " queue",
        What::Subscription { .. } | What::Consumer { .. } => " reader",
    };
    let trouble = if node.is_troubled() { " trouble" } else { "" };
    let dark = if node.is_dark() { " class=\"dark\"" } else { "" };
    let whole = format!("{} {}: {}", card.title[0], card.name, card.detail[0]);
    let whole = whole.trim_end_matches(": ");
    let _ = writeln!(
        out,
        "<g{dark}><title>{}</title><rect class=\"box{class}{trouble}\" x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
         height=\"{BOX_HEIGHT}\" rx=\"6\"/>",
        escaped(whole)
    );
    let heading = format!("{} · {}", fitting(&card.title, 16), card.rate[card.rate.len() - 1]);
    let lines =
        [("small", heading), ("name", card.name), ("small", fitting(&card.detail, BOX_TEXT_COLUMNS + 2))];
    for (index, (class, text)) in lines.into_iter().enumerate().filter(|(_, (_, text))| !text.is_empty()) {
        let text = escaped(&cut(&text, BOX_TEXT_COLUMNS + 2 * usize::from(class == "small")));
        let (x, y) = (x + 10, y + 19 + index * LINE);
        let _ = writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
    }
    out.push_str("</g>\n");
}

/// Where an edge enters its box: each at a height of its own.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its number among those that enter there.
    index: usize,
    /// How many do.
    all: usize,
}

fn entries(picture: &Picture) -> Vec<Entry> {
    let (mut all, mut next) = (vec![0; picture.nodes.len()], vec![0; picture.nodes.len()]);
    picture.edges.iter().for_each(|edge| all[edge.to] += 1);
    let entry = |edge: &Edge| {
        next[edge.to] += 1;
        Entry { index: next[edge.to] - 1, all: all[edge.to] }
    };
    picture.edges.iter().map(entry).collect()
}

/// Most texts beside the edges that enter one box: more of them would lie one upon the other. All stand in the titles that a
/// browser shows.
const LABELS_MAX: usize = 4;

fn draw_edge(
    out: &mut String,
    labels: &mut String,
    (edge, entry): (&Edge, Entry),
    picture: &Picture,
    places: &[(usize, usize)],
) {
    let ((from_x, from_y), (to_x, to_y)) = (places[edge.from], places[edge.to]);
    let is_same_column = from_x == to_x;
    let (from_x, from_y) = (from_x + BOX_WIDTH, from_y + BOX_HEIGHT / 2);
    let to_y = to_y + BOX_HEIGHT * (entry.index + 1) / (entry.all + 1);
    // Between exchanges: out on the right side, and in again there.
    let (to_x, bend) = if is_same_column { (from_x, 70) } else { (to_x, (to_x - from_x) / 2) };
    let end_bend = if is_same_column { to_x + bend } else { to_x - bend };
    let dark = if picture.nodes[edge.to].is_dark() { " dark" } else { "" };
    let busy = if edge.flow.least > 0 { " busy" } else { "" };
    let rate = words::edge_rate(edge, picture).filter(|_| edge.flow.least > 0).unwrap_or_default();
    let title = format!("{} {rate}", edge.labels.join(", "));
    let _ = writeln!(
        out,
        "<path class=\"edge{busy}{dark}\" marker-end=\"url(#arrow)\" \
         d=\"M{from_x} {from_y}C{} {from_y} {end_bend} {to_y} {to_x} {to_y}\"><title>{}</title></path>",
        from_x + bend,
        escaped(title.trim())
    );
    let text = match rate.is_empty() {
        true => cut(&words::label(edge), EDGE_TEXT_COLUMNS),
        false => format!("{} {rate}", cut(&words::label(edge), EDGE_TEXT_COLUMNS - 6)).trim().to_owned(),
    };
    if text.is_empty() || entry.all > LABELS_MAX {
        return;
    }
    // Near its end, where edges are apart that begin at one node.
    let (x, y) = if is_same_column { (from_x + 58, (from_y + to_y) / 2) } else { (to_x - 12, to_y - 3) };
    let anchor = if is_same_column { "start" } else { "end" };
    let text = escaped(&text);
    let _ =
        writeln!(labels, "<text class=\"label\" text-anchor=\"{anchor}\" x=\"{x}\" y=\"{y}\">{text}</text>");
}

/// The longest words that fit, or the shortest ones.
fn fitting(words: &[String], columns: usize) -> String {
    let fits = words.iter().find(|words| width(&printable(words)) <= columns);
    fits.or(words.last()).cloned().unwrap_or_default()
}

/// About as wide as it looks: some letters are wider than others, but none of two columns is one.
fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

fn cut(text: &str, columns: usize) -> String {
    super::super::table::shortened(&printable(text), columns)
}

/// Text as XML has it. What XML cannot have, and what reorders text, is written as an escape.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => drop(write!(out, "{}", c.escape_unicode())),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_end_its_text() {
        let check = |name, expect: &str| assert_eq!(escaped(name), expect);
        check("</text><script>&\"'", "&lt;/text&gt;&lt;script&gt;&amp;&quot;&#39;");
        check("a\0b\u{1b}\n\u{202e}\u{ffff}", "a\\u{0}b\\u{1b}\\n\\u{202e}\\u{ffff}");
        check("日本 שלום", "日本 שלום");
    }
}
