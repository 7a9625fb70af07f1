//! What does not fit a JSON Schema, in words.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use crate::schema::fault::{Misfit, push_name, shown};

/// Values of an `enum` that are shown.
const SHOWN_VALUES_MAX: usize = 8;

pub(super) fn of(error: &ValidationError<'_>) -> Misfit {
    let field = path(error);
    let mut misfit = told(error, field);
    misfit.rule = shown(error.schema_path().as_str());
    misfit
}

fn told(error: &ValidationError<'_>, field: String) -> Misfit {
    let text = |expected: String| Misfit::new(&*field, expected, value(error.instance()));
    let below = |name: &str, expected: &str, got: &str| {
        let mut field = field.clone();
        push_name(&mut field, name);
        Misfit::new(field, expected, got)
    };
    match error.kind() {
        Kind::Required { property } => below(property.as_str().unwrap_or_default(), "present", "absent"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let name = unexpected.first().map_or("", |name| name);
            below(name, "absent: the schema has no such field, and takes no others", "present")
        }
        Kind::Type { kind } => {
            let types: Vec<String> = match kind {
                TypeKind::Single(kind) => vec![article(*kind)],
                TypeKind::Multiple(kinds) => kinds.iter().map(article).collect(),
            };
            text(types.join(" or "))
        }
        Kind::Enum { options } => text(one_of(options)),
        Kind::Constant { expected_value } => text(shown(&expected_value.to_string())),
        Kind::Minimum { limit } => text(format!("{limit} at least")),
        Kind::Maximum { limit } => text(format!("{limit} at most")),
        Kind::ExclusiveMinimum { limit } => text(format!("more than {limit}")),
        Kind::ExclusiveMaximum { limit } => text(format!("less than {limit}")),
        Kind::MultipleOf { multiple_of } => text(format!("a multiple of {multiple_of}")),
        Kind::MinLength { limit } => text(format!("{limit} characters at least")),
        Kind::MaxLength { limit } => text(format!("{limit} characters at most")),
        Kind::MinItems { limit } => text(format!("{limit} items at least")),
        Kind::MaxItems { limit } => text(format!("{limit} items at most")),
        Kind::AdditionalItems { limit } => text(format!("{limit} items at most")),
        Kind::MinProperties { limit } => text(format!("{limit} fields at least")),
        Kind::MaxProperties { limit } => text(format!("{limit} fields at most")),
        Kind::Pattern { pattern } => text(format!("a text that matches {}", shown(pattern))),
        Kind::UniqueItems => text("items that all differ".to_owned()),
        Kind::Contains => text("an item that the schema asks for".to_owned()),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            text("what one of several schemas allows".to_owned())
        }
        Kind::OneOfMultipleValid { .. } => text("what exactly one of several schemas allows".to_owned()),
        Kind::FalseSchema => text("nothing: the schema allows no value here".to_owned()),
        Kind::Not { schema } => text(format!("nothing that fits {}", shown(&schema.to_string()))),
        _ => text(shown(&error.to_string())),
    }
}

fn one_of(options: &Value) -> String {
    let Some(options) = options.as_array() else { return shown(&options.to_string()) };
    let mut words: Vec<String> =
        options.iter().take(SHOWN_VALUES_MAX).map(|option| shown(&option.to_string())).collect();
    if options.len() > SHOWN_VALUES_MAX {
        words.push(format!("one of {} more", options.len() - SHOWN_VALUES_MAX));
    }
    words.join(" or ")
}

fn article(kind: JsonType) -> String {
    let name = kind.to_string();
    match kind {
        JsonType::Null => name,
        JsonType::Array | JsonType::Integer | JsonType::Object => format!("an {name}"),
        JsonType::Boolean | JsonType::Number | JsonType::String => format!("a {name}"),
    }
}

/// Large values by what they are, others as they are.
fn value(value: &Value) -> String {
    match value {
        Value::Object(fields) => format!("an object of {} fields", fields.len()),
        Value::Array(values) => format!("an array of {} items", values.len()),
        other => shown(&other.to_string()),
    }
}

fn path(error: &ValidationError<'_>) -> String {
    let mut path = "body".to_owned();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Property(name) => push_name(&mut path, &name),
            LocationSegment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}
