//! `leveret consume`: messages as they come.

use std::collections::VecDeque;
use std::io::{BufWriter, Stdout, Write};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::message_output::{self, Form};
use super::session::{Session, Target, lasting};
use crate::client::{Batch, Consumer, Delivery, SettleError, Status};

/// What was typed after `consume`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The queue
    queue: String,
    /// Stop after so many messages; the exit status is 0 only if so many came
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop when nothing came for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_exit: Option<Duration>,
    /// Messages count as accepted when the broker sends them: what is under way is lost if this command is stopped
    ///
    /// With --count they are accepted once they are written, all the same: the broker would otherwise send, and lose,
    /// more of them than were asked for.
    #[arg(long)]
    no_ack: bool,
    /// Write bodies alone, each with a newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print each message as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Messages that may be under way and not accepted; 0: as many as fit into the buffer
    #[arg(long, value_name = "N", default_value_t = 250)]
    prefetch: u32,
    #[command(flatten)]
    target: Target,
}

fn seconds(typed: &str) -> Result<Duration, String> {
    let seconds: f64 = typed.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| (Duration::from_millis(1)..=IDLE_MAX).contains(time))
        .ok_or_else(|| "expected 0.001 to 86400 seconds".to_owned())
}

/// Longest time to wait for a message, when there is a limit.
const IDLE_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    lasting(&arguments.target, &ProgressBar::hidden(), async |session| consume(arguments, session).await)
}

/// Why consuming ended, where nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// All that were asked for came.
    Counted,
    /// Nothing came for long enough.
    Idle,
    /// Somebody wants the command to stop.
    Interrupted,
    /// Whoever read the output has seen enough.
    OutputClosed,
}

async fn consume(arguments: &Arguments, session: Session) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut settling = Settling::of(arguments);
    let mut consumer = settling.consumer(&session, &arguments.queue).await?;
    let mut printer = Printer::of(arguments);

    let end = loop {
        let next = tokio::select! {
            biased;
            () = interrupt.requested() => break End::Interrupted,
            next = next_batch(&mut consumer, arguments.idle_exit) => next?,
        };
        let Some(batch) = next else { break End::Idle };
        let deliveries = wanted_of(batch, printer.left())?;
        match printer.print(&deliveries) {
            Ok(()) => settling.written(deliveries)?,
            Err(failure) if failure.is_output_closed() => break End::OutputClosed,
            Err(failure) => return Err(failure),
        }
        if printer.left() == Some(0) {
            break End::Counted;
        }
    };

    let is_connected = matches!(session.connection.status(), Status::Connected);
    let finished = async {
        // A broker that is away now might take minutes to come back.
        if !is_connected {
            return Err(unsettled());
        }
        let finish = finish(consumer, settling, session);
        tokio::time::timeout(FINISH_MAX, finish).await.unwrap_or_else(|_| Err(unsettled()))
    };
    finished.await?;
    printer.verdict(arguments, end)
}

fn unsettled() -> Failure {
    Failure::new("the broker is not there to be told what was printed: some of it may come again")
}

/// Time for the last settlements and the goodbye.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// The next deliveries; `None` if nothing came for `idle`.
async fn next_batch(consumer: &mut Consumer, idle: Option<Duration>) -> Result<Option<Batch>, Failure> {
    let next = match idle {
        Some(idle) => match tokio::time::timeout(idle, consumer.next_batch()).await {
            Ok(next) => next,
            Err(_) => return Ok(None),
        },
        None => consumer.next_batch().await,
    };
    match next {
        Some(Ok(batch)) => Ok(Some(batch)),
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::new("the consumer ended")),
    }
}

/// As many deliveries of a batch as are wanted; the others go back.
fn wanted_of(mut batch: Batch, wanted: Option<u64>) -> Result<Vec<Delivery>, Failure> {
    let wanted = wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(usize::MAX);
    let deliveries: Vec<Delivery> = batch.by_ref().take(wanted).collect::<Result<_, _>>()?;
    if !batch.is_empty() {
        tolerate_stale(batch.requeue())?;
    }
    Ok(deliveries)
}

/// Gives back what was not printed, then settles what was and waits until the broker has stored that.
async fn finish(consumer: Consumer, mut settling: Settling, session: Session) -> Result<(), Failure> {
    consumer.cancel().await?;
    let last = settling.held.pop_back();
    settling.accept(usize::MAX)?;
    if let Some(last) = last {
        tolerate_stale(last.accept_stored().await)?;
    }
    session.close().await
}

/// Prints, and counts what was printed.
struct Printer {
    form: Form,
    count: Option<u64>,
    printed: u64,
    out: BufWriter<Stdout>,
}

impl Printer {
    fn of(arguments: &Arguments) -> Self {
        let form = match (arguments.raw, arguments.json) {
            (true, _) => Form::Raw,
            (_, true) => Form::Json,
            _ => Form::Readable,
        };
        Self { form, count: arguments.count, printed: 0, out: BufWriter::new(std::io::stdout()) }
    }

    /// How many messages are wanted still; `None`: all that come.
    fn left(&self) -> Option<u64> {
        self.count.map(|count| count - self.printed)
    }

    /// Prints messages; when it returns, whoever reads standard output has them.
    fn print(&mut self, deliveries: &[Delivery]) -> Result<(), Failure> {
        for delivery in deliveries {
            self.printed += 1;
            message_output::print(&mut self.out, self.form, self.printed, delivery)?;
        }
        Ok(self.out.flush()?)
    }

    /// Whether all that was asked was done.
    fn verdict(&self, arguments: &Arguments, end: End) -> Result<(), Failure> {
        let Some(count) = self.count.filter(|count| self.printed < *count || end == End::OutputClosed) else {
            return Ok(());
        };
        let why = match end {
            End::Counted => return Ok(()),
            End::Idle => {
                let idle = arguments.idle_exit.unwrap_or_default().as_secs_f64();
                format!("only {} of {count} messages came before nothing came for {idle} s", self.printed)
            }
            End::Interrupted => format!("interrupted after {} of {count} messages", self.printed),
            End::OutputClosed => format!("nobody read the output to the end of {count} messages"),
        };
        Err(Failure::new(why))
    }
}

/// When messages are accepted.
///
/// With a count the broker must not send more than that many: what is sent in excess goes back, but is marked as
/// redelivered. It sends up to the prefetch more than what was accepted, so the last messages are held, and accepted
/// when the consumer has been cancelled.
struct Settling {
    /// The broker takes messages as accepted when it sends them.
    by_broker: bool,
    prefetch: u32,
    /// Messages that may be accepted before the end; `None`: all.
    free: Option<u64>,
    /// Written, and not accepted yet.
    held: VecDeque<Delivery>,
}

impl Settling {
    fn of(arguments: &Arguments) -> Self {
        let prefetch = match (arguments.prefetch, arguments.count) {
            (prefetch, None) => prefetch,
            (0, Some(count)) => u32::try_from(count).unwrap_or(u32::MAX).min(PREFETCH_MAX),
            (prefetch, Some(count)) => u32::try_from(count).unwrap_or(u32::MAX).min(prefetch),
        };
        let free = arguments.count.map(|count| count.saturating_sub(u64::from(prefetch)));
        Self {
            by_broker: arguments.no_ack && arguments.count.is_none(),
            prefetch,
            free,
            held: VecDeque::new(),
        }
    }

    async fn consumer(&self, session: &Session, queue: &str) -> Result<Consumer, Failure> {
        let consumer = session.channel.consume(queue).prefetch(self.prefetch);
        let consumer = if self.by_broker { consumer.no_ack() } else { consumer };
        Ok(consumer.start().await?)
    }

    fn written(&mut self, deliveries: Vec<Delivery>) -> Result<(), Failure> {
        if self.by_broker {
            return Ok(());
        }
        self.held.extend(deliveries);
        let free = self.free.map_or(usize::MAX, |free| usize::try_from(free).unwrap_or(usize::MAX));
        self.accept(free)
    }

    fn accept(&mut self, at_most: usize) -> Result<(), Failure> {
        let accepted = at_most.min(self.held.len());
        for delivery in self.held.drain(..accepted) {
            tolerate_stale(delivery.accept())?;
        }
        if let Some(free) = &mut self.free {
            *free = free.saturating_sub(accepted as u64);
        }
        Ok(())
    }
}

/// Prefetch where a count was given and no limit.
const PREFETCH_MAX: u32 = 65_535;

/// A delivery over a connection that broke is back in its queue and comes again: that is told when the connection
/// breaks, and there is nothing to settle.
fn tolerate_stale(result: Result<(), SettleError>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(SettleError::Stale) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
