//! One connection after the other: a client that comes back takes the place of its earlier connection.
//!
//! A connection may break without the broker's notice. If its client came back beside it, the earlier one's clean-up would
//! hit what the later one has declared already: an auto-delete queue whose consumer was the earlier one's goes just before
//! the later one consumes from it. So a client that says who it is waits until everything of its earlier self is gone.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{oneshot, watch};

use super::broker::{Broker, Shared};
use super::catalog::Request;
use super::login::Identity;
use crate::model::{ClientId, Entity, Refusal, ReplyCode, UserName};
use crate::shard::Command;

type Client = (UserName, ClientId);

/// Who is there under which identity. Each entry belongs to a connection, or to one that is being cleaned up.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// By arrival. Only the last one stays; the others are on their way out.
    clients: HashMap<Client, BTreeMap<u64, Holder>, foldhash::fast::RandomState>,
    arrivals: u64,
}

/// A place as those see it who wait for it.
#[derive(Debug)]
struct Holder {
    /// Asks the connection to go.
    displace: Option<oneshot::Sender<()>>,
    /// Closed when the place is free.
    gone: watch::Receiver<()>,
}

/// What a client holds by its identity, until its connection is over and cleaned up: dropping this says so.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    client: Client,
    arrival: u64,
    displaced: oneshot::Receiver<()>,
    /// Dropped after the place is given up, so that whoever hears of it finds it free.
    _gone: watch::Sender<()>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Takes the place of a client's earlier connection: that one ends, and this waits until what it held has gone back and
    /// what was its own is deleted. At once if there is none.
    ///
    /// # Errors
    /// 530 if a still newer connection of the same client has come meanwhile.
    pub async fn take_place(&self, who: &Identity, client: ClientId) -> Result<Place, Refusal> {
        let mut place = self.arrive((who.user.name.clone(), client));
        while let Some(mut gone) = place.before() {
            tokio::select! {
                biased;
                // Nothing is ever sent: it is closed.
                _ = gone.changed() => {}
                _ = &mut place.displaced => return Err(displaced()),
            }
        }
        Ok(place)
    }

    fn arrive(&self, client: Client) -> Place {
        let (displace, displaced) = oneshot::channel();
        let (sender, gone) = watch::channel(());
        let mut taken = self.shared.places.lock();
        taken.arrivals += 1;
        let arrival = taken.arrivals;
        let holders = taken.clients.entry(client.clone()).or_default();
        if let Some(mut last) = holders.last_entry()
            && let Some(displace) = last.get_mut().displace.take()
        {
            // It may be on its way out already.
            let _ = displace.send(());
        }
        holders.insert(arrival, Holder { displace: Some(displace), gone });
        drop(taken);
        Place { shared: Arc::clone(&self.shared), client, arrival, displaced, _gone: sender }
    }

    /// Waits until all that a closing connection has told the shards and the catalog is carried out, and what follows from
    /// it, too. Without `through_catalog` the shards' part is all there is.
    async fn cleaned_up(&self, who: &Identity, through_catalog: bool) {
        self.shards_have_passed().await;
        if !through_catalog {
            return;
        }
        // The shards' word of queues that nobody uses any more is with the catalog now, and it asks them whether that is
        // still so. Then their answers are with it, and with the next request it has carried out what follows from them.
        self.catalog_has_passed(who).await;
        self.shards_have_passed().await;
        self.catalog_has_passed(who).await;
    }

    /// Waits until the shards have done what they were told so far.
    async fn shards_have_passed(&self) {
        for shard in self.shared.shards.values() {
            let (reply, passed) = oneshot::channel();
            shard.send(Command::Inspect { queues: Vec::new(), reply });
            // A shard that has stopped holds nothing any more.
            let _ = passed.await;
        }
    }

    /// Waits until the catalog has done what it was told so far.
    async fn catalog_has_passed(&self, who: &Identity) {
        let request = Request::CloseConnection { vhost: who.vhost_name(), connection: who.connection };
        if let Err(refusal) = self.done(request).await {
            tracing::debug!(connection = %who.connection, %refusal, "the catalog did not tell of a clean-up");
        }
    }
}

impl Place {
    /// What tells that the connection before this one is gone; `None` if there is none.
    fn before(&self) -> Option<watch::Receiver<()>> {
        let taken = self.shared.places.lock();
        let holders = taken.clients.get(&self.client)?;
        holders.range(..self.arrival).next_back().map(|(_, holder)| holder.gone.clone())
    }

    /// Whether a newer connection of the same client wants the place; not to be asked again once it does.
    pub(super) fn poll_displaced(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.displaced).poll(context).map(drop)
    }

    /// Gives the place up when nothing is left of the connection.
    pub(super) fn give_up_when_cleaned(self, broker: Broker, who: Identity, through_catalog: bool) {
        tokio::spawn(async move {
            broker.cleaned_up(&who, through_catalog).await;
            drop(self);
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.places.lock();
        if let Some(holders) = taken.clients.get_mut(&self.client) {
            holders.remove(&self.arrival);
            if holders.is_empty() {
                taken.clients.remove(&self.client);
            }
        }
    }
}

/// Why an older connection has to go. Coming back would only drive out the newer one.
pub(super) fn displaced() -> Refusal {
    Refusal::new(
        ReplyCode::NotAllowed,
        "a newer connection of the same client has taken the place of this one",
    )
    .about(Entity::Connection, "")
    .hint("one connection at a time may use a client_id")
}
