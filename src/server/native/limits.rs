//! Limits of users and vhosts: from the wire to the broker and back.

use super::requests::named;
use crate::broker::{Broker, Identity, UserLimits, UserLimitsChange, VhostLimits, VhostLimitsChange};
use crate::model::{Refusal, ReplyCode, UserName, VhostName};
use crate::wire::pb;

pub(super) async fn put_user(broker: &Broker, who: &Identity, put: pb::PutUserLimits) -> Result<(), Refusal> {
    let pb::UserLimits { user, max_connections, max_channels } = put.limits.unwrap_or_default();
    let change = UserLimitsChange {
        max_connections: changed("max_connections", max_connections)?,
        max_channels: changed("max_channels", max_channels)?,
    };
    broker.limit_user(who, named("user", UserName::new, &user)?, change).await
}

pub(super) async fn put_vhost(
    broker: &Broker,
    who: &Identity,
    put: pb::PutVhostLimits,
) -> Result<(), Refusal> {
    let pb::VhostLimits { vhost, max_connections, max_queues, max_bytes } = put.limits.unwrap_or_default();
    let change = VhostLimitsChange {
        max_connections: changed("max_connections", max_connections)?,
        max_queues: changed("max_queues", max_queues)?,
        max_bytes: changed("max_bytes", max_bytes)?,
    };
    broker.limit_vhost(who, named("vhost", VhostName::new, &vhost)?, change).await
}

/// A limit that is asked for, if one is.
fn changed<T: TryFrom<i64>>(field: &str, asked: Option<i64>) -> Result<Option<Option<T>>, Refusal> {
    let asked = match asked {
        None => return Ok(None),
        Some(-1) => return Ok(Some(None)),
        Some(asked) => asked,
    };
    T::try_from(asked).map(|limit| Some(Some(limit))).map_err(|_| {
        Refusal::new(ReplyCode::PreconditionFailed, format!("{field} is no limit: {asked}")).field(
            field,
            "-1 for none, or a number from 0 on (of all but bytes 4294967295 at most)",
            asked.to_string(),
        )
    })
}

pub(super) fn of_user(limits: UserLimits) -> pb::UserLimits {
    let UserLimits { max_connections, max_channels } = limits;
    pb::UserLimits {
        user: String::new(),
        max_connections: max_connections.map(i64::from),
        max_channels: max_channels.map(i64::from),
    }
}

pub(super) fn of_vhost(limits: VhostLimits) -> pb::VhostLimits {
    let VhostLimits { max_connections, max_queues, max_bytes } = limits;
    pb::VhostLimits {
        vhost: String::new(),
        max_connections: max_connections.map(i64::from),
        max_queues: max_queues.map(i64::from),
        // It was an i64 when it came.
        max_bytes: max_bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    }
}
