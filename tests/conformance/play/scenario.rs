//! A scenario as it stands in its file.

use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::action::Action;
use super::run::Step;

/// Whose behaviour is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    RabbitMq,
    Leveret,
}

/// One behaviour: what clients do, and what they see.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Unique; "AREA: NAME".
    pub(crate) name: String,
    pub(crate) area: String,
    /// The name of its file.
    pub(crate) file: String,
    /// The rule in a sentence.
    pub(crate) pins: String,
    /// Where the rule is from: a URL.
    pub(crate) source: String,
    /// The row of docs/DIFFERENCES.md that says why Leveret differs here.
    pub(crate) difference: Option<String>,
    pub(crate) steps: Vec<StepText>,
}

/// A step before the names that brokers give are put into it.
#[derive(Debug, Clone)]
pub(crate) struct StepText {
    on: String,
    /// How a later step names what the broker named here.
    pub(crate) named: Option<String>,
    show: Vec<String>,
    /// Several where RabbitMQ shows now the one, now the other.
    rabbitmq: Vec<String>,
    leveret: String,
    action: Table,
}

/// Between what RabbitMQ shows now and then.
const OR: &str = " or ";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    area: String,
    source: String,
    scenario: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    pins: String,
    source: Option<String>,
    difference: Option<String>,
    steps: Vec<Table>,
}

/// All scenarios, in order of their files and within them.
pub(crate) fn all() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(super::super::SCENARIOS);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let mut scenarios = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a scenario file can be read");
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let read = read(&file, &text).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        scenarios.extend(read);
    }
    let mut names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("two scenarios are called '{}'", twice[0]);
    }
    scenarios
}

fn read(file: &str, text: &str) -> Result<Vec<Scenario>, String> {
    let File { area, source, scenario } = toml::from_str(text).map_err(|error| error.to_string())?;
    let scenarios = scenario.into_iter().map(|entry| {
        let name = format!("{area}: {}", entry.name);
        let steps: Result<Vec<_>, _> = entry.steps.into_iter().map(StepText::new).collect();
        let steps = steps.map_err(|problem| format!("scenario '{name}': {problem}"))?;
        let differs = steps.iter().any(|step| step.rabbitmq != [step.leveret.as_str()]);
        if differs != entry.difference.is_some() {
            return Err(format!("'{name}' names a difference if and only if a step expects one"));
        }
        let source = entry.source.unwrap_or_else(|| source.clone());
        Ok(Scenario {
            name,
            area: area.clone(),
            file: file.to_owned(),
            pins: entry.pins,
            source,
            difference: entry.difference,
            steps,
        })
    });
    scenarios.collect()
}

impl Scenario {
    /// What each step is to show.
    pub(crate) fn expected(&self, side: Side) -> Vec<String> {
        self.steps.iter().map(|step| step.expected(side)).collect()
    }

    /// Where what was seen is not what the scenario says, in sentences.
    pub(crate) fn misses(&self, side: Side, seen: &[String]) -> Vec<String> {
        let mut misses = Vec::new();
        for number in 0..self.steps.len().max(seen.len()) {
            let expected =
                self.steps.get(number).map_or_else(|| "nothing more".to_owned(), |step| step.expected(side));
            let seen = seen.get(number).map_or("nothing", String::as_str);
            if expected != seen {
                let step = self.steps.get(number).map_or_else(|| "the end".to_owned(), StepText::told);
                misses.push(format!(
                    "{}, step {} ({step}): expected '{expected}', saw '{seen}'",
                    self.name,
                    number + 1
                ));
            }
        }
        misses
    }
}

impl StepText {
    fn new(mut table: Table) -> Result<Self, String> {
        let rabbitmq = table.remove("rabbitmq").map(texts).transpose()?;
        let mut text = |field: &str| match table.remove(field) {
            Some(Value::String(text)) => Ok(Some(text)),
            None => Ok(None),
            Some(other) => Err(format!("{field} is a text, not {other}")),
        };
        let (on, named) = (text("on")?, text("as")?);
        let (rabbitmq, leveret) = match (text("sees")?, rabbitmq, text("leveret")?) {
            (Some(both), None, None) => (vec![both.clone()], both),
            (None, Some(rabbitmq), Some(leveret)) => (rabbitmq, leveret),
            (None, None, None) => (vec!["ok".to_owned()], "ok".to_owned()),
            _ => return Err("a step says what it sees, or what on rabbitmq and what on leveret".to_owned()),
        };
        let show = match table.remove("show") {
            None => Vec::new(),
            Some(value) => texts(value)?,
        };
        let step =
            Self { on: on.unwrap_or_else(|| "a".to_owned()), named, show, rabbitmq, leveret, action: table };
        Action::parse(step.action.clone())?;
        Ok(step)
    }

    fn expected(&self, side: Side) -> String {
        match side {
            Side::RabbitMq => self.rabbitmq.join(OR),
            Side::Leveret => self.leveret.clone(),
        }
    }

    /// What was seen, as it is compared and stored: where RabbitMQ shows now this, now that, both of them.
    pub(crate) fn settled(&self, side: Side, seen: String) -> String {
        match side {
            Side::RabbitMq if self.rabbitmq.contains(&seen) => self.rabbitmq.join(OR),
            Side::RabbitMq | Side::Leveret => seen,
        }
    }

    /// What is done, in a line.
    pub(crate) fn told(&self) -> String {
        format!("{}: {}", self.on, self.action.to_string().trim().replace('\n', ", "))
    }

    /// The step, with `$name` wherever a name is that a broker gave.
    pub(crate) fn step(&self, names: &[(String, String)]) -> Step {
        let mut value = Value::Table(self.action.clone());
        put_names(&mut value, names);
        let Value::Table(table) = value else { unreachable!("it was made of a table") };
        let action = Action::parse(table).expect("the step was read before");
        Step { client: self.on.clone(), action, show: self.show.clone() }
    }
}

/// A text, or a list of them.
fn texts(value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text]),
        several => several.try_into().map_err(|error: toml::de::Error| error.message().to_owned()),
    }
}

fn put_names(value: &mut Value, names: &[(String, String)]) {
    match value {
        Value::String(text) => {
            if let Some(wanted) = text.strip_prefix('$') {
                let known = names.iter().find(|(name, _)| name == wanted);
                *text = known.unwrap_or_else(|| panic!("nothing was named '{wanted}'")).1.clone();
            }
        }
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| put_names(value, names)),
        Value::Array(values) => values.iter_mut().for_each(|value| put_names(value, names)),
        _ => {}
    }
}
