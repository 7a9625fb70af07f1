//! Queues and consumers that could not be restored with the rest, because another connection has the queue for itself: they are
//! tried again while everything else goes on.

use std::convert::Infallible;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::sleep;

use super::backoff::Delays;
use super::connection::Event;
use super::consumer::ConsumerShared;
use super::core::Core;
use super::driver::random_fraction;
use super::error::RequestError;
use super::request::{Answer, Effect, OnBreak};
use super::state::{Stage, State};
use crate::model::{Refusal, ReplyCode};
use crate::wire::pb::{self, frame::Body};

/// Tries what is taken until nothing is left, each time that there is something. Runs beside the session, in the same task,
/// which carries the requests, and ends with it: what is taken then is found out anew.
pub(super) async fn mend(core: &Arc<Core>) -> Infallible {
    let backoff = core.options.reconnect.clone().unwrap_or_default();
    loop {
        poll_fn(|_| if core.take_mending() { Poll::Ready(()) } else { Poll::Pending }).await;
        mend_all(core, Delays::new(&backoff)).await;
    }
}

async fn mend_all(core: &Arc<Core>, mut delays: Delays) {
    let mut refused: Vec<Arc<ConsumerShared>> = Vec::new();
    loop {
        let (locked, more): (Vec<String>, _) = {
            let mut state = core.state();
            (state.locked.keys().cloned().collect(), mem::take(&mut state.refused))
        };
        for (consumer, refusal) in more {
            if !core.state().is_wanted(&consumer) {
                continue;
            }
            let what = consumer_of(&consumer.queue());
            core.announce(Event::NotRestored { what, refusal: Arc::new(refusal) });
            refused.push(consumer);
        }
        if locked.is_empty() && refused.is_empty() {
            return;
        }
        sleep(delays.next(random_fraction())).await;
        for queue in locked {
            try_again(core, &queue).await;
        }
        let mut still_refused = Vec::new();
        for consumer in refused {
            if try_to_consume(core, &consumer).await {
                still_refused.push(consumer);
            }
        }
        refused = still_refused;
    }
}

/// Whether a refusal says that another connection has a queue for itself: that may be over soon.
pub(super) fn is_taken(refusal: &Refusal) -> bool {
    match refusal.code {
        ReplyCode::ResourceLocked => true,
        ReplyCode::AccessRefused => refusal.retryable,
        _ => false,
    }
}

/// Tries to start a consumer again. Whether its queue is still taken.
async fn try_to_consume(core: &Core, consumer: &Arc<ConsumerShared>) -> bool {
    if !core.state().is_wanted(consumer) {
        return false;
    }
    match ask(core, consumer.channel(), Body::Consume(consumer.request(None))).await {
        Ok(_) => core.announce(Event::Restored { what: consumer_of(&consumer.queue()) }),
        Err(RequestError::Refused(refusal)) if is_taken(&refusal) => return true,
        Err(error @ RequestError::Refused(_)) => core.state().not_restored(consumer, &error),
        // The channel or the connection is about to end.
        Err(_) => {}
    }
    false
}

fn consumer_of(queue: &str) -> String {
    format!("consumer of queue '{queue}'")
}

/// What came of trying a queue.
enum Tried {
    /// It is there.
    Declared,
    /// The time has not come.
    Later,
    Refused(Refusal),
}

async fn try_again(core: &Core, queue: &str) {
    let Some((channel, declare)) = core.state().declaration_of(queue) else { return };
    let tried = match ask(core, channel, Body::DeclareQueue(declare)).await {
        Ok(_) => Tried::Declared,
        Err(RequestError::Refused(refusal)) if refusal.code == ReplyCode::ResourceLocked => Tried::Later,
        Err(RequestError::Refused(refusal)) => Tried::Refused(refusal),
        // The channel or the connection is about to end.
        Err(_) => Tried::Later,
    };
    match tried {
        Tried::Later => {}
        Tried::Refused(refusal) => {
            core.announce(not_restored(queue, &refusal));
            let error = RequestError::Refused(refusal);
            let mut state = core.state();
            for consumer in state.unlock(queue) {
                state.not_restored(&consumer, &error);
            }
        }
        Tried::Declared => {
            let bindings: Vec<_> = core.state().recorded.bindings_to(queue).cloned().collect();
            for binding in bindings {
                let bind = Body::Bind(pb::Bind { binding: Some(binding) });
                if let Err(RequestError::Refused(refusal)) = ask(core, channel, bind).await {
                    core.announce(not_restored(queue, &refusal));
                }
            }
            core.state().consume_again(channel, queue);
            core.announce(Event::Restored { what: format!("queue '{queue}'") });
        }
    }
}

async fn ask(core: &Core, channel: u32, body: Body) -> Result<Body, RequestError> {
    let answer: Answer = core.request(channel, &body, OnBreak::Void, Effect::None)?;
    answer.body().await
}

fn not_restored(queue: &str, refusal: &Refusal) -> Event {
    Event::NotRestored { what: format!("queue '{queue}'"), refusal: Arc::new(refusal.clone()) }
}

impl State {
    /// The request for a locked queue, and a channel for it. `None` if no channel is open, or the queue is not wanted any
    /// more.
    fn declaration_of(&mut self, queue: &str) -> Option<(u32, pb::DeclareQueue)> {
        let Some(declare) = self.recorded.queue(queue).cloned() else {
            self.locked.remove(queue);
            return None;
        };
        let mut channels = self.channels.iter();
        let (&channel, _) = channels.find(|(_, entry)| entry.stage == Stage::Open)?;
        Some((channel, declare))
    }

    /// A queue need not be tried any more. The consumers that wait for it and are still wanted.
    fn unlock(&mut self, queue: &str) -> Vec<Arc<ConsumerShared>> {
        let mut waiting = self.locked.remove(queue).unwrap_or_default();
        waiting.retain(|consumer| self.is_wanted(consumer));
        waiting
    }

    /// Whether a consumer that waits for its queue is still wanted.
    fn is_wanted(&self, consumer: &Arc<ConsumerShared>) -> bool {
        let entry = self.channels.get(&consumer.channel()).filter(|entry| entry.stage == Stage::Open);
        let there = entry.and_then(|entry| entry.consumers.get(&consumer.id()));
        there.is_some_and(|(stage, there)| *stage == Stage::Open && Arc::ptr_eq(there, consumer))
    }

    /// Starts the consumers of a queue that is there again.
    fn consume_again(&mut self, channel: u32, queue: &str) {
        let waiting = self.unlock(queue);
        if self.recorded.queue(queue).is_none() {
            return self.abandon_queue(channel, queue);
        }
        for consumer in waiting {
            let body = Body::Consume(consumer.request(None));
            let effect = Effect::ConsumerRestored(consumer.clone());
            let asked = self.request(consumer.channel(), &body, OnBreak::Done, effect, Vec::new());
            if let Err(error) = asked {
                self.not_restored(&consumer, &error);
            }
        }
    }
}
