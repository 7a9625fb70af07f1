//! Which exchange leads where, and what of that is to be drawn.

use std::collections::{BTreeMap, BTreeSet};

use super::super::field;
use super::look::Look;
use super::scope::Scope;
use crate::client::{Destination, ExchangeEntry};
use crate::model::FieldValue;

/// Ways between exchanges and queues, with what their bindings say.
pub(super) struct Lines<'a> {
    /// From an exchange to another.
    pub(super) between: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
    /// From an exchange to a queue.
    pub(super) into: BTreeMap<(&'a str, &'a str), BTreeSet<String>>,
}

/// The names that are to be drawn.
pub(super) struct Names<'a> {
    pub(super) exchanges: BTreeSet<&'a str>,
    pub(super) queues: BTreeSet<&'a str>,
}

impl<'a> Lines<'a> {
    /// All bindings, alternate exchanges, and where the default exchange leads if something was published to it: to the
    /// queues that no binding leads to. It leads to all others, too, by their names; but those lines say nothing.
    pub(super) fn of(look: &'a Look) -> Self {
        let (mut between, mut into) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for binding in &look.bindings {
            let label = match binding.arguments.is_empty() {
                true => binding.routing_key.clone(),
                false => format!("{} {}", binding.routing_key, field::notation(&binding.arguments))
                    .trim()
                    .to_owned(),
            };
            let from = binding.source.as_str();
            match &binding.destination {
                Destination::Queue(queue) => into.entry((from, queue.as_str())).or_default().insert(label),
                Destination::Exchange(to) => between.entry((from, to.as_str())).or_default().insert(label),
            };
        }
        for exchange in &look.exchanges {
            if let Some(FieldValue::Text(to)) = exchange.arguments.0.get("alternate-exchange") {
                let labels = between.entry((exchange.name.as_str(), to.as_str())).or_default();
                labels.insert("(what nothing else matches)".to_owned());
            }
        }
        if look.exchanges.iter().any(|exchange| exchange.name.is_empty() && exchange.published_total > 0) {
            let bound: BTreeSet<&str> = into.keys().map(|(_, queue)| *queue).collect();
            let alone =
                look.queues.iter().map(|queue| queue.name.as_str()).filter(|queue| !bound.contains(queue));
            into.extend(alone.map(|queue| (("", queue), BTreeSet::new())));
        }
        Self { between, into }
    }

    /// What is asked for: exchanges by their names, those that lead to queues that are asked for, and queues to which
    /// exchanges lead that are asked for.
    pub(super) fn within(&self, scope: &Scope, look: &'a Look) -> Names<'a> {
        let mut exchanges: BTreeSet<&str> = look
            .exchanges
            .iter()
            .filter(|exchange| scope.has_exchange(&exchange.name))
            .filter(|exchange| !scope.exchanges.is_empty() || self.is_used(exchange))
            .map(|exchange| exchange.name.as_str())
            .collect();
        let mut queues: BTreeSet<&str> = look
            .queues
            .iter()
            .map(|queue| queue.name.as_str())
            .filter(|name| scope.has_queue(name))
            .collect();
        if !scope.exchanges.is_empty() {
            let reached = self.into.keys().filter(|(from, _)| exchanges.contains(from));
            let reached: BTreeSet<&str> = reached.map(|(_, queue)| *queue).collect();
            queues.retain(|queue| reached.contains(queue));
        }
        if !scope.queues.is_empty() {
            let leading = self.leading_to(&queues);
            exchanges.retain(|exchange| leading.contains(exchange));
        }
        Names { exchanges, queues }
    }

    /// Those that every virtual host has are drawn once somebody uses them.
    fn is_used(&self, exchange: &ExchangeEntry) -> bool {
        let is_predeclared = exchange.name.is_empty() || exchange.name.starts_with("amq.");
        !is_predeclared
            || exchange.published_total > 0
            || exchange.bindings > 0
            || self.between.keys().any(|(_, to)| *to == exchange.name)
    }

    /// Exchanges from which a message may come to one of the queues.
    fn leading_to(&self, queues: &BTreeSet<&str>) -> BTreeSet<&'a str> {
        let direct = self.into.keys().filter(|(_, queue)| queues.contains(queue));
        let mut ahead: Vec<&str> = direct.map(|(from, _)| *from).collect();
        let mut upstream: BTreeMap<&str, Vec<&'a str>> = BTreeMap::new();
        self.between.keys().for_each(|(from, to)| upstream.entry(to).or_default().push(from));
        let mut leading = BTreeSet::new();
        while let Some(exchange) = ahead.pop() {
            if leading.insert(exchange) {
                ahead.extend(upstream.get(exchange).into_iter().flatten());
            }
        }
        leading
    }
}
