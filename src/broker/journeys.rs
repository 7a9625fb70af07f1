//! Journeys and receipts as front ends ask for them, and the rules that say of which messages they are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::broker::Broker;
use super::catalog::Request;
use super::inspect::{Page, bad_token, page};
use super::login::Identity;
use crate::journey::{Party, Rule, Scope, Story};
use crate::model::{JourneyNumber, QueueId, Refusal, ReplyCode, Timestamp};
use crate::shard::{Command, run_blocking};

/// What is kept of an id.
#[derive(Debug, Clone)]
pub struct Told {
    /// Messages that had it, the newest first.
    pub stories: Page<Story>,
    /// Of their queues that are a subscription's: since when nobody consumes from them.
    pub dark: BTreeMap<QueueId, Timestamp>,
    /// When the oldest that is kept happened; `None`: nothing is kept.
    pub since: Option<Timestamp>,
    /// Publications that have given way to newer ones since the broker was started.
    pub lost: u64,
    /// The id is one that the broker made, of a message that has given way, or that was published before it was started.
    pub has_gone: bool,
    /// Journeys of no messages of the vhost are kept.
    pub is_off: bool,
}

impl Broker {
    /// Keeps journeys of messages from now on, in the place of what was said about the same scope.
    pub async fn keep_journeys(&self, who: &Identity, rule: Rule) -> Result<(), Refusal> {
        self.done(Request::PutJourneyRule { vhost: who.vhost_name(), rule }).await
    }

    /// Keeps none for this scope any more; that there is no rule is fine.
    pub async fn keep_no_journeys(&self, who: &Identity, scope: Scope) -> Result<(), Refusal> {
        self.done(Request::DeleteJourneyRule { vhost: who.vhost_name(), scope }).await
    }

    /// The rules, in order: of the vhost, of exchanges, of queues.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub fn list_journey_rules(
        &self,
        who: &Identity,
        token: &str,
        size: usize,
    ) -> Result<Page<Rule>, Refusal> {
        let after: usize = match token {
            "" => 0,
            token => token.parse().map_err(|_| bad_token(token))?,
        };
        let rules = who.vhost.journey_rules();
        let entries: Vec<Rule> = rules.iter().skip(after).take(size.saturating_add(1)).cloned().collect();
        Ok(page(entries, size, |_| after.saturating_add(size).to_string()))
    }

    /// What is kept of messages of the user's vhost with this id, be it given by their publisher or made by the broker. All is in it that
    /// happened before the question came.
    ///
    /// # Errors
    /// 502 for a token that this call did not give.
    pub async fn journeys(
        &self,
        who: &Identity,
        id: &str,
        token: &str,
        size: usize,
    ) -> Result<Told, Refusal> {
        let before = match token {
            "" => None,
            token => Some(token.parse::<JourneyNumber>().map_err(|_| bad_token(token))?.0),
        };
        let mut answers = Vec::new();
        for shard in self.shared.shards.values() {
            let (reply, answer) = oneshot::channel();
            shard.send(Command::TellJourneys { reply });
            answers.push(answer);
        }
        for answer in answers {
            // A shard that has stopped has told everything.
            let _ = answer.await;
        }
        let (journeys, vhost, wanted) =
            (Arc::clone(&self.shared.gauges.journeys), who.vhost_name(), id.to_owned());
        let permit = Arc::clone(&self.shared.journey_permits).acquire_owned().await;
        let read = run_blocking(&self.shared.platform.workers, move || {
            // Nobody closes it.
            let _permit = permit;
            let kept = journeys.kept();
            (kept.stories(&vhost, &wanted, before, size.saturating_add(1)), kept.since, kept.lost)
        });
        let Some((stories, since, lost)) = read.await else {
            return Err(Refusal::new(ReplyCode::InternalError, "the journeys could not be read").retryable());
        };
        let queues = stories.iter().flat_map(|story| &story.receipts).map(|receipt| &receipt.queue);
        let dark = queues
            .filter(|queue| queue.subscription.is_some())
            .filter_map(|queue| Some((queue.id, self.shared.presence.dark_since(queue.id)?)))
            .collect();
        let made = id.parse::<JourneyNumber>().ok();
        let has_gone = made.is_some_and(|number| {
            stories.is_empty()
                && number < self.shared.gauges.journeys.next_number()
                && (number.0 < self.shared.gauges.journeys.oldest_number()
                    || number < self.shared.gauges.journeys.first_number())
        });
        Ok(Told {
            stories: page(stories, size, |story: &Story| story.number.to_string()),
            dark,
            since,
            lost,
            has_gone,
            is_off: !who.vhost.keeps_journeys(),
        })
    }

    /// Whether whoever asks may see more of a connection than its number.
    pub fn may_see(&self, who: &Identity, party: &Party) -> bool {
        self.is_administrator(who) || party.user == who.user.name
    }
}
