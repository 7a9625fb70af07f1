//! The task of a connection: sessions, one after the other while the connection may be made again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::backoff::Delays;
use super::connection::{Event, Status};
use super::convert::shared_text;
use super::core::Core;
use super::error::{CloseReason, ConnectError};
use super::handshake::{self, Link};
use super::mend::mend;
use super::restore::restore;
use super::session::{GOODBYE, Session};
use crate::model::ReplyCode;

/// Drives a connection until it is closed for good.
pub(super) async fn drive(mut cut_off: CutOff, mut link: Link) {
    let core = cut_off.core.clone();
    let reason = loop {
        let mut session = pin!(Session::new(core.clone(), link.socket, link.incoming).run());
        let reason = tokio::select! {
            biased;
            reason = &mut session => reason,
            never = mend(&core) => match never {},
        };
        if core.options.reconnect.is_none() || !is_worth_retrying(&reason) || core.state().is_closing {
            break reason;
        }
        core.suspend(&reason);
        core.status.send_replace(Status::Reconnecting);
        core.announce(Event::Disconnected(reason));
        match reconnect(&core).await {
            Ok(again) => link = again,
            Err(reason) => break reason,
        }
        core.status.send_replace(Status::Connected);
    };
    cut_off.is_over = true;
    core.close_for_good(&reason);
}

/// If the runtime drops the task, before or after it began, everybody who waits learns that.
pub(super) struct CutOff {
    core: Arc<Core>,
    is_over: bool,
}

impl CutOff {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core, is_over: false }
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        if !self.is_over {
            self.core
                .close_for_good(&CloseReason::Io("the runtime that drove the connection has ended".into()));
        }
    }
}

/// A mistake would only be repeated; anything else may be better next time.
fn is_worth_retrying(reason: &CloseReason) -> bool {
    match reason {
        CloseReason::Io(_) | CloseReason::HeartbeatMissed { .. } | CloseReason::ByServer(None) => true,
        CloseReason::ByServer(Some(refusal)) => matches!(
            refusal.code,
            ReplyCode::ConnectionForced | ReplyCode::ResourceError | ReplyCode::InternalError
        ),
        CloseReason::ByClient
        | CloseReason::Protocol(_)
        | CloseReason::GaveUp { .. }
        | CloseReason::RestoreRefused { .. } => false,
    }
}

async fn reconnect(core: &Arc<Core>) -> Result<Link, CloseReason> {
    let backoff = core.options.reconnect.clone().unwrap_or_default();
    let broken_at = Instant::now();
    let mut delays = Delays::new(&backoff);
    for attempt in 1.. {
        let connected = tokio::select! {
            connected = handshake::connect(&core.options, &core.client_id) => connected,
            () = core.closing.notified() => return Err(CloseReason::ByClient),
        };
        let connected = match connected {
            Ok(link) => restore_even_if_closing(core, link).await?,
            Err(error) => Err(error),
        };
        let error = match connected {
            Ok((link, resent_messages)) => {
                core.announce(Event::Reconnected { attempts: attempt, resent_messages });
                return Ok(link);
            }
            Err(error) => error,
        };
        let delay = delays.next(random_fraction());
        let is_out_of_time = broken_at.elapsed() + delay > backoff.give_up_after;
        if attempt >= backoff.attempts_max || is_out_of_time {
            return Err(CloseReason::GaveUp { attempts: attempt, last: shared_text(error) });
        }
        core.announce(Event::AttemptFailed { attempt, error, delay });
        wait(core, delay).await?;
    }
    Err(CloseReason::ByClient)
}

/// Makes what the connection had over a new link. It is not left half made by an application that closes the connection
/// meanwhile: a queue that is to go with its last consumer has none yet, so nothing would ever take it away.
///
/// # Errors
/// If the application has closed the connection, and it cannot be restored or takes longer than a goodbye may.
async fn restore_even_if_closing(
    core: &Arc<Core>,
    mut link: Link,
) -> Result<Result<(Link, u64), ConnectError>, CloseReason> {
    let restored = {
        let mut restoring = pin!(restore(core, &mut link));
        tokio::select! {
            restored = &mut restoring => restored,
            () = core.closing.notified() => match timeout(GOODBYE, restoring).await {
                Ok(Ok(resent_messages)) => Ok(resent_messages),
                Ok(Err(_)) | Err(_) => return Err(CloseReason::ByClient),
            }
        }
    };
    Ok(restored.map(|resent_messages| (link, resent_messages)))
}

async fn wait(core: &Core, delay: Duration) -> Result<(), CloseReason> {
    tokio::select! {
        () = sleep(delay) => Ok(()),
        () = core.closing.notified() => Err(CloseReason::ByClient),
    }
}

/// From 0 to 1. Without randomness the delays are just not spread.
pub(super) fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}
