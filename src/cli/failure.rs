//! What a command tells when it could not do what it was asked: what happened, the details, what to do.

use std::fmt;
use std::io;
use std::process::ExitCode;

use super::terminal::printable;
use crate::client::{
    CloseReason, ConfirmError, ConnectError, ConsumeError, PublishError, RequestError, SettleError,
};
use crate::model::{Difference, Entity, Refusal, ReplyCode, in_words};

/// A command that did not do all it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    details: Vec<String>,
    hint: String,
    /// What it is about, if that may not be there.
    missing: Option<(Entity, String)>,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    /// It was asked for something that makes no sense: exit status 2, as for what cannot be parsed.
    Usage,
    /// It did not work: exit status 1.
    Failed,
    /// Whoever read the output has seen enough and closed the pipe: nobody needs to be told.
    OutputClosed,
}

impl Failure {
    /// Something that did not work, in a sentence without a full stop.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            details: Vec::new(),
            hint: String::new(),
            missing: None,
            status: Status::Failed,
        }
    }

    /// Something that the operating system did not do.
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::new(format!("{what}: {}", in_words(error)))
    }

    /// Something that makes no sense to ask for.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { status: Status::Usage, ..Self::new(what) }
    }

    /// Adds a line of detail.
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Says that there is no such thing.
    pub(crate) fn for_lack_of(mut self, entity: Entity, name: impl Into<String>) -> Self {
        self.missing = Some((entity, name.into()));
        self
    }

    /// What is not there, as far as that is known.
    pub(crate) fn missing(&self) -> Option<(Entity, &str)> {
        self.missing.as_ref().map(|(entity, name)| (*entity, name.as_str()))
    }

    /// What happened and the details on one line, to be told among other things.
    pub(crate) fn text(&self) -> String {
        std::iter::once(&self.what).chain(&self.details).cloned().collect::<Vec<_>>().join("; ")
    }

    /// Whether it is only that nobody reads the output any more.
    pub(crate) fn is_output_closed(&self) -> bool {
        self.status == Status::OutputClosed
    }

    /// Tells people on standard error, and programs by the exit status.
    pub(crate) fn report(&self) -> ExitCode {
        match self.status {
            Status::OutputClosed => return ExitCode::SUCCESS,
            Status::Usage | Status::Failed => {
                use io::Write;
                // In one piece, since others may write there too. Where it is gone there is nobody left to tell.
                let _ = io::stderr().write_all(format!("{self}\n").as_bytes());
            }
        }
        ExitCode::from(if self.status == Status::Usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable(&self.what))?;
        for detail in &self.details {
            write!(f, "\n  {}", printable(detail))?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", printable(&self.hint))?;
        }
        Ok(())
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        let mut failure =
            Self::new(format!("{} {}: {}", refusal.code.number(), refusal.code.name(), refusal.text));
        // A vhost that is not there is refused as one that may not be opened.
        if matches!(refusal.code, ReplyCode::NotFound | ReplyCode::NotAllowed)
            && let Some((entity, name)) = &refusal.entity
        {
            failure = failure.for_lack_of(*entity, name);
        }
        match &refusal.differences[..] {
            [] => {
                if let Some(detail) = field_at_fault(refusal) {
                    failure = failure.detail(detail);
                }
            }
            differences => {
                for Difference { field, declared, asked, .. } in differences {
                    failure = failure.detail(format!("{field}: expected {declared}, got {asked}"));
                }
            }
        }
        if refusal.hint.is_empty() && refusal.retryable {
            failure.hint("the same may work later")
        } else {
            failure.hint(refusal.hint.clone())
        }
    }
}

/// Which field is not as it should be, and how it should be; `None` if it is no field's fault.
pub(super) fn field_at_fault(refusal: &Refusal) -> Option<String> {
    if refusal.field.is_empty() {
        return None;
    }
    let mut fault = refusal.field.clone();
    if !refusal.expected.is_empty() {
        fault.push_str(&format!(": expected {}", refusal.expected));
    }
    if !refusal.got.is_empty() {
        fault.push_str(&format!(", got {}", refusal.got));
    }
    Some(fault)
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Refused(refusal) => Self::from(refusal),
            ConnectError::Unreachable { address, error } if error.contains("refused") => Self::new(format!(
                "nothing listens at {address}: {error}"
            ))
            .hint("start a broker with `leveret serve`, or name another one with --url or LEVERET_URL"),
            ConnectError::Unreachable { address, error } => {
                Self::new(format!("cannot connect to {address}: {error}"))
                    .hint("check host and port of --url or LEVERET_URL")
            }
            ConnectError::Url(error) => {
                Self::usage(error.to_string()).hint("the URL comes from --url, else from LEVERET_URL")
            }
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match &error {
            RequestError::Refused(refusal) => Self::from(refusal),
            RequestError::Closed(reason) => Self::from(reason),
            RequestError::Invalid(text) => Self::usage(text.clone()),
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<&CloseReason> for Failure {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::ByServer(Some(refusal)) => Self::from(refusal.as_ref()),
            _ => Self::new(reason.to_string()),
        }
    }
}

impl From<CloseReason> for Failure {
    fn from(reason: CloseReason) -> Self {
        Self::from(&reason)
    }
}

impl From<ConfirmError> for Failure {
    fn from(error: ConfirmError) -> Self {
        match &error {
            ConfirmError::Refused(refusal) => Self::from(refusal.as_ref()),
            ConfirmError::Returned(returned) => {
                let exchange = if returned.exchange.is_empty() {
                    "the default exchange".to_owned()
                } else {
                    format!("exchange '{}'", returned.exchange)
                };
                let failure = Self::new(format!(
                    "{exchange} led to no queue with routing key '{}': the message came back",
                    returned.routing_key
                ));
                // The default exchange leads to the queue of that name.
                let failure = match returned.exchange.as_str() {
                    "" => failure.for_lack_of(Entity::Queue, returned.routing_key.as_str()),
                    _ => failure,
                };
                failure
                    .hint("`leveret explain` tells why; `leveret declare queue` and `leveret bind` mend it")
            }
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match &error {
            PublishError::Closed(reason) => Self::from(reason),
            PublishError::RoutingKey(_) => Self::usage(error.to_string()),
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        match &error {
            ConsumeError::NotRestored(error) => Self::from(error.clone()),
            ConsumeError::Lapsed(refusal) => Self::from(refusal),
            ConsumeError::Closed(reason) => Self::from(reason),
            _ => Self::new(error.to_string()),
        }
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Self {
        match &error {
            SettleError::Refused(refusal) => Self::from(refusal),
            _ => Self::new(error.to_string()),
        }
    }
}

/// Output that cannot be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let failure = Self::io("cannot write to standard output", &error);
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { status: Status::OutputClosed, ..failure },
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: impl Into<Failure>, expect: &str) {
        assert_eq!(failure.into().to_string(), expect);
    }

    #[test]
    fn a_refusal_tells_what_where_and_what_to_do() {
        let refusal =
            Refusal::new(ReplyCode::PreconditionFailed, "queue 'orders' is there, and it is another one")
                .field("durable", "true", "false")
                .hint("delete it first, or take another name");
        check(
            RequestError::Refused(refusal),
            "error: 406 PRECONDITION_FAILED: queue 'orders' is there, and it is another one\n  \
             durable: expected true, got false\n  \
             hint: delete it first, or take another name",
        );
        check(
            RequestError::Refused(Refusal::new(ReplyCode::ResourceError, "the disk is full").retryable()),
            "error: 506 RESOURCE_ERROR: the disk is full\n  hint: the same may work later",
        );
    }

    #[test]
    fn a_connection_that_is_refused_says_how_to_start_a_broker() {
        let address = "127.0.0.1:7672".to_owned();
        check(
            ConnectError::Unreachable { address, error: "Connection refused".into() },
            "error: nothing listens at 127.0.0.1:7672: Connection refused\n  \
             hint: start a broker with `leveret serve`, or name another one with --url or LEVERET_URL",
        );
    }

    #[test]
    fn nobody_is_told_that_nobody_reads() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_output_closed());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_output_closed());
    }
}
