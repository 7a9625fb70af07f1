//! What is to be drawn: which names, and how many of them.

/// What of a virtual host is drawn.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Patterns of exchanges; none: all.
    pub(super) exchanges: Vec<String>,
    /// Patterns of queues; none: all.
    pub(super) queues: Vec<String>,
    /// Most nodes of a layer.
    pub(super) limit: usize,
}

impl Scope {
    /// Whether an exchange is asked for, by name or because no exchange is.
    pub(super) fn has_exchange(&self, name: &str) -> bool {
        is_any(&self.exchanges, name)
    }

    /// The same for a queue.
    pub(super) fn has_queue(&self, name: &str) -> bool {
        is_any(&self.queues, name)
    }
}

fn is_any(patterns: &[String], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, name))
}

/// Whether a name is a pattern's, in which each `*` stands for any letters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        let check = |pattern, name, expect| assert_eq!(fits(pattern, name), expect, "{pattern} {name}");
        check("orders", "orders", true);
        check("orders", "orders.eu", false);
        check("orders*", "orders.eu", true);
        check("*.eu", "orders.eu", true);
        check("*.eu", "orders.eu.x", false);
        check("o*.e*", "orders.eu", true);
        check("a*a", "a", false);
        check("a*b*b", "axb", false);
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
        check("*ü*", "grün", true);
    }
}
