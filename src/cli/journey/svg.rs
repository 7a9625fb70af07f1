//! A picture: a lane for each who takes part, a line for each step.

use std::fmt::Write;

use super::picture::{Mark, Picture, after};
use crate::cli::table::shortened;

const LANE_WIDTH: usize = 220;
const STEP_HEIGHT: usize = 34;
const LEFT: usize = 90;
const TOP: usize = 90;
/// Letters of a name above its lane.
const NAME_COLUMNS: usize = 30;
/// Letters of a step, of which the whole text shows when it is pointed at.
const WORDS_COLUMNS: usize = 60;

pub(super) fn drawn(picture: &Picture, title: &str) -> String {
    let width = LEFT + picture.lanes.len() * LANE_WIDTH + 260;
    let height = TOP + picture.steps.len() * STEP_HEIGHT + 30;
    let mut out = String::new();
    put(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
        ),
    );
    put(&mut out, format_args!("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"));
    put(
        &mut out,
        format_args!("<text x=\"10\" y=\"22\" font-size=\"14\">{}</text>", escaped(title.trim_end())),
    );
    for (number, lane) in picture.lanes.iter().enumerate() {
        let x = middle(number);
        let name = lane.name.as_str();
        let short = escaped(&shortened(name, NAME_COLUMNS));
        put(
            &mut out,
            format_args!(
                "<text x=\"{x}\" y=\"52\" text-anchor=\"middle\" font-weight=\"bold\">{short}<title>{}</title></text>",
                escaped(name)
            ),
        );
        let bottom = height - 20;
        put(
            &mut out,
            format_args!(
                "<line x1=\"{x}\" y1=\"62\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#bbb\" stroke-dasharray=\"4 4\"/>"
            ),
        );
    }
    let mut last = None;
    for (row, step) in picture.steps.iter().enumerate() {
        let y = TOP + row * STEP_HEIGHT;
        if last != Some(step.after_ms) {
            let time = after(step.after_ms);
            put(&mut out, format_args!("<text x=\"10\" y=\"{y}\" fill=\"#666\">{time}</text>"));
            last = Some(step.after_ms);
        }
        let colour = match step.mark {
            Mark::None => "#333",
            Mark::Good => "#1a7f37",
            Mark::Bad => "#cf222e",
        };
        let (from, to) = (middle(step.from), middle(step.to));
        if from == to {
            put(&mut out, format_args!("<circle cx=\"{from}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"/>"));
        } else {
            let (tip, back) = if to > from { (to, to - 8) } else { (to, to + 8) };
            let (above, below) = (y - 4, y + 4);
            put(
                &mut out,
                format_args!(
                    "<line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" stroke=\"{colour}\"/>\
                 <polygon points=\"{tip},{y} {back},{above} {back},{below}\" fill=\"{colour}\"/>"
                ),
            );
        }
        let words = step.words();
        let (x, above) = (from.min(to) + 10, y - 6);
        put(
            &mut out,
            format_args!(
                "<text x=\"{x}\" y=\"{above}\" fill=\"{colour}\">{}<title>{}</title></text>",
                escaped(&shortened(&words, WORDS_COLUMNS)),
                escaped(&words)
            ),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn middle(lane: usize) -> usize {
    LEFT + lane * LANE_WIDTH + LANE_WIDTH / 2
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(out, "{words}");
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_stay_text() {
        assert_eq!(escaped("</text><script>\"&"), "&lt;/text&gt;&lt;script&gt;&quot;&amp;");
    }
}
