//! The values of constants in the source, as far as bounds are written there.

/// What `name` is in `source`: a constant, or a field of a value. `other` finds constants of other files. Lengths of
/// time are in milliseconds.
pub(crate) fn value_of(name: &str, source: &str, other: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
    let constant = source.lines().find_map(|line| {
        let declared = line.split_once(&format!("const {name}: "))?.1;
        declared.split_once(" = ")?.1.strip_suffix(';')
    });
    let field = || {
        let value = source.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")))?;
        value.strip_suffix(',')
    };
    let text = constant.or_else(field)?;
    let resolve = |other_name: &str| match other_name == name {
        true => None,
        false => value_of(other_name, source, other).or_else(|| other(other_name)),
    };
    let mut reader = Reader { rest: text, resolve: &resolve };
    let value = reader.shifts()?;
    reader.rest.trim().is_empty().then_some(value)
}

/// Reads from the weakest operator to the strongest: shifts, sums, products, values.
struct Reader<'a> {
    rest: &'a str,
    resolve: &'a dyn Fn(&str) -> Option<u64>,
}

impl Reader<'_> {
    fn take(&mut self, sign: &str) -> bool {
        match self.rest.trim_start().strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn shifts(&mut self) -> Option<u64> {
        let mut value = self.sums()?;
        while self.take("<<") {
            value = value.checked_shl(u32::try_from(self.sums()?).ok()?)?;
        }
        Some(value)
    }

    fn sums(&mut self) -> Option<u64> {
        let mut value = self.products()?;
        loop {
            if self.take("+") {
                value = value.checked_add(self.products()?)?;
            } else if self.take("-") {
                value = value.checked_sub(self.products()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn products(&mut self) -> Option<u64> {
        let mut value = self.value()?;
        while self.take("*") {
            value = value.checked_mul(self.value()?)?;
        }
        Some(value)
    }

    fn value(&mut self) -> Option<u64> {
        for (sign, factor) in [("Duration::from_secs(", 1_000), ("Duration::from_millis(", 1), ("(", 1)] {
            if self.take(sign) {
                let value = self.shifts()?.checked_mul(factor)?;
                return self.take(")").then_some(value);
            }
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        match word.starts_with(|c: char| c.is_ascii_digit()) {
            true => word.replace('_', "").parse().ok(),
            false => (self.resolve)(word),
        }
    }
}

#[test]
fn constants_have_values() {
    let source = "const A: u64 = 1_000;\npub(super) const B: usize = 2 * 64 * 1024 + A;\n    c: 2 * ELSEWHERE,\n\
                  const D: Duration = Duration::from_secs(5);\nconst E: u64 = (1 << BITS) - 1;\nconst BITS: u32 = 4 + 4;\n\
                  const F: u64 = call();\nconst G: u64 = G;\nconst H: u64 = 5 - 6;\n";
    let other = |name: &str| (name == "ELSEWHERE").then_some(21);
    let value = |name: &str| value_of(name, source, &other);
    assert_eq!([value("A"), value("B"), value("c")], [Some(1_000), Some(2 * 64 * 1024 + 1_000), Some(42)]);
    assert_eq!([value("D"), value("E")], [Some(5_000), Some(255)]);
    assert_eq!([value("F"), value("G"), value("H"), value("Z")], [None; 4]);
}
