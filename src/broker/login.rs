//! Who is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::broker::{Broker, ConnectionDescription, ConnectionMeter, UNFINISHED, stopping};
use super::catalog::Request;
use super::seats::Seat;
use super::vhost::Vhost;
use crate::auth::{Password, User, UserLimitsChange, login_refused, may_log_in_from, may_open, verify_login};
use crate::model::{ConnectionId, Entity, Refusal, ReplyCode, UserName, VhostName};
use crate::shard::run_blocking;

/// A connection that is logged in: who, and where.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The connection's number.
    pub connection: ConnectionId,
    /// The user as it was at login.
    pub user: Arc<User>,
    /// The vhost.
    pub vhost: Arc<Vhost>,
    /// What it counts by; `None`: it does not.
    pub(super) seat: Option<Arc<Seat>>,
}

impl Identity {
    pub(super) fn vhost_name(&self) -> VhostName {
        self.vhost.name.clone()
    }
}

impl Broker {
    pub(super) fn is_administrator(&self, who: &Identity) -> bool {
        self.shared.users().get(&who.user.name).is_some_and(|user| user.administrator)
    }

    /// Whether its user is an administrator now, whatever it was at login.
    pub(super) fn check_administrator(&self, who: &Identity) -> Result<(), Refusal> {
        if self.is_administrator(who) {
            return Ok(());
        }
        let name = &who.user.name;
        let text = format!("user '{name}' is no administrator");
        Err(Refusal::new(ReplyCode::AccessRefused, text).about(Entity::User, name.as_str()))
    }

    /// Makes this user an administrator with this password and without limits, and makes the user if there is none; nobody's
    /// rights are asked. It is the way back in for whoever has the machine: no front end may offer it.
    ///
    /// # Errors
    /// If it cannot be recorded, or the name is none that a user may have.
    pub async fn recover_administrator(&self, name: UserName, password: Password) -> Result<(), Refusal> {
        let password_hash = Some(self.hash(password).await?);
        let vhosts = self.shared.users().get(&name).map(|user| user.vhosts.clone()).unwrap_or_default();
        let vhosts = vhosts.into_iter().filter(|vhost| self.vhost(vhost).is_ok()).collect();
        let put = Request::PutUser { name: name.clone(), password_hash, administrator: true, vhosts };
        self.done(put).await?;
        // It would be no way in for whoever may have no connections.
        let change = UserLimitsChange { max_connections: Some(None), max_channels: Some(None) };
        self.done(Request::LimitUser { name, change }).await
    }

    /// Checks a password and opens a vhost. Takes tens of milliseconds the first time a user logs in.
    ///
    /// # Errors
    /// 403 for a wrong user or password, a user who may not open the vhost, or guest from afar; 530 for a vhost
    /// that does not exist.
    pub async fn log_in(
        &self,
        user: UserName,
        password: Password,
        vhost: &str,
        peer: SocketAddr,
    ) -> Result<Identity, Refusal> {
        may_log_in_from(&user, &password, peer.ip().to_canonical().is_loopback())?;
        let known = self.shared.users().get(&user).cloned();
        let remembered = self.remembers(&user, &password, known.as_deref());
        let known = if remembered { known } else { self.verify(user.clone(), password, known).await? };
        let Some(known) = known else { return Err(login_refused(&user)) };
        self.enter(known, vhost)
    }

    /// Lets somebody in without a password: for what runs the broker itself. No front end may offer it.
    pub(crate) fn let_in(&self, user: &UserName, vhost: &str) -> Result<Identity, Refusal> {
        let known = self.shared.users().get(user).cloned();
        self.enter(known.ok_or_else(|| login_refused(user))?, vhost)
    }

    fn enter(&self, user: Arc<User>, vhost: &str) -> Result<Identity, Refusal> {
        let vhost = self.vhost(vhost)?;
        may_open(&user, &vhost.name)?;
        Ok(Identity { connection: self.shared.next_connection(), user, vhost, seat: None })
    }

    /// Whether this login succeeded before, with the password that the user has now.
    fn remembers(&self, user: &UserName, password: &Password, known: Option<&User>) -> bool {
        let Some(known) = known else { return false };
        let logins = self.shared.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.knows(user, password, &known.password)
    }

    /// Does the slow check on a thread that may block. `None`: wrong user or password.
    async fn verify(
        &self,
        user: UserName,
        password: Password,
        known: Option<Arc<User>>,
    ) -> Result<Option<Arc<User>>, Refusal> {
        let permit = Arc::clone(&self.shared.login_permits).acquire_owned().await.map_err(|_| stopping())?;
        // While this one waited for its turn, another connection of the same user may have had it.
        if self.remembers(&user, &password, known.as_deref()) {
            return Ok(known);
        }
        let shared = Arc::clone(&self.shared);
        let verified = run_blocking(&self.shared.platform.workers, move || {
            let _permit = permit;
            let right = verify_login(&password, known.as_ref().map(|user| &user.password));
            let known = known.filter(|_| right)?;
            let mut logins = shared.logins.lock().unwrap_or_else(PoisonError::into_inner);
            logins.remember(&user, &password, &known.password);
            Some(known)
        });
        verified.await.ok_or_else(|| {
            Refusal::new(ReplyCode::InternalError, format!("cannot check a password: {UNFINISHED}"))
        })
    }

    /// Lists a connection until [`Broker::deregister`]; the receiver gets a reason when it has to go.
    pub(super) fn register(
        &self,
        who: &Identity,
        name: String,
        peer: SocketAddr,
        client: BTreeMap<String, String>,
        connected_at_ms: u64,
    ) -> (Arc<ConnectionDescription>, oneshot::Receiver<Refusal>) {
        let (sender, receiver) = oneshot::channel();
        let description = Arc::new(ConnectionDescription {
            id: who.connection,
            name,
            user: who.user.name.clone(),
            vhost: who.vhost.name.clone(),
            peer,
            client,
            connected_at_ms,
            meter: ConnectionMeter::default(),
            blocked: Mutex::default(),
            disconnect: Mutex::new(Some(sender)),
        });
        self.shared.connections().insert(who.connection, Arc::clone(&description));
        // Since its login the user may have been deleted, or lost the right to be here.
        self.shared.check_rights(&description);
        (description, receiver)
    }

    /// Strikes a connection off the list.
    pub(super) fn deregister(&self, connection: ConnectionId) {
        self.shared.connections().remove(&connection);
    }
}
