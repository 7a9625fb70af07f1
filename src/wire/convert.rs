//! Between generated types and the words of `model`.

use crate::model::{Difference, Durability, Entity, Refusal, ReplyCode};

use super::pb;

impl From<&Refusal> for pb::Error {
    fn from(refusal: &Refusal) -> Self {
        let (entity_kind, entity) = match &refusal.entity {
            Some((kind, name)) => (kind.as_str().to_owned(), bounded(name)),
            None => Default::default(),
        };
        Self {
            code: refusal.code.number().into(),
            name: refusal.code.name().to_owned(),
            text: bounded(&refusal.text),
            entity_kind,
            entity,
            field: bounded(&refusal.field),
            expected: bounded(&refusal.expected),
            got: bounded(&refusal.got),
            retryable: refusal.retryable,
            hint: bounded(&refusal.hint),
            differences: refusal.differences.iter().map(pb::Difference::from).collect(),
        }
    }
}

impl From<&Difference> for pb::Difference {
    fn from(difference: &Difference) -> Self {
        let Difference { field, declared, asked, reason } = difference;
        Self {
            field: bounded(field),
            declared: bounded(declared),
            asked: bounded(asked),
            reason: bounded(reason),
        }
    }
}

impl From<pb::Difference> for Difference {
    fn from(difference: pb::Difference) -> Self {
        let pb::Difference { field, declared, asked, reason } = difference;
        Self { field, declared, asked, reason }
    }
}

/// Longest text of an error, in bytes: it may repeat what a client sent, which may be nearly a frame.
const ERROR_TEXT_BYTES_MAX: usize = 4096;

/// The beginning of a text that is too long for an error.
fn bounded(text: &str) -> String {
    if text.len() <= ERROR_TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let ends = text.char_indices().map(|(end, _)| end);
    let end = ends.take_while(|end| *end <= ERROR_TEXT_BYTES_MAX - 3).last().unwrap_or(0);
    format!("{}...", &text[..end])
}

/// A reply code that this version does not know; the error as it came is inside.
#[derive(Debug, Clone, PartialEq)]
pub struct UnknownReplyCode(pub Box<pb::Error>);

impl std::fmt::Display for UnknownReplyCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.0.code, self.0.name, self.0.text)
    }
}

impl std::error::Error for UnknownReplyCode {}

impl TryFrom<pb::Error> for Refusal {
    type Error = UnknownReplyCode;

    /// An entity kind that this version does not know becomes `None`; its name is kept in no other field.
    fn try_from(error: pb::Error) -> Result<Self, UnknownReplyCode> {
        let Some(code) = reply_code(error.code) else { return Err(UnknownReplyCode(Box::new(error))) };
        Ok(Self {
            code,
            text: error.text,
            entity: entity(&error.entity_kind).map(|kind| (kind, error.entity)),
            field: error.field,
            expected: error.expected,
            got: error.got,
            retryable: error.retryable,
            hint: error.hint,
            differences: error.differences.into_iter().map(Difference::from).collect(),
        })
    }
}

fn reply_code(number: u32) -> Option<ReplyCode> {
    use ReplyCode::*;
    [
        ContentTooLarge,
        NoRoute,
        ConnectionForced,
        AccessRefused,
        NotFound,
        ResourceLocked,
        PreconditionFailed,
        FrameError,
        SyntaxError,
        CommandInvalid,
        ChannelError,
        ResourceError,
        NotAllowed,
        NotImplemented,
        InternalError,
    ]
    .into_iter()
    .find(|code| u32::from(code.number()) == number)
}

fn entity(word: &str) -> Option<Entity> {
    use Entity::*;
    [
        Connection,
        Channel,
        Frame,
        Exchange,
        Queue,
        Binding,
        Publisher,
        Consumer,
        Message,
        User,
        Vhost,
        Subscription,
    ]
    .into_iter()
    .find(|entity| entity.as_str() == word)
}

impl From<Durability> for pb::DurabilityLevel {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Memory,
            Durability::Written => Self::Written,
            Durability::Synced => Self::Synced,
            Durability::Quorum => Self::Quorum,
        }
    }
}

/// A durability level that is not stated, or not known to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownDurability(pub i32);

impl std::fmt::Display for UnknownDurability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "durability level {} is not known to this version", self.0)
    }
}

impl std::error::Error for UnknownDurability {}

impl TryFrom<pb::DurabilityLevel> for Durability {
    type Error = UnknownDurability;

    fn try_from(level: pb::DurabilityLevel) -> Result<Self, UnknownDurability> {
        match level {
            pb::DurabilityLevel::Memory => Ok(Self::Memory),
            pb::DurabilityLevel::Written => Ok(Self::Written),
            pb::DurabilityLevel::Synced => Ok(Self::Synced),
            pb::DurabilityLevel::Quorum => Ok(Self::Quorum),
            pb::DurabilityLevel::Unspecified => Err(UnknownDurability(level.into())),
        }
    }
}
