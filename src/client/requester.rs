//! Asking and getting an answer: requests whose replies come straight back, through no queue.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channel::Channel;
use super::consumer::{Consumer, Delivery};
use super::error::{ConfirmError, ConsumeError, PublishError, RequestError};
use super::message::Message;
use super::publisher::Publisher;
use crate::model::REPLY_TO;

/// Asks whoever takes messages from a queue, and waits for the answers. It has a consumer of
/// `amq.rabbitmq.reply-to`, so its channel can have no other.
///
/// Replies come at most once and are stored nowhere: one that comes while the connection is broken is lost, and so is one that comes
/// when nobody waits for it any more.
pub struct Requester {
    publisher: Publisher,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    replies: JoinHandle<()>,
}

/// Who waits, by correlation id; and why nobody can any more.
#[derive(Default)]
struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    senders: HashMap<String, oneshot::Sender<Delivery>>,
    ended: Option<Arc<ConsumeError>>,
}

/// A request came to no reply.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AskError {
    /// It was not published.
    Publish(PublishError),
    /// The broker did not take it, or it reached no queue.
    NotTaken(ConfirmError),
    /// No reply came in time; the request may have been carried out or not, or be carried out later.
    TimedOut {
        /// The time allowed, in milliseconds.
        timeout_ms: u64,
    },
    /// No replies come any more; the request may have been carried out or not.
    Ended(Arc<ConsumeError>),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(error) => error.fmt(f),
            Self::NotTaken(error) => error.fmt(f),
            Self::TimedOut { timeout_ms } => {
                write!(
                    f,
                    "no reply came within {timeout_ms} ms; the request may have been carried out or not"
                )
            }
            Self::Ended(error) => write!(f, "{error}; the request may have been carried out or not"),
        }
    }
}

impl std::error::Error for AskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Publish(error) => Some(error),
            Self::NotTaken(error) => Some(error),
            Self::TimedOut { .. } => None,
            Self::Ended(error) => Some(error),
        }
    }
}

impl Channel {
    /// Starts waiting for replies, to ask over an exchange ("" is the default exchange, which leads to the queue that the routing key
    /// names). Requests may have routing keys of their own.
    ///
    /// # Errors
    /// Among others 406: this channel waits for replies already.
    ///
    /// # Cancel safety
    /// What was started is ended again.
    pub async fn requester(&self, exchange: &str, routing_key: &str) -> Result<Requester, RequestError> {
        let consumer = self.consume(REPLY_TO).no_ack().start().await?;
        let publisher = self.publisher(exchange, routing_key).open().await?;
        let waiting = Arc::new(Waiting::default());
        let replies = tokio::spawn(hand_out(consumer, Arc::clone(&waiting)));
        Ok(Requester { publisher, waiting, next: AtomicU64::new(1), replies })
    }
}

impl Requester {
    /// Publishes a request, and waits so long for its reply. Its `reply_to` and `correlation_id` are set here. Any number of requests can
    /// be under way together.
    ///
    /// # Cancel safety
    /// The request may have been published; its reply is thrown away.
    pub async fn request(
        &self,
        message: impl Into<Message>,
        patience: Duration,
    ) -> Result<Delivery, AskError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let message = message.into().reply_to(REPLY_TO).correlation_id(id.clone());
        let reply = self.waiting.wait_for(&id).map_err(AskError::Ended)?;
        let _forget = Forget { waiting: &self.waiting, id: &id };
        match timeout(patience, self.ask(message, reply)).await {
            Ok(answered) => answered,
            Err(_) => {
                let timeout_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                Err(AskError::TimedOut { timeout_ms })
            }
        }
    }

    async fn ask(
        &self,
        message: Message,
        mut reply: oneshot::Receiver<Delivery>,
    ) -> Result<Delivery, AskError> {
        let confirm = self.publisher.publish(message).await.map_err(AskError::Publish)?;
        tokio::select! {
            biased;
            replied = &mut reply => return replied.map_err(|_| self.waiting.ended()),
            confirmed = confirm => drop(confirmed.map_err(AskError::NotTaken)?),
        }
        reply.await.map_err(|_| self.waiting.ended())
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.replies.abort();
    }
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester")
            .field("waiting", &self.waiting.state().senders.len())
            .finish_non_exhaustive()
    }
}

/// Gives replies to those who wait for them, until there are none any more.
async fn hand_out(mut consumer: Consumer, waiting: Arc<Waiting>) {
    let ended = loop {
        match consumer.next().await {
            Some(Ok(delivery)) => {
                // One that cannot be read, or for which nobody waits any more, is nobody's.
                let id = delivery.properties().map(|properties| properties.correlation_id);
                let sender = id.ok().and_then(|id| waiting.state().senders.remove(&id));
                drop(sender.map(|sender| sender.send(delivery)));
            }
            Some(Err(error)) => break error,
            None => break ConsumeError::Cancelled { reason: "it was cancelled".to_owned() },
        }
    };
    let mut state = waiting.state();
    state.ended = Some(Arc::new(ended));
    state.senders.clear();
}

impl Waiting {
    fn wait_for(&self, id: &str) -> Result<oneshot::Receiver<Delivery>, Arc<ConsumeError>> {
        let mut state = self.state();
        if let Some(ended) = &state.ended {
            return Err(Arc::clone(ended));
        }
        let (sender, receiver) = oneshot::channel();
        state.senders.insert(id.to_owned(), sender);
        Ok(receiver)
    }

    fn ended(&self) -> AskError {
        let ended = self.state().ended.clone();
        // Senders go when a reply comes, or all together when it has ended.
        AskError::Ended(ended.unwrap_or_else(|| {
            Arc::new(ConsumeError::Cancelled { reason: "nobody hands out replies any more".to_owned() })
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody waits for this reply any more.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.state().senders.remove(self.id);
    }
}
