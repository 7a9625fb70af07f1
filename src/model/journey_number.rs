//! The id that the broker makes for a message.

use std::fmt;
use std::str::FromStr;

use super::timestamp::Timestamp;

/// Numbers that a broker can give in a millisecond before it gives some of a later one.
const NUMBERS_PER_MILLISECOND: u64 = 1 << 20;

/// The id that the broker gives a message whose journey may be kept: one is never given twice, also not after a restart.
/// Messages that were published together have numbers that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyNumber(pub u64);

impl JourneyNumber {
    /// The first one of a broker that is started now.
    pub fn first_at(now: Timestamp) -> Self {
        Self(now.0.saturating_mul(NUMBERS_PER_MILLISECOND).max(1))
    }
}

/// 16 hexadecimal digits behind `j-`.
impl fmt::Display for JourneyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j-{:016x}", self.0)
    }
}

/// It is no id that a broker makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoJourneyNumber;

impl FromStr for JourneyNumber {
    type Err = NoJourneyNumber;

    fn from_str(text: &str) -> Result<Self, NoJourneyNumber> {
        let digits = text.strip_prefix("j-").filter(|digits| digits.len() == 16).ok_or(NoJourneyNumber)?;
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if !digits.bytes().all(is_digit) {
            return Err(NoJourneyNumber);
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| NoJourneyNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_back_as_it_was_written_and_others_are_none() {
        let number = JourneyNumber::first_at(Timestamp(1_700_000_000_123));
        assert_eq!(number.to_string().parse(), Ok(number));
        for other in [
            "",
            "j-",
            "j-12",
            "j-00000000000000000",
            "j-+000000000000001",
            "j-000000000000000G",
            "J-0000000000000001",
        ] {
            assert_eq!(other.parse::<JourneyNumber>(), Err(NoJourneyNumber), "{other}");
        }
    }

    #[test]
    fn numbers_of_a_later_start_are_higher_than_a_million_in_each_millisecond_before() {
        let (before, after) = (Timestamp(1000), Timestamp(2000));
        assert!(JourneyNumber::first_at(before).0 + 1000 * 1_000_000 < JourneyNumber::first_at(after).0);
    }
}
