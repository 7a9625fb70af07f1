//! Why the broker said no.

use std::fmt;

/// Reply codes, with AMQP 0-9-1's numbers and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// The message is larger than allowed.
    ContentTooLarge = 311,
    /// A mandatory message reached no queue.
    NoRoute = 312,
    /// The broker or an operator closed the connection.
    ConnectionForced = 320,
    /// Not allowed for this user.
    AccessRefused = 403,
    /// No such thing.
    NotFound = 404,
    /// It belongs to another connection.
    ResourceLocked = 405,
    /// It is not as the request supposes.
    PreconditionFailed = 406,
    /// The bytes are no frame.
    FrameError = 501,
    /// A field holds what it must not.
    SyntaxError = 502,
    /// A frame that makes no sense here.
    CommandInvalid = 503,
    /// A channel was used that is not open, or opened twice.
    ChannelError = 504,
    /// The broker lacks memory, disk or another resource.
    ResourceError = 506,
    /// A limit or a rule of the connection forbids it.
    NotAllowed = 530,
    /// This broker does not do that.
    NotImplemented = 540,
    /// The broker failed.
    InternalError = 541,
}

impl ReplyCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// AMQP's name in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// The connection as a whole.
    Connection,
    /// A channel.
    Channel,
    /// A frame as such.
    Frame,
    /// An exchange.
    Exchange,
    /// A queue.
    Queue,
    /// A binding.
    Binding,
    /// A publisher handle.
    Publisher,
    /// A consumer.
    Consumer,
    /// A message.
    Message,
    /// A user.
    User,
    /// A virtual host.
    Vhost,
    /// A subscription.
    Subscription,
}

impl Entity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Channel => "channel",
            Self::Frame => "frame",
            Self::Exchange => "exchange",
            Self::Queue => "queue",
            Self::Binding => "binding",
            Self::Publisher => "publisher",
            Self::Consumer => "consumer",
            Self::Message => "message",
            Self::User => "user",
            Self::Vhost => "vhost",
            Self::Subscription => "subscription",
        }
    }
}

/// A request that was not carried out. Nothing has changed unless `text` says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kind of refusal.
    pub code: ReplyCode,
    /// What happened, in a sentence for people.
    pub text: String,
    /// What it is about, and its name.
    pub entity: Option<(Entity, String)>,
    /// Field or argument at fault; "" if none is.
    pub field: String,
    /// What would have been right; "" if that makes no sense.
    pub expected: String,
    /// What was there instead.
    pub got: String,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// What to do, in a sentence; may be "".
    pub hint: String,
    /// Every field or argument in which what was asked for differs from what is there, or that cannot be so; `field` is the first.
    pub differences: Vec<Difference>,
}

/// A field or argument of something that is there, and of what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What it is; "none": there is no such argument.
    pub declared: String,
    /// What it was to be; likewise.
    pub asked: String,
    /// Why it cannot be that, in a sentence; "": it can be altered, and a declaration does not change it.
    pub reason: String,
}

impl Refusal {
    /// A refusal with a sentence for people; the builder methods below add to it.
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            entity: None,
            field: String::new(),
            expected: String::new(),
            got: String::new(),
            retryable: false,
            hint: String::new(),
            differences: Vec::new(),
        }
    }

    /// Names what it is about.
    pub fn about(mut self, entity: Entity, name: impl Into<String>) -> Self {
        self.entity = Some((entity, name.into()));
        self
    }

    /// Names the field at fault, what would have been right and what was there.
    pub fn field(
        mut self,
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        self.field = field.into();
        self.expected = expected.into();
        self.got = got.into();
        self
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Names all that differs; the first of it is the field at fault.
    pub fn differing(mut self, differences: Vec<Difference>) -> Self {
        if let Some(Difference { field, declared, asked, .. }) = differences.first() {
            self = self.field(field, declared, asked);
        }
        self.differences = differences;
        self
    }

    /// Marks that the same request may succeed later.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.number(), self.code.name(), self.text)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
