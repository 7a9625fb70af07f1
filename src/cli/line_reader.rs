//! Lines of standard input as message batches, read on a thread of their own so that the connection never waits for
//! whoever writes them.

use std::io::{BufRead, Read};
use std::mem;

use tokio::sync::mpsc;

use crate::client::{Message, MessageBatch, PublishError};
use crate::model::FieldTable;

/// Lines in a batch at most.
const BATCH_LINES_MAX: usize = 1000;

/// Bytes in a batch at most; one longer line may exceed it.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Batches that wait to be published at most.
const BATCHES_WAITING_MAX: usize = 4;

/// How lines become messages.
#[derive(Debug, Clone)]
pub(super) struct LineOptions {
    /// Longest line, in bytes without its end.
    pub(super) line_bytes_max: u64,
    /// Headers of every message.
    pub(super) headers: FieldTable,
}

/// Why there is not another line.
#[derive(Debug)]
pub(super) enum LineError {
    /// A line is too long for a message.
    TooLong {
        /// Its number, counted from 1.
        line: u64,
    },
    /// A line cannot become a message.
    Message {
        /// Its number, counted from 1.
        line: u64,
        /// Why.
        error: PublishError,
    },
    /// The input cannot be read.
    Io(std::io::Error),
}

/// Reads lines until the end, an error, or nobody wants more. What was read before an error comes before the error.
pub(super) fn batches(
    input: impl Read + Send + 'static,
    options: LineOptions,
) -> mpsc::Receiver<Result<MessageBatch, LineError>> {
    let (batches, receiver) = mpsc::channel(BATCHES_WAITING_MAX);
    std::thread::spawn(move || {
        let input = std::io::BufReader::with_capacity(BATCH_BYTES_MAX, input);
        let mut reader = Reader { batch: MessageBatch::new(), line: Vec::new(), lines: 0, options };
        let outcome = reader.read(input, &batches);
        let rest = mem::take(&mut reader.batch);
        if !rest.is_empty() && batches.blocking_send(Ok(rest)).is_err() {
            return;
        }
        if let Err(error) = outcome {
            // Whoever stopped listening does not want to know.
            let _ = batches.blocking_send(Err(error));
        }
    });
    receiver
}

struct Reader {
    batch: MessageBatch,
    /// The beginning of a line whose end has not been read yet.
    line: Vec<u8>,
    lines: u64,
    options: LineOptions,
}

type Batches = mpsc::Sender<Result<MessageBatch, LineError>>;

impl Reader {
    fn read(&mut self, mut input: impl BufRead, batches: &Batches) -> Result<(), LineError> {
        loop {
            // Reading may wait for long: what is complete goes out first.
            if !self.send(batches) {
                return Ok(());
            }
            let bytes = match input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LineError::Io(error)),
            };
            let length = bytes.len();
            if length == 0 {
                return if self.line.is_empty() { Ok(()) } else { self.end_line() };
            }
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                let (piece, complete) = match piece.strip_suffix(b"\n") {
                    Some(piece) => (piece, true),
                    None => (piece, false),
                };
                if (self.line.len() + piece.len()) as u64 > self.options.line_bytes_max {
                    return Err(LineError::TooLong { line: self.lines + 1 });
                }
                self.line.extend_from_slice(piece);
                if complete {
                    self.end_line()?;
                    if self.is_full() && !self.send(batches) {
                        return Ok(());
                    }
                }
            }
            input.consume(length);
        }
    }

    fn end_line(&mut self) -> Result<(), LineError> {
        self.lines += 1;
        if self.options.headers.is_empty() {
            self.batch.push_body(&self.line);
        } else {
            let body = mem::take(&mut self.line);
            let message = Message::new(body).headers(self.options.headers.clone());
            let line = self.lines;
            self.batch.push(&message).map_err(|error| LineError::Message { line, error })?;
        }
        self.line.clear();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_LINES_MAX || self.batch.size_bytes() >= BATCH_BYTES_MAX
    }

    /// Whether somebody still wants batches.
    fn send(&mut self, batches: &Batches) -> bool {
        self.batch.is_empty() || batches.blocking_send(Ok(mem::take(&mut self.batch))).is_ok()
    }
}
