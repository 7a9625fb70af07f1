//! Permissions: from the wire to the broker and back.

use super::requests::named;
use crate::broker::{
    Broker, Identity, Pattern, PatternRefused, PermissionChange, Permissions, PermissionsListing,
    TopicPermissions, TopicPermissionsListing, topic_pattern,
};
use crate::model::{Entity, ExchangeName, Refusal, ReplyCode, UserName, VhostName};
use crate::wire::pb;

pub(super) async fn put(broker: &Broker, who: &Identity, put: pb::PutPermissions) -> Result<(), Refusal> {
    let pb::Permissions { user, vhost, configure, write, read } = put.permissions.unwrap_or_default();
    let (user, vhost) = of(who, &user, &vhost)?;
    let permissions = Permissions {
        configure: pattern(&user, "configure", Pattern::new(&configure))?,
        write: pattern(&user, "write", Pattern::new(&write))?,
        read: pattern(&user, "read", Pattern::new(&read))?,
    };
    let change = PermissionChange::Of { vhost, permissions: Some(permissions) };
    broker.change_permissions(who, user, change).await
}

pub(super) async fn delete(
    broker: &Broker,
    who: &Identity,
    delete: pb::DeletePermissions,
) -> Result<(), Refusal> {
    let (user, vhost) = of(who, &delete.user, &delete.vhost)?;
    broker.change_permissions(who, user, PermissionChange::Of { vhost, permissions: None }).await
}

pub(super) async fn put_topic(
    broker: &Broker,
    who: &Identity,
    put: pb::PutTopicPermissions,
) -> Result<(), Refusal> {
    let pb::TopicPermissions { user, vhost, exchange, write, read } = put.permissions.unwrap_or_default();
    let (user, vhost) = of(who, &user, &vhost)?;
    let permissions = TopicPermissions {
        write: pattern(&user, "write", topic_pattern(&write, &user, &vhost))?,
        read: pattern(&user, "read", topic_pattern(&read, &user, &vhost))?,
    };
    let exchange = named("exchange", ExchangeName::new, &exchange)?;
    let change = PermissionChange::OfTopic { vhost, exchange, permissions: Some(permissions) };
    broker.change_permissions(who, user, change).await
}

pub(super) async fn delete_topic(
    broker: &Broker,
    who: &Identity,
    delete: pb::DeleteTopicPermissions,
) -> Result<(), Refusal> {
    let (user, vhost) = of(who, &delete.user, &delete.vhost)?;
    let change = match &*delete.exchange {
        "" => PermissionChange::OfNoTopic { vhost },
        exchange => {
            let exchange = named("exchange", ExchangeName::new, exchange)?;
            PermissionChange::OfTopic { vhost, exchange, permissions: None }
        }
    };
    broker.change_permissions(who, user, change).await
}

/// Whom and where it is about; the connection's vhost if none is named.
fn of(who: &Identity, user: &str, vhost: &str) -> Result<(UserName, VhostName), Refusal> {
    let vhost = match vhost {
        "" => who.vhost.name.clone(),
        vhost => named("vhost", VhostName::new, vhost)?,
    };
    Ok((named("user", UserName::new, user)?, vhost))
}

fn pattern(
    user: &UserName,
    field: &str,
    checked: Result<Pattern, PatternRefused>,
) -> Result<Pattern, Refusal> {
    checked.map_err(|refused| {
        let got = match &refused {
            PatternRefused::Length { bytes } => format!("{bytes} bytes"),
            PatternRefused::TooComplex | PatternRefused::Syntax(_) => "another pattern".to_owned(),
        };
        Refusal::new(ReplyCode::PreconditionFailed, refused.to_string())
            .about(Entity::User, user.as_str())
            .field(field, "a regular expression of 1,024 bytes at most", got)
            .hint("there are no look-around and no back references; a special character is written with a backslash before it")
    })
}

pub(super) fn entry(listing: PermissionsListing) -> pb::Permissions {
    let PermissionsListing { user, vhost, permissions } = listing;
    pb::Permissions {
        user: user.to_string(),
        vhost: vhost.to_string(),
        configure: permissions.configure.to_string(),
        write: permissions.write.to_string(),
        read: permissions.read.to_string(),
    }
}

pub(super) fn topic_entry(listing: TopicPermissionsListing) -> pb::TopicPermissions {
    let TopicPermissionsListing { user, vhost, exchange, permissions } = listing;
    pb::TopicPermissions {
        user: user.to_string(),
        vhost: vhost.to_string(),
        exchange: exchange.to_string(),
        write: permissions.write.to_string(),
        read: permissions.read.to_string(),
    }
}
