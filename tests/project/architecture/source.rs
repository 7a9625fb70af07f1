//! What a source file says that matters here: the paths it names, and where its tests stand.

use super::tokens::{Token, tokens};

/// A file of the source.
pub(crate) struct Source {
    /// From the root of the project: `src/queue/queue.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A path named in the source, with what stands in braces spread out: `use a::{b, c::d}` names `a::b` and `a::c::d`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Inside a module under `#[cfg(test)]`.
    pub(crate) in_test: bool,
    /// How many modules of the file surround it: 0 at the top.
    pub(crate) depth: usize,
}

/// What is in a file.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) named: Vec<Named>,
    /// Modules in files of their own that are declared under `#[cfg(test)]`.
    pub(crate) test_modules: Vec<String>,
    /// The first line of a module under `#[cfg(test)]`, or the number of lines and 1.
    pub(crate) first_test_line: usize,
}

impl Source {
    /// The module of level 1 it belongs to: `queue`; for `src/lib.rs` and `src/main.rs`, `lib` and `main`.
    pub(crate) fn module(&self) -> &str {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').next().unwrap_or(inside)
    }

    /// How many modules lie between the root of the crate and what is written at the top of this file.
    pub(crate) fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).count()
    }

    pub(crate) fn content(&self) -> Content {
        let tokens = tokens(&self.text);
        let mut content = Content { first_test_line: self.text.lines().count() + 1, ..Content::default() };
        let mut braces = 0;
        let mut modules: Vec<Surrounding> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let text = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text.as_str());
            let in_test = modules.last().is_some_and(|module| module.is_test);
            match (text(0), text(2)) {
                ("mod", "{") => {
                    let is_test = in_test || is_under_cfg_test(&tokens[..at]);
                    if is_test {
                        content.first_test_line = content.first_test_line.min(tokens[at].line);
                    }
                    modules.push(Surrounding { is_test, braces_outside: braces });
                    braces += 1;
                    at += 3;
                }
                ("mod", ";") => {
                    if is_under_cfg_test(&tokens[..at]) {
                        content.test_modules.push(text(1).to_owned());
                    }
                    at += 3;
                }
                ("{", _) => (braces, at) = (braces + 1, at + 1),
                ("}", _) => {
                    braces -= 1;
                    modules.pop_if(|module| module.braces_outside == braces);
                    at += 1;
                }
                _ if starts_path(&tokens, at) => {
                    let first = content.named.len();
                    at = read_path(&tokens, at, Vec::new(), &mut content.named);
                    for named in &mut content.named[first..] {
                        (named.in_test, named.depth) = (in_test, modules.len());
                    }
                }
                _ => at += 1,
            }
        }
        content
    }
}

/// A module that what is read stands in.
struct Surrounding {
    is_test: bool,
    braces_outside: i32,
}

/// Whether what follows `before` has the attribute `#[cfg(test)]`, perhaps among others and before `pub`.
fn is_under_cfg_test(before: &[Token]) -> bool {
    let end = before.iter().rposition(|token| ["}", ";", "{"].contains(&token.text.as_str()));
    let attributes = &before[end.map_or(0, |end| end + 1)..];
    let words = ["#", "[", "cfg", "(", "test", ")", "]"];
    attributes.windows(words.len()).any(|window| window.iter().map(|token| token.text.as_str()).eq(words))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// A word that begins a path of at least two parts, or a single one that may be the name of a crate.
fn starts_path(tokens: &[Token], at: usize) -> bool {
    let goes_on = at > 0 && tokens[at - 1].text == "::" && at > 1 && is_word(&tokens[at - 2].text);
    is_word(&tokens[at].text) && !goes_on
}

/// Reads the path at `at`, which goes on from `prefix`, into `named`. Returns where it ends.
fn read_path(tokens: &[Token], mut at: usize, prefix: Vec<String>, named: &mut Vec<Named>) -> usize {
    let mut segments = prefix;
    let line = tokens[at].line;
    loop {
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        if is_word(text(at)) {
            segments.push(text(at).to_owned());
            at += 1;
        }
        match (text(at), text(at + 1)) {
            ("::", "{") => return read_group(tokens, at + 2, &segments, named),
            ("::", next) if is_word(next) => at += 1,
            ("::", "*") => {
                segments.push("*".to_owned());
                at += 2;
                break;
            }
            _ => break,
        }
    }
    named.push(Named { segments, line, in_test: false, depth: 0 });
    at
}

/// Reads what stands between the braces of a `use`, up to the closing one.
fn read_group(tokens: &[Token], mut at: usize, prefix: &[String], named: &mut Vec<Named>) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "}" => return at + 1,
            // The new name of an import is no path.
            "as" => at += 2,
            text if is_word(text) => at = read_path(tokens, at, prefix.to_vec(), named),
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn names(text: &str) -> Vec<String> {
        let content = source("src/a/b.rs", text).content();
        let named = content.named.iter().filter(|named| named.segments.len() > 1);
        named.map(|named| format!("{}:{}", named.line, named.segments.join("::"))).collect()
    }

    #[test]
    fn paths_are_spread_out() {
        assert_eq!(names("use crate::a::B;"), ["1:crate::a::B"]);
        assert_eq!(
            names("use crate::{a, b::{self, C},\n d::*, e as f};\nuse x::y as z;"),
            ["1:crate::a", "1:crate::b::self", "1:crate::b::C", "2:crate::d::*", "2:crate::e", "3:x::y"]
        );
        assert_eq!(names("let x = ::std::fs::read(y)"), ["1:std::fs::read"]);
        assert_eq!(names("Vec::<a::B>::new()"), ["1:a::B"]);
        assert_eq!(names("// use a::b;\n\"a::b\""), [""; 0]);
    }

    #[test]
    fn tests_are_told_apart() {
        let text = "use a::b;\nmod c { use d::e; }\n#[cfg(test)]\n#[allow(x)]\nmod f {\n use g::h;\n mod i { j::k(); }\n}\nl::m();";
        let content = source("src/a/b.rs", text).content();
        let found: Vec<_> = content.named.iter().filter(|named| named.segments.len() > 1).collect();
        let found: Vec<_> =
            found.iter().map(|named| (named.segments[0].as_str(), named.in_test, named.depth)).collect();
        assert_eq!(
            found,
            [("a", false, 0), ("d", false, 1), ("g", true, 1), ("j", true, 2), ("l", false, 0)]
        );
        assert_eq!(content.first_test_line, 5);
        let content = source("src/a/mod.rs", "mod b;\n#[cfg(test)]\nmod tests;\nmod c;").content();
        assert_eq!(content.test_modules, ["tests"]);
        assert_eq!(content.first_test_line, 5);
    }

    #[test]
    fn a_file_knows_its_place() {
        let places = [
            ("src/lib.rs", "lib", 0),
            ("src/queue/mod.rs", "queue", 1),
            ("src/queue/queue.rs", "queue", 2),
            ("src/routing/kind/topic.rs", "routing", 3),
            ("src/flat.rs", "flat", 1),
        ];
        for (path, module, depth) in places {
            let source = source(path, "");
            assert_eq!((source.module(), source.depth()), (module, depth), "{path}");
        }
    }
}
