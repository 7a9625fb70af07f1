//! `leveret bind` and `leveret unbind`.

use clap::Args;

use super::failure::Failure;
use super::field::{self, FIELD_HELP};
use super::if_exists::IfExists;
use super::output;
use super::session::{Target, once};
use crate::client::{Binding, Destination};
use crate::model::FieldValue;

/// What was typed after `unbind`.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP)]
pub(super) struct UnbindArguments {
    #[command(flatten)]
    pub(super) binding: Arguments,
    #[command(flatten)]
    if_exists: IfExists,
}

/// What was typed after `bind`, or `unbind`: a binding is known by all of it.
#[derive(Debug, Args)]
#[command(after_help = FIELD_HELP)]
pub(super) struct Arguments {
    /// Exchange that messages come from
    source: String,
    /// Queue (with --to-exchange: exchange) that they go to
    destination: String,
    /// Key or, for a topic exchange, pattern: `*` is one word, `#` any number of words
    #[arg(long, value_name = "KEY", default_value = "")]
    key: String,
    /// For a headers exchange: what to match, and x-match=all|any; may be given more than once
    #[arg(long = "header", value_name = "NAME[:TYPE]=VALUE", value_parser = field::parse)]
    headers: Vec<(String, FieldValue)>,
    /// The destination is an exchange
    #[arg(long)]
    to_exchange: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn bind(arguments: Arguments) -> Result<(), Failure> {
    let (target, binding) = arguments.into_binding()?;
    let told = format!("bound: {}", sentence(&binding));
    once(&target, async |channel| Ok(channel.bind(binding).await?))?;
    output::line(&told)
}

pub(super) fn unbind(arguments: UnbindArguments) -> Result<(), Failure> {
    let UnbindArguments { binding, if_exists } = arguments;
    let (target, binding) = binding.into_binding()?;
    let what = sentence(&binding);
    once(&target, async |channel| {
        let is_there = channel.list_bindings().await?.contains(&binding);
        if_exists.check(is_there, &format!("binding from {what}"), "list bindings")?;
        Ok(channel.unbind(binding).await?)
    })?;
    let told = format!("there is no such binding any more: {what}");
    output::line(&told)
}

impl Arguments {
    fn into_binding(self) -> Result<(Target, Binding), Failure> {
        let destination = if self.to_exchange {
            Destination::Exchange(self.destination)
        } else {
            Destination::Queue(self.destination)
        };
        let binding = Binding {
            source: self.source,
            destination,
            routing_key: self.key,
            arguments: field::table(&self.headers)?,
        };
        Ok((self.target, binding))
    }
}

/// For instance "exchange 'orders' to queue 'all' with key '#'".
fn sentence(binding: &Binding) -> String {
    let destination = match &binding.destination {
        Destination::Queue(name) => format!("queue '{name}'"),
        Destination::Exchange(name) => format!("exchange '{name}'"),
    };
    let mut text =
        format!("exchange '{}' to {destination} with key '{}'", binding.source, binding.routing_key);
    if !binding.arguments.is_empty() {
        text.push_str(&format!(" and {}", field::notation(&binding.arguments)));
    }
    text
}
