//! Messages as they come, written to standard output and then accepted.

use std::io::{BufWriter, Stdout, Write};
use std::time::Duration;

use super::Taking;
use super::settling::{Settling, tolerate_stale};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::message_output::{self, Choice, Form};
use crate::cli::output;
use crate::cli::session::{Session, note_waiting};
use crate::client::{Batch, Consumer, Delivery, Status};

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

/// Prints messages of a queue until something ends it.
pub(super) async fn print(
    arguments: &Taking,
    name: Option<&str>,
    session: Session,
    queue: &str,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut settling = Settling::of(arguments);
    let mut consumer = settling.consumer(&session, queue, name).await?;
    let mut printer = Printer::of(arguments);
    let mut closed = std::pin::pin!(output::closed());
    note_waiting();

    let end = loop {
        let next = tokio::select! {
            biased;
            () = interrupt.requested() => break End::Interrupted,
            () = &mut closed => break End::OutputClosed,
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
async fn finish(consumer: Consumer, settling: Settling, session: Session) -> Result<(), Failure> {
    consumer.cancel().await?;
    settling.accept_stored().await?;
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
    fn of(arguments: &Taking) -> Self {
        let Taking { raw, json, properties, time, .. } = *arguments;
        let form = Form::of(Choice { raw, json, properties, time });
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
        self.out.flush()?;
        output::check_read()
    }

    /// Whether all that was asked was done.
    fn verdict(&self, arguments: &Taking, end: End) -> Result<(), Failure> {
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
