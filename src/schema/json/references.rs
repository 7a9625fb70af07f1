//! What a schema refers to: parts of itself, and nothing else.

use serde_json::Value;

use crate::schema::fault::SchemaFault;

/// Dialects that are taken, by the ends of their names.
const DIALECTS: [&str; 4] = [
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft/2020-12/schema",
];

/// Keywords whose meaning depends on how they were reached.
const DYNAMIC: [&str; 2] = ["$dynamicRef", "$recursiveRef"];

/// Whether the dialect is known, nothing in it has a name of its own but the whole, and no reference is dynamic. So `#` means
/// the document wherever it stands.
pub(super) fn check(schema: &Value) -> Result<(), SchemaFault> {
    if let Some(dialect) = schema.get("$schema") {
        let name = dialect.as_str().unwrap_or_default().trim_end_matches('#');
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        if !DIALECTS.contains(&name) {
            let expected = "draft-06, draft-07, 2019-09 or 2020-12 of json-schema.org, or no $schema";
            return Err(
                SchemaFault::new("is of a dialect that is not known", expected, dialect).at("/$schema")
            );
        }
    }
    let mut ahead = vec![(schema, 0)];
    while let Some((value, depth)) = ahead.pop() {
        match value {
            Value::Object(fields) => {
                let own_name = ["$id", "$schema"]
                    .into_iter()
                    .find(|name| depth > 0 && fields.get(*name).is_some_and(Value::is_string));
                if let Some(name) = own_name {
                    let text = format!("has another '{name}' inside");
                    return Err(SchemaFault::new(text, format!("{name} at the top alone"), &fields[name]));
                }
                if let Some(name) =
                    DYNAMIC.into_iter().find(|name| fields.get(*name).is_some_and(Value::is_string))
                {
                    let text = format!("has a '{name}', which is not taken");
                    return Err(SchemaFault::new(text, "$ref", &fields[name]));
                }
                ahead.extend(fields.values().map(|value| (value, depth + 1)));
            }
            Value::Array(values) => ahead.extend(values.iter().map(|value| (value, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// The part of a schema that a `$ref` names.
pub(super) fn resolve<'a>(schema: &'a Value, reference: &Value) -> Result<&'a Value, SchemaFault> {
    let Some(text) = reference.as_str() else {
        return Err(SchemaFault::new("has a $ref that is no text", "a text that begins with '#'", reference));
    };
    let Some(place) = text.strip_prefix('#') else {
        let expected =
            "'#' and a place in the same schema: nothing is fetched, so put what it refers to into '$defs'";
        return Err(SchemaFault::new("refers to something outside", expected, text));
    };
    let found = if place.is_empty() || place.starts_with('/') {
        schema.pointer(&unescaped(place))
    } else {
        anchor(schema, place)
    };
    found.ok_or_else(|| SchemaFault::new("refers to what is not in it", "a place in the schema", text))
}

/// A part of a URI as the text it stands for.
fn unescaped(place: &str) -> String {
    let mut out = Vec::with_capacity(place.len());
    let mut rest = place.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let byte = match behind {
            [high, low, ..] if *first == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn anchor<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let mut ahead = vec![schema];
    while let Some(value) = ahead.pop() {
        match value {
            Value::Object(fields) if fields.get("$anchor").and_then(Value::as_str) == Some(name) => {
                return Some(value);
            }
            Value::Object(fields) => ahead.extend(fields.values()),
            Value::Array(values) => ahead.extend(values),
            _ => {}
        }
    }
    None
}
