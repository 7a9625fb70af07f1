//! Deliveries between the driver and the application.
//!
//! Bounded: with acknowledgements and a prefetch the broker sends that many messages at most. Without, the consumer
//! works on credit, which it grants for about `buffer_bytes` of messages; and should messages suddenly be larger than
//! those before, the driver stops reading the socket when more than twice that waits here.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use crate::client::error::ConsumeError;
use crate::wire::Deliver;

/// Credit of a consumer whose messages' size is not known yet.
const CREDIT_FIRST: u32 = 512;

/// Bounds of the credit that is out at any time, in messages.
const CREDIT_MIN: u32 = 16;
const CREDIT_MAX: u32 = 65_536;

#[derive(Debug)]
pub(super) struct Inbox {
    stage: Stage,
    frames: VecDeque<(u64, Deliver)>,
    bytes: usize,
    /// `None`: bounded by prefetch.
    credit: Option<CreditWindow>,
    /// The driver does not read until this inbox is emptier.
    is_stalling: bool,
    end: Option<ConsumeError>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Live,
    /// The application does not want any more.
    Unwanted,
    /// What is here is the last; then the reason, if there is one, then the end of the stream.
    Ended,
}

/// What the inbox did with a frame.
#[derive(Debug)]
pub(super) enum Pushed {
    Kept {
        /// The driver must stop reading; told once.
        stalls: bool,
        waker: Option<Waker>,
    },
    /// The application does not want it.
    Unwanted(Deliver),
}

/// A frame for the application.
#[derive(Debug)]
pub(super) struct Popped {
    /// The connection it came over.
    pub(super) epoch: u64,
    pub(super) deliver: Deliver,
    /// Credit to grant the broker.
    pub(super) grant: Option<u32>,
    /// The driver may read again; told once.
    pub(super) unstalls: bool,
}

impl Inbox {
    /// With `buffer_bytes` the consumer works on credit.
    pub(super) fn new(buffer_bytes: Option<usize>) -> Self {
        Self {
            stage: Stage::Live,
            frames: VecDeque::new(),
            bytes: 0,
            credit: buffer_bytes.map(CreditWindow::new),
            is_stalling: false,
            end: None,
            waker: None,
        }
    }

    /// The credit to ask for when the consumer is started, now or again.
    pub(super) fn credit_to_ask(&mut self) -> Option<u32> {
        let waiting: usize = self.frames.iter().map(|(_, deliver)| deliver.items.len()).sum();
        self.credit.as_mut().map(|credit| credit.restart(waiting as u32))
    }

    pub(super) fn push(&mut self, epoch: u64, deliver: Deliver) -> Pushed {
        if self.stage != Stage::Live {
            return Pushed::Unwanted(deliver);
        }
        self.bytes += deliver.items.bytes().len();
        self.frames.push_back((epoch, deliver));
        let is_full = self.credit.as_ref().is_some_and(|credit| self.bytes > 2 * credit.buffer_bytes);
        let stalls = is_full && !std::mem::replace(&mut self.is_stalling, true);
        Pushed::Kept { stalls, waker: self.waker.take() }
    }

    pub(super) fn poll_pop(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Popped, ConsumeError>>> {
        let Some((epoch, deliver)) = self.frames.pop_front() else {
            return match self.stage {
                Stage::Live => {
                    self.waker = Some(context.waker().clone());
                    Poll::Pending
                }
                Stage::Unwanted | Stage::Ended => Poll::Ready(self.end.take().map(Err)),
            };
        };
        let bytes = deliver.items.bytes().len();
        self.bytes -= bytes;
        let is_live = self.stage == Stage::Live;
        let credit = self.credit.as_mut().filter(|_| is_live);
        let grant = credit.and_then(|credit| credit.take(deliver.items.len() as u32, bytes));
        Poll::Ready(Some(Ok(Popped { epoch, deliver, grant, unstalls: self.unstall() })))
    }

    /// The application does not want any more; what waits here goes back. Whether the driver may read again.
    pub(super) fn refuse_more(&mut self, back: &mut Vec<(u64, Deliver)>) -> bool {
        if self.stage == Stage::Live {
            self.stage = Stage::Unwanted;
        }
        back.extend(self.frames.drain(..));
        self.bytes = 0;
        self.unstall()
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, reason: Option<ConsumeError>) -> Option<Waker> {
        if self.stage == Stage::Live {
            self.stage = Stage::Ended;
            self.end = reason;
        }
        self.waker.take()
    }

    /// What waits here comes again over the next connection. Whether the driver may read again.
    pub(super) fn forget(&mut self) -> bool {
        self.frames.clear();
        self.bytes = 0;
        self.unstall()
    }

    fn unstall(&mut self) -> bool {
        let is_roomy = self.credit.as_ref().is_none_or(|credit| self.bytes <= credit.buffer_bytes);
        is_roomy && std::mem::replace(&mut self.is_stalling, false)
    }
}

/// How many messages the broker may send before the application has taken earlier ones.
#[derive(Debug)]
struct CreditWindow {
    buffer_bytes: usize,
    window: u32,
    /// Granted, and not taken by the application yet.
    outstanding: u32,
}

impl CreditWindow {
    fn new(buffer_bytes: usize) -> Self {
        Self { buffer_bytes, window: CREDIT_FIRST, outstanding: 0 }
    }

    fn restart(&mut self, waiting: u32) -> u32 {
        let credit = self.window.saturating_sub(waiting).max(1);
        self.outstanding = waiting.saturating_add(credit);
        credit
    }

    /// The application took messages. Credit to grant, half a window at least so that grants stay rare.
    fn take(&mut self, count: u32, bytes: usize) -> Option<u32> {
        self.outstanding = self.outstanding.saturating_sub(count);
        let message_bytes = (bytes / count.max(1) as usize).max(1);
        let fitting = u32::try_from(self.buffer_bytes / message_bytes).unwrap_or(CREDIT_MAX);
        self.window = fitting.clamp(CREDIT_MIN, CREDIT_MAX);
        if self.outstanding > self.window / 2 {
            return None;
        }
        let grant = self.window - self.outstanding;
        self.outstanding = self.window;
        Some(grant)
    }
}
