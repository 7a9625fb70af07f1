//! The picture for programs.

use serde_json::{Value, json};

use super::picture::{Layer, Node, Picture, What};

/// All of the picture. Edges name nodes by their places in the list of nodes.
pub(super) fn render(picture: &Picture) -> Value {
    let edges = picture.edges.iter().map(|edge| {
        json!({
            "from": edge.from,
            "to": edge.to,
            "bindings": edge.labels,
            "messages_min": edge.flow.least,
            "messages_max": edge.flow.most,
        })
    });
    let omitted = |layer: Layer| picture.omitted[layer.index()];
    json!({
        "vhost": picture.vhost,
        "at_ms": picture.now_ms,
        "interval_ms": picture.interval_ms,
        "nodes": picture.nodes.iter().map(node).collect::<Vec<_>>(),
        "edges": edges.collect::<Vec<_>>(),
        "omitted": {
            "producers": omitted(Layer::Producers),
            "exchanges": omitted(Layer::Exchanges),
            "queues": omitted(Layer::Queues),
            "consumers": omitted(Layer::Readers),
        },
        "idle_connections": picture.idle_connections,
    })
}

fn node(node: &Node) -> Value {
    let mut value = match &node.what {
        What::Producer { connection, peer, blocked } => {
            json!({ "kind": "producer", "connection_id": connection, "peer": peer, "blocked": blocked, "messages_out": node.went })
        }
        What::Exchange { kind, refused } => {
            json!({ "kind": "exchange", "type": kind, "refused_total": refused, "messages_in": node.came })
        }
        What::Queue { ready, unacknowledged, fault } => json!({
            "kind": "queue",
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
            "fault": fault,
            "messages_in": node.came,
            "messages_out": node.went,
        }),
        What::Subscription { member, consumers, ready, dark_since_ms } => json!({
            "kind": "subscription",
            "member": member,
            "consumers": consumers,
            "messages_ready": ready,
            "dark_since_ms": dark_since_ms,
            "messages_in": node.came,
        }),
        What::Consumer { connection, tag, unacknowledged } => json!({
            "kind": "consumer",
            "connection_id": connection,
            "tag": tag,
            "messages_unacknowledged": unacknowledged,
            "messages_in": node.came,
        }),
    };
    if let Value::Object(fields) = &mut value {
        fields.insert("name".to_owned(), json!(node.name));
    }
    value
}
