//! Users and virtual hosts: made, changed and deleted, and after a restart as whoever asked for it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use super::books::Finding;
use super::run::Run;
use super::topology::Topology;
use super::world::{LIST_MAX, World};
use crate::broker::{Broker, Identity, Password, QueueDeclaration, UserChange};
use crate::model::{FieldTable, QueueName, Refusal, UserName, VhostName};

/// Users beside the first one.
const USERS: [&str; 2] = ["ida", "max"];
/// Virtual hosts beside the first one.
const VHOSTS: [&str; 2] = ["north", "south"];
/// The queue that a virtual host may have.
const QUEUE: &str = "inside";

/// Somebody's rights: whether they are an administrator, and the virtual hosts that they may open.
type Rights = (bool, BTreeSet<String>);

/// Who there is and what there is, by name: rights of users, and how many queues a virtual host has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct ShownAccess {
    users: BTreeMap<String, Rights>,
    vhosts: BTreeMap<String, usize>,
}

/// What is known of something: what it is, and what it may be instead; `None`: it is not there.
#[derive(Debug)]
struct Known<T> {
    is: Option<T>,
    may_be: Option<Option<T>>,
}

/// What is known of users and virtual hosts.
#[derive(Debug)]
pub(super) struct AccessBook {
    users: BTreeMap<&'static str, Known<Rights>>,
    vhosts: BTreeMap<&'static str, Known<usize>>,
}

/// A change of users or virtual hosts.
#[derive(Debug, Clone)]
pub(super) enum AccessChange {
    PutUser {
        name: &'static str,
        rights: Rights,
        is_new: bool,
    },
    DeleteUser(&'static str),
    PutVhost(&'static str),
    DeleteVhost(&'static str),
    /// A queue in a virtual host.
    DeclareIn(&'static str),
}

impl<T: Clone + PartialEq + Debug> Known<T> {
    fn nothing() -> Self {
        Self { is: None, may_be: None }
    }

    fn ask(&mut self, wanted: Option<T>) {
        self.may_be = Some(wanted);
    }

    fn answered(&mut self, is_done: bool) {
        if is_done && let Some(became) = self.may_be.take() {
            self.is = became;
        }
    }

    fn allows(&self, shown: Option<&T>) -> bool {
        let is_shown = |what: &Option<T>| what.as_ref() == shown;
        is_shown(&self.is) || self.may_be.as_ref().is_some_and(is_shown)
    }

    fn found(&mut self, what: &str, shown: Option<&T>) -> Result<(), Finding> {
        if !self.allows(shown) {
            return Err(format!("{what} is to be {:?} or {:?}, and is {shown:?}", self.is, self.may_be));
        }
        (self.is, self.may_be) = (shown.cloned(), None);
        Ok(())
    }
}

impl Default for AccessBook {
    fn default() -> Self {
        Self {
            users: USERS.iter().map(|name| (*name, Known::nothing())).collect(),
            vhosts: VHOSTS.iter().map(|name| (*name, Known::nothing())).collect(),
        }
    }
}

impl AccessBook {
    fn is_sure(&self) -> bool {
        self.users.values().all(|user| user.may_be.is_none())
            && self.vhosts.values().all(|vhost| vhost.may_be.is_none())
    }

    fn vhosts_there(&self) -> Vec<&'static str> {
        self.vhosts.iter().filter(|(_, vhost)| vhost.is.is_some()).map(|(name, _)| *name).collect()
    }

    fn ask(&mut self, change: &AccessChange) {
        match change {
            AccessChange::PutUser { name, rights, .. } => self.user(name).ask(Some(rights.clone())),
            AccessChange::DeleteUser(name) => self.user(name).ask(None),
            AccessChange::PutVhost(name) => {
                let queues = self.vhost(name).is.unwrap_or(0);
                self.vhost(name).ask(Some(queues));
            }
            AccessChange::DeclareIn(name) => self.vhost(name).ask(Some(1)),
            // What users may open stays on their lists.
            AccessChange::DeleteVhost(name) => self.vhost(name).ask(None),
        }
    }

    /// What was asked for is done, or nobody knows.
    pub(super) fn answered(&mut self, is_done: bool) {
        self.users.values_mut().for_each(|user| user.answered(is_done));
        self.vhosts.values_mut().for_each(|vhost| vhost.answered(is_done));
    }

    /// Whatever goes on: what is shown is as it was told to be, or as somebody asks for.
    pub(super) fn check(&self, shown: &ShownAccess) -> Result<(), Finding> {
        let users = self.users.iter().all(|(name, user)| user.allows(shown.users.get(*name)));
        let vhosts = self.vhosts.iter().all(|(name, vhost)| vhost.allows(shown.vhosts.get(*name)));
        match users && vhosts {
            true => Ok(()),
            false => Err(format!("{shown:?} are shown, and are to be {self:?}")),
        }
    }

    /// When nothing moves, as after a start: everything is as it was or as somebody asked for.
    pub(super) fn found(&mut self, shown: &ShownAccess) -> Result<(), Finding> {
        for (name, user) in &mut self.users {
            user.found(&format!("user '{name}'"), shown.users.get(*name))?;
        }
        for (name, vhost) in &mut self.vhosts {
            vhost.found(&format!("virtual host '{name}'"), shown.vhosts.get(*name))?;
        }
        let user = shown.users.keys().find(|name| !USERS.contains(&&***name));
        let vhost = shown.vhosts.keys().find(|name| !VHOSTS.contains(&&***name));
        match user.or(vhost) {
            Some(name) => Err(format!("'{name}' is there, and nobody made it")),
            None => Ok(()),
        }
    }

    fn user(&mut self, name: &str) -> &mut Known<Rights> {
        self.users.get_mut(name).expect("a name of the simulation's")
    }

    fn vhost(&mut self, name: &str) -> &mut Known<usize> {
        self.vhosts.get_mut(name).expect("a name of the simulation's")
    }
}

impl World {
    /// Users and virtual hosts but the first ones.
    pub(super) fn access(&self, who: &Identity) -> Result<ShownAccess, Finding> {
        let listed = self.broker.list_users(who, "", "", LIST_MAX);
        let users = listed.map_err(|refusal| format!("users cannot be listed: {refusal}"))?.entries;
        let vhosts = self.broker.list_vhosts(who, "", "", LIST_MAX).entries;
        let rights = |vhosts: &BTreeSet<VhostName>| vhosts.iter().map(ToString::to_string).collect();
        let mut shown = ShownAccess {
            users: users
                .iter()
                .map(|user| (user.name.to_string(), (user.administrator, rights(&user.vhosts))))
                .collect(),
            vhosts: vhosts.into_iter().map(|vhost| (vhost.name.to_string(), vhost.queues)).collect(),
        };
        shown.users.remove(&*who.user.name);
        shown.vhosts.remove(&*who.vhost.name);
        Ok(shown)
    }
}

impl Run {
    /// Somebody makes, changes or deletes a user or a virtual host; `None`: what became of the last change is not known.
    pub(super) fn change_access(&mut self) -> Option<Topology> {
        if !self.books.access.is_sure() {
            return None;
        }
        let vhosts = self.books.access.vhosts_there();
        let change = match self.random.one_in(2) {
            true => {
                let name = VHOSTS[self.random.below(VHOSTS.len())];
                match vhosts.contains(&name) {
                    false => AccessChange::PutVhost(name),
                    true if self.random.one_in(2) => AccessChange::DeleteVhost(name),
                    true => AccessChange::DeclareIn(name),
                }
            }
            false => {
                let name = USERS[self.random.below(USERS.len())];
                let is_new = self.books.access.user(name).is.is_none();
                // To make one takes long: its password is hashed.
                match is_new {
                    true if !self.random.one_in(2) => return None,
                    false if self.random.one_in(3) => AccessChange::DeleteUser(name),
                    _ => {
                        let mut opens: BTreeSet<String> = vhosts
                            .iter()
                            .filter(|_| self.random.one_in(2))
                            .map(ToString::to_string)
                            .collect();
                        opens.insert("/".to_owned());
                        let rights = (self.random.one_in(2), opens);
                        AccessChange::PutUser { name, rights, is_new }
                    }
                }
            }
        };
        self.books.access.ask(&change);
        Some(Topology::Access(change))
    }
}

impl Run {
    pub(super) fn count_access(&mut self, change: &AccessChange, is_done: bool) {
        let counters = &mut self.counters;
        let counter = match change {
            _ if !is_done => &mut counters.access_in_trouble,
            AccessChange::PutUser { .. } => &mut counters.users_put,
            AccessChange::DeleteUser(_) => &mut counters.users_deleted,
            AccessChange::PutVhost(_) | AccessChange::DeclareIn(_) => &mut counters.vhosts_put,
            AccessChange::DeleteVhost(_) => &mut counters.vhosts_deleted,
        };
        *counter += 1;
    }
}

/// Has a broker carry it out.
pub(super) async fn carry_out(broker: &Broker, who: &Identity, change: AccessChange) -> Result<(), Refusal> {
    let vhost = |name: &str| VhostName::new(name).expect("a name of the simulation's");
    let user = |name: &str| UserName::new(name).expect("a name of the simulation's");
    match change {
        AccessChange::PutUser { name, rights: (administrator, vhosts), is_new } => {
            let password = is_new.then(|| Password::new(name).expect("it is a password"));
            let vhosts = vhosts.iter().map(|name| vhost(name)).collect();
            broker.put_user(who, UserChange { name: user(name), password, administrator, vhosts }).await
        }
        AccessChange::DeleteUser(name) => broker.delete_user(who, user(name)).await,
        AccessChange::PutVhost(name) => broker.put_vhost(who, vhost(name)).await,
        AccessChange::DeleteVhost(name) => broker.delete_vhost(who, vhost(name)).await,
        AccessChange::DeclareIn(name) => {
            let inside = broker.let_in(&who.user.name, name)?;
            let declaration = QueueDeclaration {
                name: QueueName::new(QUEUE).expect("a name of the simulation's"),
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: FieldTable::default(),
            };
            broker.declare_queue(&inside, declaration).await.map(|_| ())
        }
    }
}
