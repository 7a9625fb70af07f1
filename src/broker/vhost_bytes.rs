//! The look for virtual hosts whose messages take more bytes than they may.
//!
//! Nothing is counted where nothing is limited. Where it is, what the shards know of the queues is added up five times a second, so a
//! virtual host may have more than its limit by what is published in between.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::broker::{Broker, Shared};
use super::vhost::Vhost;
use crate::model::{Entity, Refusal, ReplyCode};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(200);
/// Queues that are asked about at a time.
const QUEUES_AT_ONCE: usize = 1_000;

/// Looks as long as there is a broker.
pub(super) async fn watch_vhost_bytes(shared: Weak<Shared>) {
    loop {
        let Some(workers) = shared.upgrade().map(|shared| Arc::clone(&shared.platform.workers)) else {
            return;
        };
        workers.sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        let vhosts: Vec<Arc<Vhost>> = shared.vhosts().values().cloned().collect();
        let broker = Broker { shared };
        for vhost in vhosts {
            let full = match vhost.limits().max_bytes {
                None => None,
                Some(max) => {
                    let there = broker.stored_bytes(&vhost).await;
                    (there >= max).then(|| too_much(&vhost, max, there))
                }
            };
            vhost.put_full(full);
        }
    }
}

impl Broker {
    /// Bytes of all messages in a vhost's queues: that wait, that consumers have, that are retained, and dead letters.
    async fn stored_bytes(&self, vhost: &Vhost) -> u64 {
        let (mut sum, mut after) = (0u64, String::new());
        loop {
            let page = vhost.queues_after(&after, QUEUES_AT_ONCE);
            let Some(last) = page.last() else { return sum };
            after = last.name.to_string();
            for state in self.states(&page).await.values() {
                let counts = &state.counts;
                let bytes = [counts.bytes, counts.retained_bytes, counts.dead_letters_bytes];
                sum = bytes.into_iter().fold(sum, u64::saturating_add);
            }
        }
    }
}

fn too_much(vhost: &Vhost, max: u64, there: u64) -> Refusal {
    let text =
        format!("vhost '{}' holds {there} bytes of messages: byte limit ({max}) is reached", vhost.name);
    Refusal::new(ReplyCode::ResourceError, text)
        .about(Entity::Vhost, vhost.name.as_str())
        .field("max-bytes", format!("less than {max}"), there.to_string())
        .hint("take messages out of its queues, or have an administrator raise it with `leveret set vhost-limits`")
        .retryable()
}
