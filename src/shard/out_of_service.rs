//! Stands in for a shard whose log cannot be opened: answers everything and does nothing.

use std::future::poll_fn;
use std::sync::Arc;

use super::command::{Command, DeleteRefusal, Event, Outlet};
use super::mailbox::Mailbox;
use super::notice::Notice;
use super::task::ShardHandle;
use crate::model::{Entity, Refusal, ReplyCode, ShardId};

/// Runs a shard that refuses whatever needs the messages that its log holds.
pub fn spawn_out_of_service(id: ShardId, notices: Arc<Mailbox<Notice>>) -> ShardHandle {
    let mailbox = Arc::new(Mailbox::default());
    let handle = ShardHandle::new(id, Arc::clone(&mailbox));
    tokio::spawn(run(id, mailbox, notices));
    handle
}

async fn run(id: ShardId, mailbox: Arc<Mailbox<Command>>, notices: Arc<Mailbox<Notice>>) {
    let refusal = out_of_service(id);
    let mut commands = Vec::new();
    loop {
        poll_fn(|context| mailbox.poll_take(context, &mut commands)).await;
        for command in commands.drain(..) {
            if let Command::Close { reply } = command {
                mailbox.close();
                // Nothing was taken, so nothing is lost.
                let _ = reply.send(Ok(None));
                return;
            }
            answer(command, &notices, &refusal);
        }
    }
}

/// Who is not there any more needs no answer.
fn answer(command: Command, notices: &Mailbox<Notice>, refusal: &Refusal) {
    let refusal = Box::new(refusal.clone());
    match command {
        Command::Publish(publish) => {
            let (ticket, taken_bytes) = (publish.ticket, publish.run.bytes().len());
            tell(&publish.outlet, Event::PublishFailed { ticket, taken_bytes, refusal });
        }
        Command::Seal { conditions, number, .. } => {
            let result = if conditions.if_empty { Err(DeleteRefusal::OutOfService) } else { Ok(()) };
            let _ = notices.push(Notice::Sealed { number, result });
        }
        // What the log still holds of a queue that the catalog forgot is dropped when the log is opened again.
        Command::DeleteQueue { reply, .. } => drop(reply.send(0)),
        Command::Purge { reply, .. } => drop(reply.send(Err(refusal))),
        Command::Attach { taker, outlet, .. } => {
            tell(&outlet, Event::Attached { key: taker.key, result: Err(refusal) });
        }
        Command::Share { key, outlet, .. } => tell(&outlet, Event::Shares { key }),
        Command::Settle { key, reply: Some(reply), .. } | Command::Extend { key, reply: Some(reply), .. } => {
            let request = Some(reply.request);
            tell(&reply.outlet, Event::SettleRefused { key, request, refusal });
        }
        Command::Get { key, outlet, .. } => {
            tell(&outlet, Event::Got { key, message: Err(refusal), ready: 0 });
        }
        Command::Browse { reply, .. } => drop(reply.send(Err(refusal))),
        Command::TakeOut { reply, .. } => drop(reply.send(Err(refusal))),
        Command::Store(store) => drop(store.reply.send(Err(refusal))),
        Command::Inspect { reply, .. } => drop(reply.send(Vec::new())),
        Command::Foresee { reply, .. } => drop(reply.send(Err(refusal))),
        Command::TellJourneys { reply } => drop(reply.send(())),
        // Nobody is attached, and no log moves.
        Command::Settle { reply: None, .. }
        | Command::Extend { reply: None, .. }
        | Command::CreateQueue { .. }
        | Command::Unseal { .. }
        | Command::LookAgain { .. }
        | Command::Cancel { .. }
        | Command::Detach { .. }
        | Command::Credit { .. }
        | Command::Written { .. }
        | Command::DismissDeadLetters { .. }
        | Command::Done(_)
        | Command::LogProgress
        | Command::Close { .. } => {}
    }
}

fn tell(outlet: &Outlet, event: Event) {
    let _ = outlet.push(event);
}

/// What those are told who want something of a shard that does not run. Which file is damaged, and where, is for the
/// operator, who finds it in the broker's log and in the list of queues.
pub fn out_of_service(shard: ShardId) -> Refusal {
    let text =
        format!("shard {shard} is out of service: its log could not be opened when the broker started");
    Refusal::new(ReplyCode::ResourceError, text)
        .about(Entity::Queue, "")
        .hint("queues of other shards work; the operator must repair the log and restart the broker")
}
