//! Code on the pages is shown as what it is: every block names a language that readers' programs know.

use super::pages;

/// As hosts of repositories and rustdoc know them.
const LANGUAGES: [&str; 10] =
    ["console", "ini", "mermaid", "proto", "python", "rust,no_run", "sh", "toml", "json", "yaml"];
/// For drawings and bytes, which nobody colours.
const PLAIN: [&str; 2] = ["text", "hex"];

#[test]
fn code_says_its_language() {
    let mut faults = Vec::new();
    for page in pages() {
        for block in &page.blocks {
            let language = block.language.as_str();
            if !PLAIN.contains(&language) && !LANGUAGES.contains(&language) {
                let first = block.lines.first().map_or("", String::as_str);
                faults.push(format!("{}, #{}: '{language}' before: {first}", page.path, block.section));
            }
        }
    }
    assert!(faults.is_empty(), "{} blocks:\n{}", faults.len(), faults.join("\n"));
}
