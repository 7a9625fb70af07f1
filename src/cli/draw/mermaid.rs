//! The picture as a flowchart in Mermaid's language, which GitHub draws.

use std::fmt::Write;

use super::super::terminal::printable;
use super::picture::{Layer, Picture, What};
use super::words::{self, Card};

/// Letters of a text at most: more make a picture that nobody can read.
const TEXT_CHARS_MAX: usize = 60;

/// The flowchart, from left to right.
pub(super) fn render(picture: &Picture) -> String {
    let mut out = String::from("flowchart LR\n");
    for layer in Layer::ALL {
        for index in picture.layer(layer) {
            let node = &picture.nodes[index];
            let card = Card::of(node, picture);
            let lines = [&card.name, first(&card.title), first(&card.detail), first(&card.rate)];
            let lines: Vec<String> =
                lines.into_iter().filter(|line| !line.is_empty()).map(|line| text(line)).collect();
            let (open, close) = match node.what {
                What::Producer { .. } | What::Consumer { .. } => ("[", "]"),
                What::Exchange { .. } => ("{{", "}}"),
                What::Queue { .. } => ("[(", ")]"),
                What::Subscription { .. } => ("([", "])"),
            };
            let class = if node.is_dark() {
                ":::dark"
            } else if node.is_troubled() {
                ":::trouble"
            } else {
                ""
            };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "  n{index}{open}\"{}\"{close}{class}", lines.join("<br/>"));
        }
    }
    for edge in &picture.edges {
        let rate = words::edge_rate(edge, picture).filter(|_| edge.flow.least > 0);
        let words: Vec<String> = [Some(words::label(edge)).filter(|label| !label.is_empty()), rate]
            .into_iter()
            .flatten()
            .map(|line| text(&line))
            .collect();
        let arrow = if picture.nodes[edge.to].is_dark() { "-.->" } else { "-->" };
        let _ = match words.is_empty() {
            true => writeln!(out, "  n{} {arrow} n{}", edge.from, edge.to),
            false => writeln!(out, "  n{} {arrow}|\"{}\"| n{}", edge.from, words.join("<br/>"), edge.to),
        };
    }
    for (index, told) in words::left_out(picture).iter().enumerate() {
        let _ = writeln!(out, "  more{index}[\"{}\"]:::note", text(told));
    }
    out.push_str("  classDef dark stroke-dasharray:5 5,opacity:0.55\n");
    out.push_str("  classDef trouble stroke:#d33,stroke-width:3px\n");
    out.push_str("  classDef note stroke:none,fill:none\n");
    out
}

fn first(words: &[String]) -> &String {
    &words[0]
}

/// A text that Mermaid shows as it is: all that could mean something to it, or to the page around it, is written as the number
/// of its character.
fn text(text: &str) -> String {
    let text = printable(text);
    let mut shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let mut out = String::new();
    for c in shown.chars() {
        // At the beginning of a text a number with a point, or a dash, is taken for a list.
        let is_point = matches!(c, '.' | '-') && out.chars().any(char::is_alphabetic);
        let is_plain = is_point
            || c.is_alphanumeric()
            || !c.is_ascii()
            || matches!(c, ' ' | '/' | ':' | ',' | '@' | '_');
        match is_plain {
            true => out.push(c),
            false => drop(write!(out, "#{};", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_end_its_text_or_begin_another() {
        let check = |name, expect: &str| assert_eq!(text(name), expect);
        check("orders", "orders");
        check("\"]; click n0", "#34;#93;#59; click n0");
        check("<b>&|`#", "#60;b#62;#38;#124;#96;#35;");
        check("1. a\nb", "1#46; a#92;nb");
        check("日本 שלום", "日本 שלום");
        assert_eq!(text(&"x".repeat(255)).chars().count(), TEXT_CHARS_MAX + 1);
    }
}
