//! A sequence diagram, as Mermaid reads it.

use std::fmt::Write;

use super::picture::{Picture, after};

pub(super) fn drawn(picture: &Picture) -> String {
    let mut out = String::from("sequenceDiagram\n");
    for (number, lane) in picture.lanes.iter().enumerate() {
        line(&mut out, format_args!("participant L{number} as {}", escaped(&lane.name)));
    }
    for step in &picture.steps {
        let words = format!("{} {}", after(step.after_ms), step.words());
        let words = escaped(&words);
        match step.from == step.to {
            true => line(&mut out, format_args!("Note over L{}: {words}", step.from)),
            false => line(&mut out, format_args!("L{}->>L{}: {words}", step.from, step.to)),
        }
    }
    out
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = writeln!(out, "    {words}");
}

/// What would end a text, or begin something else, as Mermaid's entities.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '#' | ';' | '<' | '>' | '&' | '"' | '%' | '{' | '}' => {
                out.push_str(&format!("#{};", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_mermaid_would_take_for_something_else_is_written_as_a_number() {
        assert_eq!(escaped("key '#'; <b>"), "key '#35;'#59; #60;b#62;");
    }
}
