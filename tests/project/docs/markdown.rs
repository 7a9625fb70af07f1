//! As much of Markdown as our pages use.

/// A page, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// From the root of the project.
    pub(crate) path: String,
    pub(crate) anchors: Vec<String>,
    pub(crate) links: Vec<Linked>,
    /// What stands in backticks within text.
    pub(crate) code: Vec<Linked>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) rows: Vec<Row>,
    /// Whatever is left of a template.
    pub(crate) placeholders: Vec<usize>,
}

/// A piece of text and its line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) target: String,
    pub(crate) line: usize,
}

/// A fenced block of code.
#[derive(Debug, Default)]
pub(crate) struct Block {
    pub(crate) language: String,
    /// The anchor of the heading above.
    pub(crate) section: String,
    pub(crate) lines: Vec<String>,
}

/// A row of a table, without the heading and the line below that.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) section: String,
    pub(crate) line: usize,
    pub(crate) cells: Vec<String>,
}

impl Page {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut page = Self { path: path.to_owned(), ..Self::default() };
        let mut block: Option<Block> = None;
        let mut section = String::new();
        let mut in_table = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.contains("@@") {
                page.placeholders.push(number);
            }
            if let Some(open) = &mut block {
                match line.trim_start().starts_with("```") {
                    true => page.blocks.extend(block.take()),
                    false => open.lines.push(line.to_owned()),
                }
                continue;
            }
            if let Some(language) = line.trim_start().strip_prefix("```") {
                let (language, section) = (language.trim().to_owned(), section.clone());
                block = Some(Block { language, section, lines: Vec::new() });
                continue;
            }
            if let Some(heading) = heading(line) {
                section = page.add_anchor(heading);
            }
            in_table = match line.strip_prefix('|') {
                Some(row) => {
                    if in_table && !row.starts_with("---") && !row.starts_with(":--") {
                        let cells = cells(row);
                        page.rows.push(Row { section: section.clone(), line: number, cells });
                    }
                    true
                }
                None => false,
            };
            page.read_text(line, number);
        }
        assert!(block.is_none(), "{path}: a block of code does not end");
        page
    }

    /// As GitHub makes them: a second heading of the same text gets "-1".
    fn add_anchor(&mut self, heading: &str) -> String {
        let text = without_markup(heading).to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let before = self.anchors.iter().filter(|other| **other == anchor).count();
        let anchor = if before == 0 { anchor } else { format!("{anchor}-{before}") };
        self.anchors.push(anchor.clone());
        anchor
    }

    fn read_text(&mut self, line: &str, number: usize) {
        let mut text = String::new();
        for (index, part) in line.split('`').enumerate() {
            match index % 2 {
                0 => text.push_str(part),
                // Code within the text of a link leaves the link as it is.
                _ => self.code.push(Linked { target: part.to_owned(), line: number }),
            }
        }
        if let Some((_, target)) = text.split_once("]: ").filter(|_| text.starts_with('[')) {
            self.links.push(Linked { target: target.trim().to_owned(), line: number });
        }
        let mut rest = text.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            self.links.push(Linked { target: rest[..end].to_owned(), line: number });
        }
    }
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then_some(text)?.strip_prefix(' ')
}

/// The text of a heading: without backticks, and of links what is shown.
fn without_markup(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, behind)) = rest.split_once("](") {
        text.push_str(before);
        rest = behind.split_once(')').map_or("", |(_, behind)| behind);
    }
    text.push_str(rest);
    text.replace(['`', '[', ']', '*'], "").trim().to_owned()
}

/// A bar within a cell is written with a backslash.
fn cells(row: &str) -> Vec<String> {
    let row = row.replace("\\|", "\u{0}");
    let row = row.trim_end().trim_end_matches('|');
    row.split('|').map(|cell| cell.replace('\u{0}', "|").trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let text = "# One `two`, three\n[a](b.md) and [`c`](d.md#e), `src/f.rs`\n## Same\n```sh\n[no](link)\n\
                    # no heading\n```\n## Same\n| a | b |\n|---|---|\n| `1` | 2 \\| 3 |\n[x]: y.md\n";
        let page = Page::parse("p.md", text);
        assert_eq!(page.anchors, ["one-two-three", "same", "same-1"]);
        let links: Vec<_> = page.links.iter().map(|link| (link.target.as_str(), link.line)).collect();
        assert_eq!(links, [("b.md", 2), ("d.md#e", 2), ("y.md", 12)]);
        assert_eq!(page.blocks[0].lines, ["[no](link)", "# no heading"]);
        assert_eq!((page.blocks[0].language.as_str(), page.blocks[0].section.as_str()), ("sh", "same"));
        assert_eq!(page.rows.len(), 1);
        assert_eq!(page.rows[0].cells, ["`1`", "2 | 3"]);
        assert_eq!(page.rows[0].section, "same-1");
        assert!(page.code.contains(&Linked { target: "src/f.rs".to_owned(), line: 2 }));
        assert_eq!(page.placeholders, [0; 0]);
    }

    #[test]
    fn anchors_are_those_of_github() {
        for (heading, anchor) in [
            ("# `leveret bind`, `leveret unbind`", "leveret-bind-leveret-unbind"),
            ("## [0.1.0] - 2026-11-23", "010---2026-11-23"),
            ("## [A link](b.md) behind", "a-link-behind"),
            ("### Segment header, 64 bytes", "segment-header-64-bytes"),
        ] {
            assert_eq!(Page::parse("p.md", heading).anchors, [anchor]);
        }
    }
}
