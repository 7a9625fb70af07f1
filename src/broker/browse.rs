//! Looking into queues: ready messages, page by page, of which nothing changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::broker::{Broker, stopping};
use super::login::Identity;
use super::vhost::QueueDefinition;
use crate::journey::Filter;
use crate::message::{DeliveredView, headers_of};
use crate::model::{QueueId, Refusal};
use crate::routing::no_such_queue;
use crate::shard::{Came, Command, Look, Looked, LookedAt, QueueCounts, TakenOut, Which};

/// Which page of which messages somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowseRequest {
    /// The queue's name.
    pub queue: String,
    /// The queue that had the name at the first page.
    pub queue_id: Option<QueueId>,
    /// From this sequence on.
    pub from: u64,
    /// None from this sequence on; 0: all that the queue has now.
    pub end: u64,
    /// When they came.
    pub came: Came,
    /// Those that wait, or those that are retained.
    pub which: Which,
    /// Of those that are retained only the newest so many.
    pub newest: Option<u64>,
    /// Which of them.
    pub filter: Filter,
    /// Messages looked at, at most.
    pub count_max: usize,
    /// Bytes looked at, with 600 for each message, unless a single one has more.
    pub bytes_max: usize,
}

/// A page of what is ready in a queue.
#[derive(Debug)]
pub struct BrowsedPage {
    /// Which queue.
    pub queue: QueueId,
    /// Messages that were wanted, in order; there may be none though further pages have some.
    pub messages: Vec<LookedAt>,
    /// Messages looked at.
    pub examined: usize,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<u64>,
    /// Where the snapshot ends.
    pub end: u64,
    /// The queue's numbers.
    pub counts: QueueCounts,
}

impl Broker {
    /// Shows a page of the ready messages of a queue.
    ///
    /// # Errors
    /// 404 for a queue that does not exist, or is another one than at the first page, 405 for one of another connection, 541
    /// if messages cannot be read back.
    pub async fn browse(&self, who: &Identity, request: BrowseRequest) -> Result<BrowsedPage, Refusal> {
        let BrowseRequest {
            queue: name,
            queue_id,
            from,
            end,
            came,
            which,
            newest,
            filter,
            count_max,
            bytes_max,
        } = request;
        let queue = self.same_queue(who, &name, queue_id)?;
        let look = Look { queue: queue.id, from, end, came, which, newest, count_max, bytes_max };
        let (reply, looked) = oneshot::channel();
        self.shard(&queue)?.send(Command::Browse { look, reply });
        let looked = looked.await.map_err(|_| stopping())?.map_err(|refusal| *refusal)?;
        let Looked { mut messages, next, end, counts } = looked;
        let examined = messages.len();
        messages.retain(|message| is_wanted(message, &filter));
        Ok(BrowsedPage { queue: queue.id, messages, examined, next, end, counts })
    }

    /// Takes ready messages out of a queue that were published elsewhere; returns those of them that were not ready.
    ///
    /// # Errors
    /// As for [`Broker::browse`].
    pub async fn remove_moved(
        &self,
        who: &Identity,
        name: &str,
        queue_id: QueueId,
        sequences: BTreeSet<u64>,
    ) -> Result<Vec<u64>, Refusal> {
        self.take_out(who, name, queue_id, sequences, TakenOut::Moved).await
    }

    /// Takes messages out of a queue that it holds back, and that are not wanted any more; returns those of them that it does not hold
    /// back.
    ///
    /// # Errors
    /// As for [`Broker::browse`].
    pub async fn cancel_delayed(
        &self,
        who: &Identity,
        name: &str,
        queue_id: QueueId,
        sequences: BTreeSet<u64>,
    ) -> Result<Vec<u64>, Refusal> {
        self.take_out(who, name, queue_id, sequences, TakenOut::Cancelled).await
    }

    async fn take_out(
        &self,
        who: &Identity,
        name: &str,
        queue_id: QueueId,
        sequences: BTreeSet<u64>,
        why: TakenOut,
    ) -> Result<Vec<u64>, Refusal> {
        let queue = self.same_queue(who, name, Some(queue_id))?;
        let (reply, others) = oneshot::channel();
        self.shard(&queue)?.send(Command::TakeOut { queue: queue.id, sequences, why, reply });
        others.await.map_err(|_| stopping())?.map_err(|refusal| *refusal)
    }

    /// The queue with this name, if it is the one that was seen.
    fn same_queue(
        &self,
        who: &Identity,
        name: &str,
        seen: Option<QueueId>,
    ) -> Result<Arc<QueueDefinition>, Refusal> {
        let queue = self.queue(who, name)?;
        match seen.is_some_and(|id| id != queue.id) {
            true => Err(no_such_queue(name, &who.vhost.name).hint(
                "it was deleted and made anew: what was seen of it is gone, begin with the first page",
            )),
            false => Ok(queue),
        }
    }
}

fn is_wanted(message: &LookedAt, filter: &Filter) -> bool {
    if *filter == Filter::default() {
        return true;
    }
    let headers = || headers_of(&message.bytes).ok().flatten();
    filter.takes(routing_key_of(message), |name| headers()?.value(name).cloned())
}

/// The message's own routing key, or that of all messages that it was published with.
pub fn routing_key_of(message: &LookedAt) -> &str {
    let own = DeliveredView::of(&message.bytes).and_then(|view| view.routing_key);
    own.unwrap_or(message.origin.routing_key.as_str())
}
