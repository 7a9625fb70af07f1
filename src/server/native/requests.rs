//! Requests about topology, lists and administration: from the wire to the broker and back.

use super::browse::{browse, cancel_delayed, remove_moved};
use super::explain::explain;
use super::journeys;
use super::limits;
use super::lists::list;
use super::permissions;
use super::policies;
use super::subscriptions::subscribe;
use crate::broker::{
    AlterMode, Alteration, Altered, Binding, Broker, Destination, ExchangeDefinition, ExchangeKind, Identity,
    Password, QueueAlteration, QueueDeclaration, SealConditions, UserChange,
};
use crate::model::{
    Entity, ExchangeName, FieldTable, NameTooLong, QueueName, Refusal, ReplyCode, RoutingKey, UserName,
    VhostName,
};
use crate::wire::pb;
use crate::wire::pb::frame::Body;

/// Arguments of a declaration or binding, or a whole subscription, encoded, in bytes.
pub(super) const ARGUMENTS_BYTES_MAX: usize = 64 * 1024;

/// Carries a request out; the answer is never an `Error`. Those that may be long have `answer_bytes_max` at most.
pub(super) async fn carry_out(
    broker: &Broker,
    who: &Identity,
    body: Body,
    answer_bytes_max: usize,
) -> Result<Body, Refusal> {
    match body {
        Body::DeclareExchange(declare) => declare_exchange(broker, who, declare).await,
        Body::AlterExchange(alter) => alter_exchange(broker, who, alter).await.map(Body::ExchangeAltered),
        Body::DeleteExchange(delete) => {
            broker.delete_exchange(who, delete.name, delete.if_unused).await?;
            Ok(DONE)
        }
        Body::Bind(bind) => {
            broker.bind(who, binding(bind.binding)?).await?;
            Ok(DONE)
        }
        Body::Unbind(unbind) => {
            broker.unbind(who, binding(unbind.binding)?).await?;
            Ok(DONE)
        }
        Body::DeclareQueue(declare) => declare_queue(broker, who, declare).await,
        Body::AlterQueue(alter) => alter_queue(broker, who, alter).await.map(Body::QueueAltered),
        Body::DeleteQueue(delete) => {
            let conditions = SealConditions { if_unused: delete.if_unused, if_empty: delete.if_empty };
            let count = broker.delete_queue(who, delete.name, conditions).await?;
            Ok(Body::MessageCount(pb::MessageCount { count }))
        }
        Body::PurgeQueue(purge) => {
            let count = broker.purge_queue(who, &purge.name).await?;
            Ok(Body::MessageCount(pb::MessageCount { count }))
        }
        Body::Subscribe(request) => subscribe(broker, who, request).await,
        Body::Unsubscribe(pb::Unsubscribe { name, member }) => {
            let count = broker.unsubscribe(who, name, member).await?;
            Ok(Body::MessageCount(pb::MessageCount { count }))
        }
        Body::Browse(request) => browse(broker, who, request, answer_bytes_max).await.map(Body::Browsed),
        Body::RemoveMoved(request) => remove_moved(broker, who, request).await.map(Body::Removed),
        Body::CancelDelayed(request) => cancel_delayed(broker, who, request).await.map(Body::Removed),
        Body::List(request) => list(broker, who, request, answer_bytes_max).await.map(Body::Listing),
        Body::Explain(request) => {
            explain(broker, who, request, answer_bytes_max).await.map(Body::Explanation)
        }
        Body::KeepJourneys(request) => journeys::keep(broker, who, request).await.map(|()| DONE),
        Body::KeepNoJourneys(request) => journeys::keep_none(broker, who, request).await.map(|()| DONE),
        Body::TellJourneys(request) => {
            journeys::tell(broker, who, request, answer_bytes_max).await.map(Body::Journeys)
        }
        Body::PutUser(put) => put_user(broker, who, put).await,
        Body::PutUserLimits(put) => limits::put_user(broker, who, put).await.map(|()| DONE),
        Body::PutVhostLimits(put) => limits::put_vhost(broker, who, put).await.map(|()| DONE),
        Body::PutPermissions(put) => permissions::put(broker, who, put).await.map(|()| DONE),
        Body::DeletePermissions(delete) => permissions::delete(broker, who, delete).await.map(|()| DONE),
        Body::PutTopicPermissions(put) => permissions::put_topic(broker, who, put).await.map(|()| DONE),
        Body::DeleteTopicPermissions(delete) => {
            permissions::delete_topic(broker, who, delete).await.map(|()| DONE)
        }
        Body::PutPolicy(put) => policies::put(broker, who, put).await.map(|()| DONE),
        Body::DeletePolicy(delete) => policies::delete(broker, who, delete).await.map(|()| DONE),
        Body::DeleteUser(delete) => {
            broker.delete_user(who, named("name", UserName::new, &delete.name)?).await?;
            Ok(DONE)
        }
        Body::PutVhost(put) => {
            let name = named("name", VhostName::new, &put.name)?;
            match put.quarantine_queue.as_deref() {
                None => broker.put_vhost(who, name).await?,
                Some("") => broker.put_vhost_quarantine(who, name, None).await?,
                Some(queue) => {
                    let queue = named("quarantine_queue", QueueName::new, queue)?;
                    broker.put_vhost_quarantine(who, name, Some(queue)).await?;
                }
            }
            Ok(DONE)
        }
        Body::DeleteVhost(delete) => {
            broker.delete_vhost(who, named("name", VhostName::new, &delete.name)?).await?;
            Ok(DONE)
        }
        _ => {
            let text = "a frame of this kind is no request, or does not belong here";
            Err(Refusal::new(ReplyCode::CommandInvalid, text).about(Entity::Frame, ""))
        }
    }
}

const DONE: Body = Body::Done(pb::Done {});

async fn declare_exchange(
    broker: &Broker,
    who: &Identity,
    declare: pb::DeclareExchange,
) -> Result<Body, Refusal> {
    if declare.passive {
        broker.check_exchange(who, &declare.name)?;
        return Ok(DONE);
    }
    let definition = ExchangeDefinition {
        name: named("name", ExchangeName::new, &declare.name)?,
        kind: ExchangeKind::parse(&declare.r#type)?,
        durable: declare.durable,
        auto_delete: declare.auto_delete,
        internal: declare.internal,
        arguments: arguments(declare.arguments)?,
    };
    broker.declare_exchange(who, definition).await?;
    Ok(DONE)
}

async fn alter_exchange(
    broker: &Broker,
    who: &Identity,
    alter: pb::AlterExchange,
) -> Result<pb::ExchangeAltered, Refusal> {
    let pb::AlterExchange { name, arguments: set, remove, force, dry_run } = alter;
    let mode = match (dry_run, force) {
        (true, _) => AlterMode::DryRun,
        (false, true) => AlterMode::Force,
        (false, false) => AlterMode::IfAllFit,
    };
    let alteration = Alteration { name, set: arguments(set)?, remove };
    let Altered { altered, looked_at, misfits, first, not_all } =
        broker.alter_exchange(who, alteration, mode).await?;
    let first = first.into_iter().map(|misfit| pb::WaitingMisfit {
        queue: misfit.queue.to_string(),
        sequence: misfit.sequence,
        routing_key: misfit.routing_key,
        field: misfit.field,
        expected: misfit.expected,
        got: misfit.got,
    });
    Ok(pb::ExchangeAltered {
        altered,
        looked_at,
        misfits,
        first: first.collect(),
        not_all: not_all.unwrap_or_default(),
    })
}

async fn alter_queue(
    broker: &Broker,
    who: &Identity,
    alter: pb::AlterQueue,
) -> Result<pb::QueueAltered, Refusal> {
    let pb::AlterQueue { name, arguments: set, remove, dry_run, durable, exclusive, auto_delete } = alter;
    let alteration = QueueAlteration { name, set: arguments(set)?, remove, durable, exclusive, auto_delete };
    let changes = broker.alter_queue(who, alteration, dry_run).await?;
    Ok(pb::QueueAltered { altered: !dry_run, changes: changes.iter().map(pb::Difference::from).collect() })
}

async fn declare_queue(broker: &Broker, who: &Identity, declare: pb::DeclareQueue) -> Result<Body, Refusal> {
    let declared = if declare.passive {
        broker.check_queue(who, &declare.name).await?
    } else {
        let declaration = QueueDeclaration {
            name: named("name", QueueName::new, &declare.name)?,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: arguments(declare.arguments)?,
        };
        broker.declare_queue(who, declaration).await?
    };
    Ok(Body::QueueDeclared(pb::QueueDeclared {
        name: declared.name.to_string(),
        message_count: declared.messages_ready,
        consumer_count: declared.consumers,
    }))
}

async fn put_user(broker: &Broker, who: &Identity, put: pb::PutUser) -> Result<Body, Refusal> {
    let password = match put.password.as_str() {
        "" => None,
        password => Some(Password::new(password).map_err(|refused| {
            Refusal::new(ReplyCode::SyntaxError, refused.to_string())
                .about(Entity::User, put.name.as_str())
                .field("password", "1 to 1,024 bytes without control characters", "others")
        })?),
    };
    let vhosts = put.vhosts.iter().map(|vhost| named("vhosts", VhostName::new, vhost));
    let change = UserChange {
        name: named("name", UserName::new, &put.name)?,
        password,
        administrator: put.administrator,
        vhosts: vhosts.collect::<Result<_, _>>()?,
    };
    broker.put_user(who, change).await?;
    Ok(DONE)
}

fn binding(binding: Option<pb::Binding>) -> Result<Binding, Refusal> {
    let Some(binding) = binding else {
        return Err(Refusal::new(ReplyCode::SyntaxError, "the request names no binding")
            .about(Entity::Binding, "")
            .field("binding", "present", "absent"));
    };
    let kind = binding.destination_kind();
    let destination = match kind {
        pb::DestinationKind::Queue => {
            Destination::Queue(named("destination", QueueName::new, &binding.destination)?)
        }
        pb::DestinationKind::Exchange => {
            Destination::Exchange(named("destination", ExchangeName::new, &binding.destination)?)
        }
        pb::DestinationKind::Unspecified => {
            return Err(Refusal::new(ReplyCode::SyntaxError, "the binding does not say what it leads to")
                .about(Entity::Binding, "")
                .field("destination_kind", "queue or exchange", binding.destination_kind.to_string()));
        }
    };
    Ok(Binding {
        source: named("source", ExchangeName::new, &binding.source)?,
        destination,
        key: named("routing_key", RoutingKey::new, &binding.routing_key)?,
        arguments: arguments(binding.arguments)?,
    })
}

/// Reads arguments or headers.
pub(super) fn arguments(table: Option<pb::FieldTable>) -> Result<FieldTable, Refusal> {
    let Some(table) = table else { return Ok(FieldTable::default()) };
    let bytes = prost::Message::encoded_len(&table);
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(Refusal::new(ReplyCode::PreconditionFailed, "the arguments are too large").field(
            "arguments",
            format!("{ARGUMENTS_BYTES_MAX} bytes at most"),
            bytes.to_string(),
        ));
    }
    FieldTable::try_from(table).map_err(|fault| {
        let refusal = fault.refusal();
        Refusal { entity: None, field: "arguments".to_owned(), ..refusal }
    })
}

pub(super) fn named<T>(
    field: &str,
    name: fn(&str) -> Result<T, NameTooLong>,
    text: &str,
) -> Result<T, Refusal> {
    name(text).map_err(|error| {
        Refusal::new(ReplyCode::SyntaxError, error.to_string()).field(
            field,
            format!("{} bytes at most", crate::model::NAME_BYTES_MAX),
            error.bytes.to_string(),
        )
    })
}
