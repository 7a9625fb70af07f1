//! Bytes that are usually few, kept in place if they are: comparing with them then follows no pointer.

use std::fmt;
use std::sync::Arc;

/// Fills the type up to the size that the pointer and length of longer ones take anyway.
const IN_PLACE_MAX: usize = 22;

#[derive(Clone)]
pub(super) enum ShortBytes {
    InPlace { len: u8, bytes: [u8; IN_PLACE_MAX] },
    Apart(Arc<[u8]>),
}

impl ShortBytes {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut in_place = [0; IN_PLACE_MAX];
        match in_place.get_mut(..bytes.len()) {
            Some(start) => {
                start.copy_from_slice(bytes);
                Self::InPlace { len: bytes.len() as u8, bytes: in_place }
            }
            None => Self::Apart(bytes.into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::InPlace { len, bytes } => &bytes[..usize::from(*len)],
            Self::Apart(bytes) => bytes,
        }
    }
}

impl PartialEq for ShortBytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ShortBytes {}

impl Ord for ShortBytes {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for ShortBytes {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ShortBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_any_length_in_the_same_room() {
        assert_eq!(size_of::<ShortBytes>(), 24);
        for len in [0, 1, IN_PLACE_MAX, IN_PLACE_MAX + 1, 255] {
            let bytes = vec![b'a'; len];
            let short = ShortBytes::new(&bytes);
            assert_eq!(short.as_bytes(), bytes);
            assert_eq!(matches!(short, ShortBytes::InPlace { .. }), len <= IN_PLACE_MAX);
            assert!(short < ShortBytes::new(&[bytes, vec![0]].concat()));
        }
    }
}
