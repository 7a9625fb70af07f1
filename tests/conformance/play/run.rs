//! Playing a scenario with a broker.

use super::action::Action;
use super::scenario::Scenario;
use super::seen::{Fault, Seen, told};
use super::{Side, seen};

/// A step as a peer is asked to carry it out.
#[derive(Debug)]
pub(crate) struct Step {
    /// Who: a connection's name, or with a dot a further channel of it ("a", "a.second").
    pub(crate) client: String,
    pub(crate) action: Action,
    /// Details to tell besides.
    pub(crate) show: Vec<String>,
}

/// Whose a connection is, if there is a user of that name: "ada", "ada:2" and so on are ada's.
pub(crate) fn user_of(connection: &str) -> &str {
    connection.split(':').next().unwrap_or(connection)
}

/// A broker, and the clients that a scenario has there. Clients come into being with their first step; one whose channel or
/// connection has been closed opens another with its next one.
pub(crate) trait Peer {
    const SIDE: Side;

    /// Carries out a step. What came of it is certain when it returns: a settlement has arrived at its queue, a published message
    /// has its confirm.
    async fn act(&mut self, step: &Step) -> Result<Seen, Fault>;

    /// Messages that consumers were given and no step received.
    async fn unexpected(&mut self) -> Vec<seen::Received>;
}

/// What each step of a scenario showed, and at the end what nobody had expected.
pub(crate) async fn play<P: Peer>(peer: &mut P, scenario: &Scenario) -> Vec<String> {
    let mut names = Vec::new();
    let mut observed = Vec::new();
    for text in &scenario.steps {
        let step = text.step(&names);
        let seen = peer.act(&step).await;
        if let Some(named) = &text.named {
            let name = match &seen {
                Ok(Seen::Queue { name, .. }) => Some(name.clone()),
                Ok(Seen::Received(received)) => {
                    received.last().and_then(|last| last.properties.get("reply_to").cloned())
                }
                _ => None,
            };
            names.extend(name.map(|name| (named.clone(), name)));
        }
        observed.push(text.settled(P::SIDE, told(P::SIDE, &seen, &step.show)));
    }
    for received in peer.unexpected().await {
        observed.push(format!("nobody expected '{}'", received.body));
    }
    observed
}
