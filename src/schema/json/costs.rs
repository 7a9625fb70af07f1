//! What a schema may cost, found before it is compiled.
//!
//! A schema asks things of a value, and hands the same value to further schemas (`allOf`, `$ref`, ...: *beside*), and parts of it to
//! others (`properties`, `items`, ...: *below*). References make a graph of it. A ring of edges beside each other would never
//! end; many edges that meet again ask the same of a value many times, and twice as often with every level of a message.
//! Both are counted here: the longest way beside, which bounds the stack, and for each depth of a message the steps
//! that any one value of it can cost.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::references;
use crate::schema::fault::SchemaFault;

/// Deepest level of a message, as far as its JSON is read.
const DEPTH_MAX: usize = 127;
/// Schemas that one value is handed on to, one after another.
const BESIDE_MAX: u32 = 32;
/// Schemas that are under way at once, for a value and those around it; each takes room on the stack.
const UNDER_WAY_MAX: usize = 512;
/// Schemas in a schema.
const SCHEMAS_MAX: usize = 4096;
/// Regular expressions in a schema.
const PATTERNS_MAX: usize = 32;

/// What a schema costs at worst.
#[derive(Debug)]
pub(super) struct Costs {
    /// By the depth of the message.
    steps: Vec<u64>,
    patterns: u64,
}

impl Costs {
    pub(super) fn of(schema: &Value) -> Result<Self, SchemaFault> {
        references::check(schema)?;
        let graph = Graph::of(schema)?;
        let (order, beside) = graph.order()?;
        let depth_max = DEPTH_MAX.min(UNDER_WAY_MAX / beside as usize);
        Ok(Self { steps: graph.steps(&order, depth_max), patterns: graph.patterns as u64 })
    }

    /// Deepest level that a message may have.
    pub(super) fn depth_max(&self) -> usize {
        self.steps.len() - 1
    }

    /// Steps that one value costs at most, in a message of this depth.
    pub(super) fn steps(&self, depth: usize) -> u64 {
        self.steps.get(depth).copied().unwrap_or(u64::MAX)
    }

    /// Steps of all regular expressions over so many bytes.
    pub(super) fn pattern_steps(&self, bytes: usize) -> u64 {
        self.patterns * bytes as u64
    }
}

/// Schemas, and which hands values on to which.
#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    patterns: usize,
}

#[derive(Default)]
struct Node {
    /// Steps that it takes itself.
    weight: u64,
    /// The same value goes to these.
    beside: Vec<Beside>,
    /// A part of the value goes to one of these, since each is for parts of another name or place.
    one_below: Vec<usize>,
    /// A part of the value may go to all of these.
    below: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Beside {
    node: usize,
    /// What is wrong is looked for after it is known that something is: the value is asked about twice then.
    chosen: bool,
    /// The value is asked about so many times anyway.
    times: u64,
}

/// Which schemas stand under a keyword.
enum Under {
    Beside,
    BesideList { chosen: bool },
    BesideByName,
    OneBelowList,
    OneBelowByName,
    Below,
    BelowByPattern,
}

fn under(keyword: &str, value: &Value) -> Option<Under> {
    Some(match keyword {
        "not" | "if" | "then" | "else" => Under::Beside,
        "allOf" => Under::BesideList { chosen: false },
        "anyOf" | "oneOf" => Under::BesideList { chosen: true },
        "dependentSchemas" | "dependencies" => Under::BesideByName,
        "prefixItems" => Under::OneBelowList,
        "items" if value.is_array() => Under::OneBelowList,
        "properties" => Under::OneBelowByName,
        "items"
        | "additionalItems"
        | "contains"
        | "additionalProperties"
        | "propertyNames"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Under::Below,
        "patternProperties" => Under::BelowByPattern,
        _ => return None,
    })
}

impl Graph {
    fn of(schema: &Value) -> Result<Self, SchemaFault> {
        let mut graph = Self::default();
        let mut numbers = Numbers { by_place: HashMap::new(), found: Vec::new() };
        numbers.of(schema);
        while graph.nodes.len() < numbers.found.len() {
            if numbers.found.len() > SCHEMAS_MAX {
                let expected = format!("{SCHEMAS_MAX} schemas in it at most");
                return Err(SchemaFault::new("is too large", expected, "more"));
            }
            let node = match numbers.found[graph.nodes.len()] {
                Value::Object(fields) => graph.node(schema, fields, &mut numbers)?,
                _ => Node { weight: 1, ..Node::default() },
            };
            graph.nodes.push(node);
        }
        if graph.patterns > PATTERNS_MAX {
            let expected = format!("{PATTERNS_MAX} regular expressions at most");
            return Err(SchemaFault::new("has too many regular expressions", expected, graph.patterns));
        }
        Ok(graph)
    }

    fn node<'a>(
        &mut self,
        schema: &'a Value,
        fields: &'a Map<String, Value>,
        numbers: &mut Numbers<'a>,
    ) -> Result<Node, SchemaFault> {
        // What was evaluated is found by evaluating once more.
        let times = if fields.keys().any(|keyword| keyword.starts_with("unevaluated")) { 2 } else { 1 };
        let beside = |node: usize| Beside { node, chosen: false, times };
        let mut node = Node { weight: 1 + fields.len() as u64, ..Node::default() };
        for (keyword, value) in fields {
            match (under(keyword, value), value) {
                (Some(Under::Beside), value) => node.beside.push(beside(numbers.of(value))),
                (Some(Under::BesideList { chosen }), Value::Array(schemas)) => {
                    let each = schemas.iter().map(|schema| Beside { chosen, ..beside(numbers.of(schema)) });
                    node.beside.extend(each);
                }
                (Some(Under::BesideByName), Value::Object(schemas)) => {
                    node.beside.extend(schemas.values().map(|schema| beside(numbers.of(schema))));
                }
                (Some(Under::OneBelowList), Value::Array(schemas)) => {
                    node.one_below.extend(schemas.iter().map(|schema| numbers.of(schema)));
                }
                (Some(Under::OneBelowByName), Value::Object(schemas)) => {
                    node.one_below.extend(schemas.values().map(|schema| numbers.of(schema)));
                }
                (Some(Under::Below), value) => node.below.push(numbers.of(value)),
                (Some(Under::BelowByPattern), Value::Object(schemas)) => {
                    self.patterns += schemas.len();
                    node.below.extend(schemas.values().map(|schema| numbers.of(schema)));
                }
                // Of another type than it should have: the compiler tells.
                (Some(_), _) => {}
                (None, _) if keyword == "$ref" => {
                    node.beside.push(beside(numbers.of(references::resolve(schema, value)?)));
                }
                (None, Value::Array(values)) => node.weight += values.len() as u64,
                (None, _) => self.patterns += usize::from(keyword == "pattern"),
            }
        }
        Ok(node)
    }

    /// The schemas in an order in which each comes behind those beside it, and the longest way beside.
    fn order(&self) -> Result<(Vec<usize>, u32), SchemaFault> {
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut ways = vec![Way::Unknown; self.nodes.len()];
        let mut longest = 1;
        for node in 0..self.nodes.len() {
            longest = longest.max(self.way(node, 1, &mut ways, &mut order)?);
        }
        Ok((order, longest))
    }

    fn way(
        &self,
        node: usize,
        so_far: u32,
        ways: &mut [Way],
        order: &mut Vec<usize>,
    ) -> Result<u32, SchemaFault> {
        let too_long = |got: &str| {
            let expected = format!("{BESIDE_MAX} schemas at most, one beside the other, for one value");
            SchemaFault::new("hands a value on without end, or too often", expected, got)
        };
        match ways[node] {
            Way::Known(way) => return Ok(way),
            Way::Visited => return Err(too_long("a schema that comes back to itself without going deeper")),
            Way::Unknown if so_far > BESIDE_MAX => return Err(too_long("more")),
            Way::Unknown => ways[node] = Way::Visited,
        }
        let mut longest = 0;
        for Beside { node: next, .. } in &self.nodes[node].beside {
            longest = longest.max(self.way(*next, so_far + 1, ways, order)?);
        }
        if longest >= BESIDE_MAX {
            return Err(too_long("more"));
        }
        ways[node] = Way::Known(longest + 1);
        order.push(node);
        Ok(longest + 1)
    }

    /// Steps that a value costs under the first schema, by how many levels are below it: to ask whether it fits, and what
    /// does not.
    fn steps(&self, order: &[usize], depth_max: usize) -> Vec<u64> {
        let mut above = vec![Steps::default(); self.nodes.len()];
        let mut steps = Vec::with_capacity(depth_max + 1);
        for _ in 0..=depth_max {
            let mut level = vec![Steps::default(); self.nodes.len()];
            for node in order {
                level[*node] = self.nodes[*node].steps(&level, &above);
            }
            let Steps { fits, misfit } = level.first().copied().unwrap_or_default();
            steps.push(fits.saturating_add(misfit));
            above = level;
        }
        steps
    }
}

/// Steps for a value.
#[derive(Clone, Copy, Default)]
struct Steps {
    /// To ask whether it fits.
    fits: u64,
    /// To find what does not.
    misfit: u64,
}

impl Steps {
    fn and(self, other: Self, times: u64) -> Self {
        let and = |one: u64, other: u64| one.saturating_add(other.saturating_mul(times));
        Self { fits: and(self.fits, other.fits), misfit: and(self.misfit, other.misfit) }
    }
}

impl Node {
    /// From what those beside it cost, and those below it for the level below.
    fn steps(&self, beside: &[Steps], below: &[Steps]) -> Steps {
        let mut steps = Steps { fits: self.weight, misfit: self.weight };
        for Beside { node, chosen, times } in &self.beside {
            let Steps { fits, misfit } = beside[*node];
            let misfit = if *chosen { misfit.saturating_add(fits) } else { misfit };
            steps = steps.and(Steps { fits, misfit }, *times);
        }
        for node in &self.below {
            steps = steps.and(below[*node], 1);
        }
        let one_below = self.one_below.iter().map(|node| below[*node]);
        let most = one_below.reduce(|one, other| Steps {
            fits: one.fits.max(other.fits),
            misfit: one.misfit.max(other.misfit),
        });
        steps.and(most.unwrap_or_default(), 1)
    }
}

#[derive(Clone, Copy)]
enum Way {
    Unknown,
    Visited,
    /// So many schemas beside each other, itself included.
    Known(u32),
}

/// Schemas in the order in which they were found, each once, by where they lie in memory.
struct Numbers<'a> {
    by_place: HashMap<*const Value, usize>,
    found: Vec<&'a Value>,
}

impl<'a> Numbers<'a> {
    fn of(&mut self, schema: &'a Value) -> usize {
        let next = self.found.len();
        let number = *self.by_place.entry(std::ptr::from_ref(schema)).or_insert(next);
        if number == next {
            self.found.push(schema);
        }
        number
    }
}
