//! Headers and arguments as they are typed: `name=value`, or `name:type=value` for anything but text.

use super::failure::Failure;
use crate::model::{FieldTable, FieldValue, NAME_BYTES_MAX};

/// What stands behind `--header` and `--argument` in help texts.
pub(super) const FIELD_HELP: &str = "\
Types: text (the default), int, double, bool, timestamp (seconds since 1970), bytes (hexadecimal), json, void. \
A name with a colon needs its type: `a:b:text=c`.";

/// The types, as they are typed.
const TYPES: [&str; 8] = ["text", "int", "double", "bool", "timestamp", "bytes", "json", "void"];

/// Tables and lists in `json` nest at most so deep, as on the wire.
const DEPTH_MAX: usize = 16;

/// Collects typed fields into a table. Two with one name make no sense.
pub(super) fn table(fields: &[(String, FieldValue)]) -> Result<FieldTable, Failure> {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        if table.0.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("'{name}' is given twice: which one counts?")));
        }
    }
    Ok(table)
}

/// Reads `name=value`, `name:type=value` or `name:void`.
pub(super) fn parse(typed: &str) -> Result<(String, FieldValue), String> {
    let (left, value) = match typed.split_once('=') {
        Some((left, value)) => (left, Some(value)),
        None => (typed, None),
    };
    let (name, kind) = match left.rsplit_once(':') {
        Some((name, kind)) if TYPES.contains(&kind) => (name, kind),
        Some((_, kind)) => {
            return Err(format!(
                "there is no type '{kind}', only {}; a name with a colon needs its type: '{left}:text=...'",
                TYPES.join(", ")
            ));
        }
        None => (left, "text"),
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {NAME_BYTES_MAX} bytes, this one has {}", name.len()));
    }
    let value = match (kind, value) {
        ("void", None) => FieldValue::Void,
        ("void", Some(_)) => return Err("void has no value: leave out '=' and what follows".to_owned()),
        (_, None) => return Err(format!("'{typed}' has no '=': expected name=value or name:type=value")),
        (_, Some(value)) => read(kind, value)?,
    };
    Ok((name.to_owned(), value))
}

fn read(kind: &str, value: &str) -> Result<FieldValue, String> {
    match kind {
        "int" => integer(value).ok_or_else(|| format!("'{value}' is not a whole number of 64 bits")),
        "double" => value.parse().map(FieldValue::Double).map_err(|_| format!("'{value}' is not a number")),
        "bool" => {
            value.parse().map(FieldValue::Boolean).map_err(|_| format!("'{value}' is not true or false"))
        }
        "timestamp" => value
            .parse()
            .map(FieldValue::TimestampSeconds)
            .map_err(|_| format!("'{value}' is not a number of seconds since 1970")),
        "bytes" => from_hexadecimal(value)
            .map(FieldValue::Bytes)
            .ok_or_else(|| format!("'{value}' is not hexadecimal: two digits a byte, for instance 00ff")),
        "json" => {
            let json = serde_json::from_str(value).map_err(|error| format!("this is not JSON: {error}"))?;
            from_json(json, 0)
        }
        _ => Ok(FieldValue::Text(value.to_owned())),
    }
}

fn integer(text: &str) -> Option<FieldValue> {
    text.parse().map(FieldValue::Integer).or_else(|_| text.parse().map(FieldValue::Unsigned)).ok()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let digits = digits?;
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn from_json(json: serde_json::Value, depth: usize) -> Result<FieldValue, String> {
    use serde_json::Value;

    if depth > DEPTH_MAX {
        return Err(format!("tables and lists nest at most {DEPTH_MAX} deep"));
    }
    Ok(match json {
        Value::Null => FieldValue::Void,
        Value::Bool(on) => FieldValue::Boolean(on),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => FieldValue::Integer(integer),
            (_, Some(unsigned), _) => FieldValue::Unsigned(unsigned),
            (_, _, Some(double)) => FieldValue::Double(double),
            _ => return Err(format!("{number} is beyond what a number can be")),
        },
        Value::String(text) => FieldValue::Text(text),
        Value::Array(values) => {
            let values: Result<_, _> = values.into_iter().map(|value| from_json(value, depth + 1)).collect();
            FieldValue::List(values?)
        }
        Value::Object(fields) => {
            let fields: Result<_, String> = fields
                .into_iter()
                .map(|(name, value)| {
                    if name.len() > NAME_BYTES_MAX {
                        return Err(format!("a name has {NAME_BYTES_MAX} bytes at most"));
                    }
                    Ok((name, from_json(value, depth + 1)?))
                })
                .collect();
            FieldValue::Table(FieldTable(fields?))
        }
    })
}

/// A table in the notation in which it can be typed, fields separated by spaces.
pub(super) fn notation(table: &FieldTable) -> String {
    let fields: Vec<String> = table.iter().map(|(name, value)| field_notation(name, value)).collect();
    fields.join(" ")
}

fn field_notation(name: &str, value: &FieldValue) -> String {
    match value {
        FieldValue::Void => format!("{name}:void"),
        FieldValue::Boolean(on) => format!("{name}:bool={on}"),
        FieldValue::Integer(number) => format!("{name}:int={number}"),
        FieldValue::Unsigned(number) => format!("{name}:int={number}"),
        FieldValue::Double(number) => format!("{name}:double={number}"),
        FieldValue::Text(text) if name.contains(':') => format!("{name}:text={}", text.escape_debug()),
        FieldValue::Text(text) => format!("{name}={}", text.escape_debug()),
        FieldValue::TimestampSeconds(seconds) => format!("{name}:timestamp={seconds}"),
        FieldValue::Bytes(bytes) => format!("{name}:bytes={}", hexadecimal(bytes)),
        nested => format!("{name}:json={}", to_json(nested)),
    }
}

/// A table for programs.
pub(super) fn table_to_json(table: &FieldTable) -> serde_json::Value {
    table.iter().map(|(name, value)| (name.to_owned(), to_json(value))).collect()
}

/// A value for programs: timestamps are numbers of seconds, bytes hexadecimal text, decimals text.
pub(super) fn to_json(value: &FieldValue) -> serde_json::Value {
    use serde_json::{Value, json};

    match value {
        FieldValue::Void => Value::Null,
        FieldValue::Boolean(on) => json!(on),
        FieldValue::Integer(number) | FieldValue::TimestampSeconds(number) => json!(number),
        FieldValue::Unsigned(number) => json!(number),
        // JSON has no words for these.
        FieldValue::Double(number) if !number.is_finite() => json!(number.to_string()),
        FieldValue::Double(number) => json!(number),
        FieldValue::Text(text) => json!(text),
        FieldValue::Bytes(bytes) => json!(hexadecimal(bytes)),
        FieldValue::Table(table) => table_to_json(table),
        FieldValue::List(values) => values.iter().map(to_json).collect(),
        FieldValue::Decimal { scale, value } => json!(format!("{value}e-{scale}")),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, name: &str, value: impl Into<FieldValue>) {
        assert_eq!(parse(typed), Ok((name.to_owned(), value.into())), "{typed}");
    }

    #[track_caller]
    fn check_refused(typed: &str, needle: &str) {
        let error = parse(typed).expect_err(typed);
        assert!(error.contains(needle), "{typed}: {error}");
    }

    #[test]
    fn fields_are_text_unless_a_type_is_named() {
        check("region=eu", "region", "eu");
        check("region=", "region", "");
        check("a=b=c", "a", "b=c");
        check("n=5", "n", "5");
        check("n:int=5", "n", 5);
        check("n:int=-5", "n", -5);
        check("n:int=18446744073709551615", "n", FieldValue::Unsigned(u64::MAX));
        check("x:double=1.5", "x", FieldValue::Double(1.5));
        check("on:bool=true", "on", true);
        check("at:timestamp=1700000000", "at", FieldValue::TimestampSeconds(1_700_000_000));
        check("raw:bytes=00fF", "raw", FieldValue::Bytes(vec![0, 255]));
        check("gone:void", "gone", FieldValue::Void);
        check("a:b:text=c", "a:b", "c");
        check("url=http://x", "url", "http://x");
        check(
            r#"t:json={"a":[1,null]}"#,
            "t",
            FieldValue::Table(FieldTable::from([("a", FieldValue::List(vec![1.into(), FieldValue::Void]))])),
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        check_refused("region", "no '='");
        check_refused("=eu", "1 to 255 bytes");
        check_refused(&format!("{}=x", "n".repeat(256)), "1 to 255 bytes");
        check_refused("n:itn=5", "no type 'itn'");
        check_refused("n:int=five", "whole number");
        check_refused("n:int=1.5", "whole number");
        check_refused("n:int=18446744073709551616", "64 bits");
        check_refused("on:bool=yes", "true or false");
        check_refused("raw:bytes=0", "hexadecimal");
        check_refused("raw:bytes=zz", "hexadecimal");
        check_refused("gone:void=1", "no value");
        check_refused("t:json={", "not JSON");
        check_refused(&format!("t:json={}{}", "[".repeat(20), "]".repeat(20)), "nest");
    }

    #[test]
    fn numbers_that_json_does_not_know_are_text() {
        let shown = |number: f64| to_json(&FieldValue::Double(number));
        assert_eq!(
            [shown(f64::NAN), shown(f64::NEG_INFINITY), shown(0.5)],
            ["NaN".into(), "-inf".into(), 0.5.into()] as [serde_json::Value; 3]
        );
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        for typed in ["n:int=5", "region=eu", "on:bool=false", "raw:bytes=00ff", "gone:void", "a:b:text=c"] {
            let (name, value) = parse(typed).expect(typed);
            assert_eq!(notation(&FieldTable::from([(name.as_str(), value)])), typed);
        }
    }
}
