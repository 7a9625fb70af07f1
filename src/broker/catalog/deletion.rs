//! Deletions on a condition: the queue's shard looks, and takes no consumers from then on; the catalog goes on with
//! other things meanwhile, and hears of it as of any other request.

use std::collections::HashMap;
use std::sync::Arc;

use super::request::{Answer, Request};
use super::task::{CatalogCommand, CatalogTask, Reply};
use crate::broker::vhost::QueueDefinition;
use crate::model::{Entity, QueueId, Refusal, ReplyCode, VhostName};
use crate::shard::{Command, DeleteRefusal, SealConditions, out_of_service};

/// Deletions that wait for a shard's word, by number.
#[derive(Default)]
pub(in crate::broker) struct Sealings {
    last: u64,
    open: HashMap<u64, Sealing>,
}

struct Sealing {
    vhost: VhostName,
    queue: Arc<QueueDefinition>,
    reply: Option<Reply>,
}

impl CatalogTask {
    /// The command, if it can be carried out by what the catalog knows. If not, its shard is asked.
    pub(super) fn without_condition(&mut self, command: CatalogCommand) -> Option<CatalogCommand> {
        if let Request::Expire { queue } = command.request {
            self.expire(queue);
            return None;
        }
        let Request::DeleteQueue { vhost, connection, name, conditions } = &command.request else {
            return Some(command);
        };
        if *conditions == SealConditions::default() {
            return Some(command);
        }
        match self.applied.queue_to_delete(vhost, *connection, name) {
            Ok(Some(queue)) => {
                self.seal(vhost.clone(), queue, *conditions, command.reply);
                None
            }
            Ok(None) => Some(command),
            Err(refusal) => {
                // Who asked may be gone.
                let _ = command.reply.map(|reply| reply.send(Err(refusal)));
                None
            }
        }
    }

    /// A consumer may have come in the meantime: then the queue stays, and will say again when it is unused.
    pub(super) fn delete_if_unused(&mut self, queue: QueueId) {
        if let Some((vhost, queue)) = self.applied.find_queue(queue) {
            self.seal(vhost, queue, SealConditions { if_unused: true, if_empty: false }, None);
        }
    }

    /// Nobody came for a queue, as far as the clock can tell; its shard has the last word.
    fn expire(&mut self, queue: QueueId) {
        if let Some((vhost, queue)) = self.applied.find_queue(queue).filter(|found| self.is_expired(found)) {
            self.seal(vhost, queue, SealConditions { if_unused: true, if_empty: false }, None);
        }
    }

    fn is_expired(&self, (vhost, queue): &(VhostName, Arc<QueueDefinition>)) -> bool {
        if let Some(after_ms) = queue.expires_after_ms() {
            return self.shared.presence.is_expired(queue.id, after_ms);
        }
        let state = self.applied.vhosts.get(vhost);
        let subscription = queue.subscription.as_ref();
        let subscription = state.zip(subscription).and_then(|(state, name)| state.subscriptions.get(name));
        subscription.is_some_and(|wanted| self.shared.presence.is_expired(queue.id, wanted.expires_after_ms))
    }

    fn seal(
        &mut self,
        vhost: VhostName,
        queue: Arc<QueueDefinition>,
        conditions: SealConditions,
        reply: Option<Reply>,
    ) {
        let Some(shard) = self.shared.shard(queue.shard) else { return };
        self.sealings.last += 1;
        let number = self.sealings.last;
        shard.send(Command::Seal { queue: queue.id, conditions, number });
        self.sealings.open.insert(number, Sealing { vhost, queue, reply });
    }

    /// A shard has looked. What is to be deleted now comes as a command.
    pub(super) fn sealed(
        &mut self,
        number: u64,
        result: Result<(), DeleteRefusal>,
    ) -> Option<CatalogCommand> {
        let Sealing { vhost, queue, reply } = self.sealings.open.remove(&number)?;
        match result {
            // Somebody was there between the proposal and the shard's word.
            Ok(())
                if reply.is_none()
                    && queue.is_watched()
                    && !queue.auto_delete
                    && !self.is_expired(&(vhost.clone(), Arc::clone(&queue))) =>
            {
                self.unseal(&queue);
                None
            }
            Ok(()) => Some(CatalogCommand { request: Request::DeleteSealed { vhost, queue }, reply }),
            Err(why) => {
                // Who asked may be gone.
                let _ = reply.map(|reply| reply.send(Err(refused(&vhost, &queue, why))));
                None
            }
        }
    }

    /// Its deletion could not be recorded: it goes on.
    pub(super) fn unseal(&self, queue: &QueueDefinition) {
        if let Some(shard) = self.shared.shard(queue.shard) {
            shard.send(Command::Unseal { queue: queue.id });
        }
    }
}

fn refused(vhost: &VhostName, queue: &QueueDefinition, why: DeleteRefusal) -> Refusal {
    let why = match why {
        DeleteRefusal::InUse => "in use",
        DeleteRefusal::NotEmpty => "not empty",
        DeleteRefusal::OutOfService => return out_of_service(queue.shard),
    };
    Refusal::new(ReplyCode::PreconditionFailed, format!("queue '{}' in vhost '{vhost}' {why}", queue.name))
        .about(Entity::Queue, queue.name.as_str())
}

impl Answer {
    /// How many ready messages went with queues that were deleted; waits for their shards.
    pub(in crate::broker) async fn message_count(self) -> u64 {
        match self {
            Self::Deleted(counts) => {
                let mut sum = 0;
                for count in counts {
                    // A shard that has stopped holds no queue any more.
                    sum += count.await.unwrap_or(0);
                }
                sum
            }
            Self::Done | Self::Bound(_) | Self::Queue(_) | Self::Subscribed(..) => 0,
        }
    }
}
