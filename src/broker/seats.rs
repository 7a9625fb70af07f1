//! How many connections and channels users and virtual hosts have, held against their limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::broker::{Broker, Shared};
use super::login::Identity;
use super::users::user_deleted;
use crate::model::{Entity, Refusal, ReplyCode, UserName, VhostName};

/// What is taken.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    users: BTreeMap<UserName, OfUser>,
    /// Connections.
    vhosts: BTreeMap<VhostName, u32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct OfUser {
    connections: u32,
    channels: u32,
}

/// A connection that counts for its user and its virtual host, until this is dropped.
pub(super) struct Seat {
    shared: Weak<Shared>,
    user: UserName,
    vhost: VhostName,
    /// Channels that count for the user.
    channels: Mutex<u32>,
}

/// A limit that is reached.
struct Reached {
    limit: &'static str,
    text: String,
    max: u32,
    there: u32,
    /// What raises it, after `leveret set`.
    command: &'static str,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("user", &self.user).field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Counts a connection for its user and its virtual host, as long as the identity lives. To be asked for after the place of an
    /// earlier connection was taken, which counts no more then.
    ///
    /// # Errors
    /// 530 beyond the user's limit, or beyond that of the virtual host: an administrator gets in all the same, since nobody else
    /// could raise it.
    pub fn take_seat(&self, who: Identity) -> Result<Identity, Refusal> {
        let known = self.shared.users().get(&who.user.name).cloned();
        let known = known.ok_or_else(|| user_deleted(&who.user.name))?;
        let (user, vhost) = (known.name.clone(), who.vhost.name.clone());
        let mut taken = self.shared.seats.lock();
        let there = taken.vhosts.get(&vhost).copied().unwrap_or_default();
        let max = who.vhost.limits().max_connections;
        if let Some(max) = max.filter(|max| there >= *max && !known.administrator) {
            let text = format!(
                "access to vhost '{vhost}' refused for user '{user}': connection limit ({max}) is reached"
            );
            let reached = Reached { limit: "max-connections", text, max, there, command: "vhost-limits" };
            return Err(reached.refusal().about(Entity::Vhost, vhost.as_str()));
        }
        let there = taken.users.get(&user).copied().unwrap_or_default().connections;
        if let Some(max) = known.limits.max_connections.filter(|max| there >= *max) {
            let text =
                format!("connection refused for user '{user}': user connection limit ({max}) is reached");
            let reached = Reached { limit: "max-connections", text, max, there, command: "user-limits" };
            return Err(reached.refusal().about(Entity::User, user.as_str()));
        }
        *taken.vhosts.entry(vhost.clone()).or_default() += 1;
        taken.users.entry(user.clone()).or_default().connections += 1;
        drop(taken);
        let shared = Arc::downgrade(&self.shared);
        let seat = Seat { shared, user, vhost, channels: Mutex::new(0) };
        Ok(Identity { seat: Some(Arc::new(seat)), ..who })
    }
}

impl Seat {
    /// Counts another channel for the user.
    ///
    /// # Errors
    /// 530 beyond the user's limit.
    pub(super) fn open_channel(&self) -> Result<(), Refusal> {
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        let max = shared.users().get(&self.user).and_then(|user| user.limits.max_channels);
        let mut own = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = shared.seats.lock();
        let of_user = taken.users.entry(self.user.clone()).or_default();
        let there = of_user.channels;
        if let Some(max) = max.filter(|max| there >= *max) {
            let text = format!(
                "number of channels opened for user '{}' has reached the maximum allowed user limit of {max}",
                self.user
            );
            let reached = Reached { limit: "max-channels", text, max, there, command: "user-limits" };
            return Err(reached.refusal().about(Entity::User, self.user.as_str()));
        }
        of_user.channels += 1;
        *own += 1;
        Ok(())
    }

    /// So many channels are open now.
    pub(super) fn note_channels(&self, count: u32) {
        let mut own = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if *own == count {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let mut taken = shared.seats.lock();
        let of_user = taken.users.entry(self.user.clone()).or_default();
        of_user.channels = of_user.channels.saturating_sub(*own).saturating_add(count);
        *own = count;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.note_channels(0);
        let Some(shared) = self.shared.upgrade() else { return };
        let mut taken = shared.seats.lock();
        if let Some(of_user) = taken.users.get_mut(&self.user) {
            of_user.connections = of_user.connections.saturating_sub(1);
            if of_user.connections == 0 {
                taken.users.remove(&self.user);
            }
        }
        if let Some(of_vhost) = taken.vhosts.get_mut(&self.vhost) {
            *of_vhost = of_vhost.saturating_sub(1);
            if *of_vhost == 0 {
                taken.vhosts.remove(&self.vhost);
            }
        }
    }
}

impl Reached {
    fn refusal(self) -> Refusal {
        let Self { limit, text, max, there, command } = self;
        Refusal::new(ReplyCode::NotAllowed, text)
            .field(limit, format!("{max} at most"), format!("{there} and one more"))
            .hint(format!("close one, or have an administrator raise it with `leveret set {command}`"))
            .retryable()
    }
}
