//! A JSON Schema, compiled, and bodies held against it.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::costs::Costs;
use super::misfit;
use crate::schema::fault::{Misfit, SchemaFault, shown};

/// Steps that a body may cost, about: each value of it times what the schema asks of it at worst. A second at most.
const STEPS_MAX: u64 = 16 * 1024 * 1024;
/// Size of a compiled regular expression, and of the table that it is run by, in bytes.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(in crate::schema) struct JsonSchema {
    validator: Validator,
    costs: Costs,
}

impl JsonSchema {
    pub(in crate::schema) fn compile(source: &[u8]) -> Result<Self, SchemaFault> {
        let schema: Value = serde_json::from_slice(source)
            .map_err(|error| SchemaFault::new("is no JSON", "a JSON Schema", error))?;
        let costs = Costs::of(&schema)?;
        // Regular expressions run in linear time, so what needs to go back (lookaround, backreferences) is refused.
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(patterns)
            .build(&schema)
            .map_err(|error| fault(&error))?;
        Ok(Self { validator, costs })
    }

    pub(in crate::schema) fn check(&self, body: &[u8]) -> Result<(), Misfit> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Misfit::of_body("JSON", shown(&error.to_string())))?;
        let mut extent = Extent::default();
        extent.measure(&value, 0);
        let depth_max = self.costs.depth_max();
        if extent.depth > depth_max {
            let expected =
                format!("{depth_max} levels of values in each other at most, which this schema can check");
            return Err(Misfit::of_body(expected, format!("{} levels", extent.depth)));
        }
        let steps = self.costs.steps(extent.depth).saturating_mul(extent.values);
        if steps.saturating_add(self.costs.pattern_steps(body.len())) > STEPS_MAX {
            let expected =
                "fewer values, or values less deep in each other: checking these would take too long";
            return Err(Misfit::of_body(
                expected,
                format!("{} values in {} bytes", extent.values, body.len()),
            ));
        }
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        match self.validator.validate(&value) {
            Err(error) => Err(misfit::of(&error)),
            Ok(()) => Err(Misfit::of_body("what the schema allows", "something else")),
        }
    }
}

fn fault(error: &ValidationError<'_>) -> SchemaFault {
    SchemaFault::new("does not compile", "a JSON Schema", error).at(error.instance_path().as_str())
}

/// How much is in a body.
#[derive(Default)]
struct Extent {
    values: u64,
    depth: usize,
}

impl Extent {
    /// `serde_json` has refused what is deeper than 128 levels.
    fn measure(&mut self, value: &Value, depth: usize) {
        self.values += 1;
        self.depth = self.depth.max(depth);
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.measure(value, depth + 1)),
            Value::Object(fields) => fields.values().for_each(|value| self.measure(value, depth + 1)),
            _ => {}
        }
    }
}
