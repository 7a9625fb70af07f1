//! A command for each message: accepted if the command worked, back to the queue after a while if not.
//!
//! Nothing is settled before its command has ended, so that whatever happens to this program a message is done at least
//! once. Commands that run count against `--jobs`; messages that wait for another attempt do not, but against the prefetch.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Taking;
use super::environment::Environment;
use super::job::{self, Ended};
use super::retry::{Fate, Retry};
use super::settling::tolerate_stale;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::number;
use crate::cli::session::{Link, Session, note, note_waiting};
use crate::cli::terminal::printable;
use crate::client::{Consumer, Delivery};

/// What to run for each message.
#[derive(Debug, Args)]
#[command(next_help_heading = "A command for each message")]
pub(super) struct Exec {
    /// Run a shell command for each message, with the body on its standard input
    ///
    /// The message is accepted if the command ends with 0; otherwise it goes back to its queue after a while. Properties,
    /// headers and the routing key are in the environment: LEVERET_ROUTING_KEY, LEVERET_MESSAGE_ID and so on.
    #[arg(long, value_name = "CMD", conflicts_with_all = ["raw", "json", "no_ack", "properties", "time"])]
    exec: Option<String>,
    /// Commands that run at the same time at most, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 1, requires = "exec",
        value_parser = number::whole::<u16>(1, JOBS_MAX))]
    jobs: u16,
    #[command(flatten)]
    retry: Retry,
}

/// Most commands at the same time.
const JOBS_MAX: u64 = 1024;

/// Most messages that are held at the same time.
const HELD_MAX: u32 = 65_535;

/// How long commands that run are waited for when somebody wants this program to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Time for the goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

impl Exec {
    /// The command, if there is to be one.
    pub(super) fn command(&self) -> Option<&str> {
        self.exec.as_deref()
    }
}

/// Works until something ends it, then lets the commands that run come to their end.
pub(super) async fn work(
    taking: &Taking,
    command: &str,
    link: &Link,
    session: Session,
    queue: &str,
) -> Result<(), Failure> {
    let exec = &taking.exec;
    let mut interrupt = Interrupt::listen_twice()?;
    let prefetch = match taking.prefetch {
        None => u32::from(exec.jobs),
        Some(0) => HELD_MAX,
        Some(prefetch) => prefetch.min(HELD_MAX),
    };
    let consumer = session.channel.consume(queue).prefetch(prefetch).priority(taking.priority);
    let mut consumer = consumer.tag(link.name.as_deref().unwrap_or_default()).start().await?;
    note_waiting();
    let (stop, _) = watch::channel(Stop::No);
    let mut crew = Crew {
        jobs: JoinSet::new(),
        slots: Arc::new(Semaphore::new(usize::from(exec.jobs))),
        stop,
        order: Arc::new(Order {
            command: command.to_owned(),
            url: link.target.url.clone(),
            queue: queue.to_owned(),
            retry: exec.retry.clone(),
        }),
        books: Books::default(),
    };

    let taken = crew.take(taking, &mut consumer, &mut interrupt).await;
    let given_back = timeout(GOODBYE_MAX, consumer.cancel()).await;
    crew.finish(&mut interrupt).await;
    let end = taken?;
    if let Some(failure) = crew.books.failure.take() {
        return Err(failure);
    }
    match given_back {
        Ok(done) => done?,
        Err(_) => return Err(Failure::new("the broker did not answer in the end: messages may come again")),
    }
    let books = crew.books;
    timeout(GOODBYE_MAX, session.close()).await.unwrap_or_else(|_| {
        Err(Failure::new("the broker did not answer the goodbye: messages may come again"))
    })?;
    verdict(taking, end, &books)
}

/// Why no more messages are taken, where nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Counted,
    Idle,
    Interrupted,
}

/// How much of a hurry there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// None.
    No,
    /// No further attempts; commands that run may end.
    Soon,
    /// Commands that run are ended.
    Now,
}

/// What is the same for all messages.
#[derive(Debug)]
struct Order {
    command: String,
    url: Option<String>,
    queue: String,
    retry: Retry,
}

/// What became of a message.
#[derive(Debug)]
enum Outcome {
    Accepted,
    GoneBack,
    Rejected,
    /// Its command was ended; it goes back with the connection.
    Stopped,
}

/// What became of messages, counted.
#[derive(Debug, Default)]
struct Books {
    taken: u64,
    accepted: u64,
    rejected: u64,
    stopped: u64,
    failure: Option<Failure>,
}

impl Books {
    fn note(&mut self, outcome: Result<Outcome, Failure>) {
        match outcome {
            Ok(Outcome::Accepted) => self.accepted += 1,
            Ok(Outcome::GoneBack) => {}
            Ok(Outcome::Rejected) => self.rejected += 1,
            Ok(Outcome::Stopped) => self.stopped += 1,
            Err(failure) => {
                self.failure.get_or_insert(failure);
            }
        }
    }
}

struct Crew {
    jobs: JoinSet<Result<Outcome, Failure>>,
    slots: Arc<Semaphore>,
    stop: watch::Sender<Stop>,
    order: Arc<Order>,
    books: Books,
}

impl Crew {
    /// Starts a job for each message, until there are enough, none came for long, or something fails.
    async fn take(
        &mut self,
        taking: &Taking,
        consumer: &mut Consumer,
        interrupt: &mut Interrupt,
    ) -> Result<End, Failure> {
        let slots = self.slots.clone();
        loop {
            if taking.count.is_some_and(|count| self.books.taken >= count) {
                return Ok(End::Counted);
            }
            // Whatever happens begins the time anew.
            let idle = sleep(taking.idle_exit.unwrap_or_default());
            let is_idle = taking.idle_exit.is_some() && self.jobs.is_empty();
            let next = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, consumer.next().await)
            };
            tokio::select! {
                biased;
                () = interrupt.requested() => return Ok(End::Interrupted),
                Some(outcome) = self.jobs.join_next() => {
                    self.books.note(joined(outcome));
                    if self.books.failure.is_some() {
                        return Ok(End::Interrupted);
                    }
                }
                (slot, delivery) = next => {
                    let Some(delivery) = delivery else { return Err(Failure::new("the consumer ended")) };
                    let delivery = delivery?;
                    // Nobody closes the semaphore.
                    let Ok(slot) = slot else { return Ok(End::Interrupted) };
                    self.books.taken += 1;
                    let number = self.books.taken;
                    self.jobs.spawn(handle(self.order.clone(), number, delivery, slot, self.stop.subscribe()));
                }
                () = idle, if is_idle => return Ok(End::Idle),
            }
        }
    }

    /// Waits for all jobs; not for long if somebody wants it to stop.
    async fn finish(&mut self, interrupt: &mut Interrupt) {
        self.stop.send_replace(Stop::Soon);
        let mut deadline: Option<Instant> = None;
        let mut insistence = interrupt.clone();
        loop {
            let by = deadline.unwrap_or_else(Instant::now);
            let is_asked = deadline.is_some();
            let outcome = tokio::select! {
                outcome = self.jobs.join_next() => outcome,
                () = interrupt.requested(), if !is_asked => {
                    deadline = Some(Instant::now() + GRACE);
                    if !self.jobs.is_empty() {
                        note(&format!(
                            "waiting up to {} s for commands that run ({}); another Ctrl-C ends them",
                            GRACE.as_secs(), self.jobs.len()
                        ));
                    }
                    continue;
                }
                () = insistence.insisted() => {
                    self.stop.send_replace(Stop::Now);
                    self.jobs.join_next().await
                }
                () = sleep_until(by), if is_asked => {
                    self.stop.send_replace(Stop::Now);
                    self.jobs.join_next().await
                }
            };
            match outcome {
                Some(outcome) => self.books.note(joined(outcome)),
                None => return,
            }
        }
    }
}

fn joined(outcome: Result<Result<Outcome, Failure>, tokio::task::JoinError>) -> Result<Outcome, Failure> {
    outcome.unwrap_or_else(|error| Err(Failure::new(format!("a job did not come to its end: {error}"))))
}

/// All that becomes of one message.
async fn handle(
    order: Arc<Order>,
    number: u64,
    delivery: Delivery,
    slot: OwnedSemaphorePermit,
    mut stop: watch::Receiver<Stop>,
) -> Result<Outcome, Failure> {
    let environment = Environment::of(&order.queue, &delivery)?;
    let mut haste = stop.clone();
    let stop_now = async move {
        if haste.wait_for(|stop| *stop == Stop::Now).await.is_err() {
            // Whoever would say so is gone, and so is this job in a moment.
            std::future::pending::<()>().await;
        }
    };
    let ended = job::run(&order.command, order.url.as_deref(), environment, delivery.body(), stop_now).await;

    let about = format!("message {number} ('{}')", printable(delivery.routing_key()));
    let why = match ended {
        Ended::Done => {
            tolerate_stale(delivery.accept_stored().await)?;
            return Ok(Outcome::Accepted);
        }
        Ended::Stopped => return Ok(Outcome::Stopped),
        Ended::CannotRun(why) => {
            tolerate_stale(delivery.requeue())?;
            return Err(Failure::new(why).detail(format!("{about} is back in its queue")));
        }
        Ended::Failed(why) => why,
    };
    let came_back = delivery.delivery_count();
    let attempt = order.retry.attempt(came_back);
    match order.retry.fate(came_back) {
        Fate::Over => {
            note(&format!("{about}: {why} ({attempt}); it is rejected, which drops it"));
            tolerate_stale(delivery.reject())?;
            Ok(Outcome::Rejected)
        }
        Fate::Again(delay) => {
            note(&format!("{about}: {why} ({attempt}); it goes back in {} s", delay.as_secs_f64()));
            drop(slot);
            // Whoever wants this program to stop does not wait for that.
            let _ = timeout(delay, stop.wait_for(|stop| *stop != Stop::No)).await;
            tolerate_stale(delivery.requeue())?;
            Ok(Outcome::GoneBack)
        }
    }
}

/// Whether all that was asked was done.
fn verdict(taking: &Taking, end: End, books: &Books) -> Result<(), Failure> {
    let Books { accepted, rejected, stopped, .. } = *books;
    if stopped > 0 {
        return Err(Failure::new(format!(
            "commands that ran were ended ({stopped}): their messages are back in the queue"
        )));
    }
    if let Some(count) = taking.count.filter(|count| accepted < *count) {
        let before = match end {
            End::Counted => String::new(),
            End::Idle => " before nothing came for long enough".to_owned(),
            End::Interrupted => " before it was interrupted".to_owned(),
        };
        return Err(Failure::new(format!("only {accepted} of {count} messages were accepted{before}")));
    }
    if rejected > 0 {
        return Err(Failure::new(format!("messages rejected after their last attempt: {rejected}")));
    }
    Ok(())
}
