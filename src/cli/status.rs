//! `leveret status`: what a broker is, and how much is in it.

use clap::Args;
use serde_json::json;

use super::failure::Failure;
use super::output;
use super::session::{Session, Target, block_on};
use crate::client::QueueEntry;

/// What was typed after `status`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) target: Target,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let options = arguments.target.options()?.no_reconnect();
    let (address, user, vhost) = (options.address(), options.user().to_owned(), options.vhost().to_owned());
    let (offer, queues, exchanges, connections) = block_on(async {
        let session = Session::open(options).await?;
        let channel = &session.channel;
        let queues = channel.list_queues().await?;
        let exchanges = channel.list_exchanges().await?.len();
        let connections = channel.list_connections().await?;
        let offer = session.connection.server();
        session.close().await?;
        Ok((offer, queues, exchanges, connections))
    })?;
    let sum = |of: fn(&QueueEntry) -> u64| queues.iter().map(of).fold(0, u64::saturating_add);
    let (ready, unacknowledged) =
        (sum(|queue| queue.messages_ready), sum(|queue| queue.messages_unacknowledged));
    let (bytes, consumers) = (sum(|queue| queue.message_bytes), sum(|queue| u64::from(queue.consumers)));
    let faults: Vec<_> =
        queues.iter().filter_map(|queue| Some((&queue.name, queue.fault.as_ref()?))).collect();
    let blocked: Vec<_> = connections.iter().filter_map(|entry| entry.blocked.as_ref()).collect();
    let known = |name: &str| offer.server.get(name).map_or("", String::as_str);
    let (product, version) = (known("product"), known("version"));
    if arguments.json {
        let faults: Vec<_> =
            faults.iter().map(|(name, fault)| json!({ "queue": name, "fault": fault })).collect();
        return output::json_line(&json!({
            "address": address,
            "server": product,
            "version": version,
            "user": user,
            "vhost": vhost,
            "durability": offer.durability.as_str(),
            "message_bytes_max": offer.message_bytes_max,
            "frame_bytes_max": offer.frame_bytes_max,
            "connections": connections.len(),
            "connections_blocked": blocked.len(),
            "blocked": blocked.first(),
            "exchanges": exchanges,
            "queues": queues.len(),
            "consumers": consumers,
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
            "message_bytes": bytes,
            "faults": faults,
        }));
    }
    output::line(&format!("{product} {version} at {address}, as '{user}' in vhost '{vhost}'"))?;
    output::text(&format!(
        "  confirms     {} (messages of durable queues)\n  \
         connections  {}, of which take no part for now: {}\n  \
         exchanges    {exchanges}\n  \
         queues       {}, consumers: {consumers}\n  \
         messages     {ready} ready, {unacknowledged} not acknowledged, {bytes} bytes\n",
        offer.durability.as_str(),
        connections.len(),
        blocked.len(),
        queues.len(),
    ))?;
    if let Some(reason) = blocked.first() {
        output::line(&format!("  publishers wait: {reason}"))?;
    }
    for (name, fault) in faults {
        output::line(&format!("  queue '{name}' is out of service: {fault}"))?;
    }
    Ok(())
}
