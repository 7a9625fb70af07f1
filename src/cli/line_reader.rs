//! Lines of standard input as message batches, read on a thread of their own so that the connection never waits for
//! whoever writes them.

use std::io::{BufRead, Read};
use std::mem;

use tokio::sync::mpsc;

use super::properties::Template;
use crate::client::{Message, MessageBatch, PublishError};

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
    /// Properties of every message.
    pub(super) properties: Template,
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
        if let Some(properties) = self.options.properties.properties() {
            let body = mem::take(&mut self.line);
            let message = Message::new(body).with_properties(properties);
            let line = self.lines;
            self.batch.push(&message).map_err(|error| LineError::Message { line, error })?;
        } else {
            self.batch.push_body(&self.line);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Cursor;
    use std::sync::mpsc as std_mpsc;

    use super::*;

    fn options(line_bytes_max: u64) -> LineOptions {
        LineOptions { line_bytes_max, properties: Template::default() }
    }

    /// Messages in each batch, and whether an error came last.
    fn lines_of(input: &[u8], line_bytes_max: u64) -> (Vec<usize>, Option<LineError>) {
        let mut batches = batches(Cursor::new(input.to_vec()), options(line_bytes_max));
        let mut sizes = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            match batch {
                Ok(batch) => sizes.push(batch.len()),
                Err(error) => {
                    assert!(batches.blocking_recv().is_none(), "an error comes last");
                    return (sizes, Some(error));
                }
            }
        }
        (sizes, None)
    }

    #[test]
    fn a_last_line_needs_no_newline_and_an_empty_one_counts() {
        let check = |input: &[u8], expect: usize| {
            let (sizes, error) = lines_of(input, 10);
            assert_eq!((sizes.iter().sum::<usize>(), error.is_none()), (expect, true), "{input:?}");
        };
        check(b"", 0);
        check(b"\n", 1);
        check(b"a", 1);
        check(b"a\n", 1);
        check(b"a\n\nb", 3);
    }

    #[test]
    fn batches_are_bounded() {
        let (sizes, _) = lines_of("x\n".repeat(2500).as_bytes(), 10);
        assert_eq!(sizes, [1000, 1000, 500]);
        let large = format!("{}\n", "x".repeat(100_000)).repeat(5);
        let (sizes, _) = lines_of(large.as_bytes(), 200_000);
        assert_eq!(sizes.iter().sum::<usize>(), 5);
        assert!(sizes.iter().all(|size| *size <= 3), "{sizes:?}");
    }

    #[test]
    fn a_line_that_is_too_long_comes_after_those_before_it() {
        let (sizes, error) = lines_of(b"fits\nfits too\nfits not at all\nfits\n", 8);
        assert_eq!(sizes, [2]);
        assert!(matches!(error, Some(LineError::TooLong { line: 3 })), "{error:?}");
    }

    /// Hands out a line, then waits for a word before the end.
    struct Typist {
        line: Cursor<Vec<u8>>,
        go_on: std_mpsc::Receiver<()>,
    }

    impl Read for Typist {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.line.read(buffer)?;
            if count == 0 {
                self.go_on.recv().unwrap();
            }
            Ok(count)
        }
    }

    #[test]
    fn a_line_does_not_wait_for_the_next_one() {
        let (say_go_on, go_on) = std_mpsc::channel();
        let typist = Typist { line: Cursor::new(b"first\n".to_vec()), go_on };
        let mut batches = batches(typist, options(100));
        assert_eq!(batches.blocking_recv().unwrap().unwrap().len(), 1);
        say_go_on.send(()).unwrap();
        assert!(batches.blocking_recv().is_none());
    }
}
