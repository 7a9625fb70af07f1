//! Rust source cut into words and signs: without comments, and with nothing of what stands in strings.

/// A word or a sign, and the line it stands in, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// `::` is one token, and so is every other sign by itself. Strings, characters and lifetimes leave none; numbers may.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source, line: 1, tokens: Vec::new() };
    while !reader.rest.is_empty() {
        reader.step();
    }
    reader.tokens
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment_len(rest));
        } else if let Some(len) = raw_string_len(rest) {
            self.skip(len);
        } else if rest.starts_with('"') {
            self.skip(quoted_len(rest, '"'));
        } else if rest.starts_with('\'') {
            self.skip(character_or_lifetime_len(rest));
        } else if rest.starts_with("::") {
            self.keep(2);
        } else {
            let word = word_len(rest);
            let first = rest.chars().next().expect("`step` is called while there is something left");
            match word {
                0 if first.is_whitespace() => self.skip(first.len_utf8()),
                0 => self.keep(first.len_utf8()),
                // The prefix of a string (b"..", c"..") is no word; raw ones are behind us.
                1 if rest[1..].starts_with('"') => self.skip(1),
                1 if first == 'b' && rest[1..].starts_with('\'') => self.skip(1),
                len => self.keep(len),
            }
        }
    }

    fn keep(&mut self, len: usize) {
        self.tokens.push(Token { text: self.rest[..len].to_owned(), line: self.line });
        self.skip(len);
    }

    fn skip(&mut self, len: usize) {
        let (skipped, rest) = self.rest.split_at(len);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

fn word_len(text: &str) -> usize {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    end.unwrap_or(text.len())
}

fn block_comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of r"..", r#".."#, br".." and the like at the beginning of `text`, if there is one.
fn raw_string_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?.len();
    let hashes = text[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let content = prefix + hashes + 1;
    if !text[prefix + hashes..].starts_with('"') {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[content..].find(&end).map_or(text.len(), |at| content + at + end.len()))
}

/// The length of what begins with `quote` and ends with the next one that is not escaped.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn character_or_lifetime_len(text: &str) -> usize {
    let mut behind = text[1..].chars();
    let first = behind.next();
    match (first, behind.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted_len(text, '\''),
        _ => 1 + word_len(&text[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn check(source: &str, expected: &str) {
        let words: Vec<_> = tokens(source).into_iter().map(|token| token.text).collect();
        assert_eq!(words.join(" "), expected, "{source}");
    }

    #[test]
    fn comments_and_strings_leave_nothing() {
        check("use a::b; // use c::d;\ne", "use a :: b ; e");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"f("a \" b", b"c", c"d") g"#, "f ( , , ) g");
        check(r##"f(r"a\", r#"b " c"#, br"d") g"##, "f ( , , ) g");
        check(r"f('a', '\'', b'\\', '\u{1}', 'ä') g", "f ( , , , , ) g");
        check("fn f<'a>(x: &'a str, y: &'static u8)", "fn f < > ( x : & str , y : & u8 )");
        check("bread::r::b r#type", "bread :: r :: b r # type");
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let lines: Vec<_> = tokens("a\n/* \n */ b \"\n\n\" c\nd").iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 5, 6]);
    }

    #[test]
    fn what_does_not_end_ends_with_the_file() {
        for source in ["/* a", "\"a", "r#\"a\"", "'", "'\\", "b'"] {
            tokens(source);
        }
    }
}
