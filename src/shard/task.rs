//! The loop around a shard: waits for commands, runs turns, has bodies read back.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::bodies::ColdGroup;
use super::command::Command;
use super::mailbox::Mailbox;
use super::shard::Shard;
use crate::model::{ShardId, Timestamp};
use crate::storage::BodyRead;

/// The way to a running shard.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    id: ShardId,
    commands: Arc<Mailbox<Command>>,
}

impl ShardHandle {
    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Sends a command. After the shard has stopped commands are dropped, as they are when the process ends.
    pub fn send(&self, command: Command) {
        let _ = self.commands.push(command);
    }

    /// Puts everything on disk and stops the shard.
    ///
    /// # Errors
    /// What could not be put on disk, in a sentence.
    pub async fn close(&self) -> Result<(), String> {
        let (reply, closed) = oneshot::channel();
        if self.commands.push(Command::Close { reply }).is_err() {
            return Ok(());
        }
        closed.await.unwrap_or_else(|_| Err(format!("shard {} stopped by itself", self.id)))
    }
}

/// Runs a shard whose mailbox is `commands`: the same that its log was told to report progress to.
pub fn spawn(shard: Shard, commands: Arc<Mailbox<Command>>) -> ShardHandle {
    let handle = ShardHandle { id: shard.id(), commands: Arc::clone(&commands) };
    tokio::spawn(run(shard, commands));
    handle
}

async fn run(mut shard: Shard, mailbox: Arc<Mailbox<Command>>) {
    let reader = shard.log().reader();
    let mut commands = Vec::new();
    let closing = loop {
        if shard.has_work() {
            // Work that is left over goes on with whatever has come in the meantime.
            poll_fn(|context| {
                let _ = mailbox.poll_take(context, &mut commands);
                std::task::Poll::Ready(())
            })
            .await;
        } else {
            poll_fn(|context| mailbox.poll_take(context, &mut commands)).await;
        }
        let close = take_close(&mut commands);
        shard.turn(now(), &mut commands);
        load(&mut shard, &reader, &mailbox);
        if close.is_some() {
            break close;
        }
    };
    shard.prepare_stop(now());
    while !shard.is_settled() {
        poll_fn(|context| mailbox.poll_take(context, &mut commands)).await;
        shard.turn(now(), &mut commands);
    }
    mailbox.close();
    let result = shard.failure().map_or(Ok(()), |what| Err(what.to_owned()));
    // Dropping the log waits for its writer, which has nothing left to do.
    drop(shard);
    if let Some(reply) = closing {
        let _ = reply.send(result);
    }
}

fn take_close(commands: &mut Vec<Command>) -> Option<oneshot::Sender<Result<(), String>>> {
    let index = commands.iter().position(|command| matches!(command, Command::Close { .. }))?;
    match commands.remove(index) {
        Command::Close { reply } => Some(reply),
        _ => None,
    }
}

fn load(shard: &mut Shard, reader: &Arc<dyn BodyRead>, mailbox: &Arc<Mailbox<Command>>) {
    let groups = shard.take_loads();
    if groups.is_empty() {
        return;
    }
    let reader = Arc::clone(reader);
    let mailbox = Arc::clone(mailbox);
    tokio::task::spawn_blocking(move || {
        let groups = groups.into_iter().map(|group| (group.first, read(&*reader, group))).collect();
        let _ = mailbox.push(Command::Loaded { groups });
    });
}

fn read(reader: &dyn BodyRead, group: ColdGroup) -> Result<bytes::Bytes, String> {
    let place = group.place;
    reader.read(place.index, place.offset, place.len).map_err(|failure| failure.to_string())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}
