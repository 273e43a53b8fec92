//! Sets of messages, by their UIDs or their places.

use std::fmt;

use super::tokens::{Garbled, Read, number_of};

/// Numbers of messages as a server lists them, in ranges.
///
/// A server may name a range of four billion: what is in a set is compared with what is known, and never counted out.
///
/// ```
/// use sundown_providers::imap::Set;
///
/// let set: Set = "7,1:3".parse().expect("a set");
/// assert_eq!(set.ranges(), [(7, 7), (1, 3)]);
/// assert!(set.contains(2) && !set.contains(4));
/// assert_eq!(set.to_string(), "7,1:3");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    ranges: Vec<(u32, u32)>,
}

impl Set {
    /// The set of one range, whichever end comes first.
    pub fn of(first: u32, last: u32) -> Self {
        Self { ranges: vec![(first.min(last), first.max(last))] }
    }

    /// The ranges, with their first and last numbers, in the order in which they were listed.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u32) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// How many numbers are listed.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// The numbers, one by one.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Adds a number. Numbers that come one behind the other become ranges.
    pub fn push(&mut self, number: u32) {
        match self.ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => self.ranges.push((number, number)),
        }
    }

    pub(super) fn read(word: &[u8]) -> Read<Self> {
        let number = |digits: &[u8]| {
            let number = number_of(digits).and_then(|number| u32::try_from(number).ok());
            // Zero is no message, and a star is none that was counted.
            number.filter(|number| *number != 0).ok_or(Garbled)
        };
        let range = |range: &[u8]| {
            let middle = range.iter().position(|b| *b == b':');
            let (first, last) = match middle {
                Some(middle) => (number(&range[..middle])?, number(&range[middle + 1..])?),
                None => (number(range)?, number(range)?),
            };
            Ok((first.min(last), first.max(last)))
        };
        let ranges = word.split(|b| *b == b',').map(range).collect::<Read<_>>()?;
        Ok(Self { ranges })
    }
}

impl std::str::FromStr for Set {
    type Err = Garbled;

    fn from_str(text: &str) -> Result<Self, Garbled> {
        Self::read(text.as_bytes())
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}:{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_ranges() {
        let set: Set = "4,9:7,4294967295".parse().expect("a set");
        assert_eq!(set.ranges(), [(4, 4), (7, 9), (u32::MAX, u32::MAX)]);
        assert_eq!(
            (set.count(), set.numbers().collect::<Vec<_>>()),
            (5, vec![4, 7, 8, 9, u32::MAX])
        );
        assert_eq!(Set::of(5, 2), Set::of(2, 5));
        assert_eq!(Set::of(1, u32::MAX).count(), u64::from(u32::MAX));
        for text in ["", "0", "1:", ":1", "1,,2", "1:*", "*", "4294967296", "1:2:3", "a", "-1"] {
            assert_eq!(text.parse::<Set>(), Err(Garbled), "{text}");
        }
    }

    #[test]
    fn numbers_become_ranges() {
        let mut set = Set::default();
        assert!(set.is_empty() && set.to_string().is_empty());
        for number in [3, 4, 5, 7, u32::MAX, 0] {
            set.push(number);
        }
        assert_eq!(set.to_string(), "3:5,7,4294967295,0");
    }
}
