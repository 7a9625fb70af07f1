//! The loop around a shard: waits for commands, runs turns, has jobs done.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::close_failure::CloseFailure;
use super::command::Command;
use super::job::{Job, LogAccess, Ran};
use super::mailbox::Mailbox;
use super::shard::Shard;
use super::workers::{Workers, run_blocking};
use crate::model::{Clock, ShardId};
use crate::storage::KnownLog;

/// The way to a running shard.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    id: ShardId,
    commands: Arc<Mailbox<Command>>,
}

impl ShardHandle {
    pub(super) fn new(id: ShardId, commands: Arc<Mailbox<Command>>) -> Self {
        Self { id, commands }
    }

    /// Its number.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Sends a command. After the shard has stopped commands are dropped, as they are when the process ends.
    pub fn send(&self, command: Command) {
        let _ = self.commands.push(command);
    }

    /// Puts everything on disk and stops the shard. Returns how far its log reaches, if it has one on disk.
    ///
    /// # Errors
    /// Why not everything could be put on disk.
    pub async fn close(&self) -> Result<Option<KnownLog>, CloseFailure> {
        let (reply, closed) = oneshot::channel();
        if self.commands.push(Command::Close { reply }).is_err() {
            return Ok(None);
        }
        closed.await.unwrap_or(Err(CloseFailure::Stopped))
    }
}

/// Runs a shard whose mailbox is `commands`: the same that its log was told to report progress to. Its time is that of `clock`,
/// and what blocks is for `workers`.
pub fn spawn(
    shard: Shard,
    commands: Arc<Mailbox<Command>>,
    clock: Clock,
    workers: Arc<dyn Workers>,
) -> ShardHandle {
    let handle = ShardHandle::new(shard.id(), Arc::clone(&commands));
    tokio::spawn(run(shard, commands, clock, workers));
    handle
}

async fn run(mut shard: Shard, mailbox: Arc<Mailbox<Command>>, clock: Clock, workers: Arc<dyn Workers>) {
    let log = LogAccess::of(shard.log());
    let workshop = Workshop {
        log: log.clone(),
        mailbox: Arc::clone(&mailbox),
        clock: Arc::clone(&clock),
        workers: Arc::clone(&workers),
    };
    let mut commands = Vec::new();
    let mut gathering = Gathering::default();
    let closing = loop {
        let idle_for = if shard.has_work() { Some(0) } else { shard.wakes_in() };
        wait(idle_for, &mailbox, &mut commands, &*workers).await;
        gathering.gather(&mailbox, &mut commands).await;
        let close = take_close(&mut commands);
        shard.turn(clock(), &mut commands);
        workshop.start_jobs(&mut shard);
        if close.is_some() {
            break close;
        }
    };
    shard.prepare_stop(clock());
    while !shard.is_settled() && shard.stuck().is_none() || shard.is_keeping_house() {
        poll_fn(|context| mailbox.poll_take(context, &mut commands)).await;
        shard.turn(clock(), &mut commands);
        workshop.start_jobs(&mut shard);
    }
    mailbox.close();
    if let Some(job) = shard.closing_checkpoint() {
        // It tells of a panic itself.
        commands.extend(run_blocking(&workers, move || job.run_all(&log)).await);
        shard.turn(clock(), &mut commands);
    }
    let result = match shard.failure().cloned().map(CloseFailure::Log).or(shard.stuck()) {
        None => Ok(shard.log().known()),
        Some(failure) => Err(failure),
    };
    // Dropping the log waits for its writer, which has nothing left to do.
    drop(shard);
    if let Some(reply) = closing {
        let _ = reply.send(result);
    }
}

/// Waits for commands, for so many milliseconds at most. With none to wait it takes what has come in the meantime.
async fn wait(
    millis: Option<u64>,
    mailbox: &Mailbox<Command>,
    commands: &mut Vec<Command>,
    workers: &dyn Workers,
) {
    let mut pause =
        millis.filter(|millis| *millis > 0).map(|millis| workers.sleep(Duration::from_millis(millis)));
    poll_fn(|context| match (mailbox.poll_take(context, commands), &mut pause) {
        (Poll::Pending, Some(pause)) => pause.as_mut().poll(context),
        (Poll::Pending, None) if millis.is_none() => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}

/// If nobody had anything to add so many times in a row, nobody is waited for.
const IDLE_GATHERS_MAX: u32 = 8;
/// But for one turn in so many: there may be more clients now.
const PROBE_TURNS: u32 = 64;

/// Lets those go first who are ready to run, and takes what they send: a turn, its wake-ups and its sync serve them all.
/// That costs a look at the sockets, which is worth it with many clients and a waste with one.
#[derive(Debug, Default)]
struct Gathering {
    /// How often in a row nobody had anything to add.
    idle: u32,
    /// Turns since it was last tried.
    skipped: u32,
}

impl Gathering {
    async fn gather(&mut self, mailbox: &Mailbox<Command>, commands: &mut Vec<Command>) {
        if self.idle >= IDLE_GATHERS_MAX && self.skipped < PROBE_TURNS {
            self.skipped += 1;
            return;
        }
        self.skipped = 0;
        let before = commands.len();
        yield_now().await;
        mailbox.take_more(commands);
        self.idle = if commands.len() > before { 0 } else { self.idle.saturating_add(1) };
    }
}

fn take_close(
    commands: &mut Vec<Command>,
) -> Option<oneshot::Sender<Result<Option<KnownLog>, CloseFailure>>> {
    let index = commands.iter().position(|command| matches!(command, Command::Close { .. }))?;
    match commands.remove(index) {
        Command::Close { reply } => Some(reply),
        _ => None,
    }
}

/// A job may rest twice as long as its last step took, and so long at least and at most.
const REST_MIN: Duration = Duration::from_millis(2);
const REST_MAX: Duration = Duration::from_millis(50);

/// Where jobs are done.
#[derive(Clone)]
struct Workshop {
    log: LogAccess,
    mailbox: Arc<Mailbox<Command>>,
    clock: Clock,
    workers: Arc<dyn Workers>,
}

impl Workshop {
    fn start_jobs(&self, shard: &mut Shard) {
        for job in shard.take_jobs() {
            let workshop = self.clone();
            self.workers.run(Box::new(move || workshop.work(job)));
        }
    }

    /// Does a job, or as much of it as it does without a rest, and has the rest done later.
    fn work(self, job: Job) {
        let mut job = job;
        loop {
            let began = (self.clock)();
            match job.run(&self.log) {
                Ran::Done(command) => {
                    // A shard that has stopped needs no answer.
                    let _ = self.mailbox.push(command);
                    return;
                }
                Ran::On { job: rest, may_rest: false } => job = rest,
                Ran::On { job: rest, may_rest: true } => {
                    let took = Duration::from_millis((self.clock)().0.saturating_sub(began.0));
                    let workers = Arc::clone(&self.workers);
                    workers
                        .run_later((2 * took).clamp(REST_MIN, REST_MAX), Box::new(move || self.work(rest)));
                    return;
                }
            }
        }
    }
}
