//! What the owner of a log has against what the log holds.

use std::{error::Error, fmt, sync::Arc};

/// The owner's own error, which the log passes on: it knows bytes, and the owner knows what is wrong with them. Any error
/// becomes one with `?`. Cheap to clone; two are equal if they say the same.
#[derive(Clone)]
pub struct OwnerFault(Arc<dyn Error + Send + Sync>);

impl OwnerFault {
    /// The error itself.
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.0
    }
}

// It is no `Error` itself, or this would stand beside `From<T> for T`.
impl<E: Error + Send + Sync + 'static> From<E> for OwnerFault {
    fn from(error: E) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for OwnerFault {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for OwnerFault {}

impl fmt::Display for OwnerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for OwnerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
