//! How the messages and flags of a Maildir are named in the store.

use sundown_core::provider::Spot;
use sundown_protocol::folder::Marks;

use super::folders::Dir;
use super::names::{self, Flags};

/// Where a message lies, as the store names it.
pub(super) fn spot(dir: &Dir, base: &[u8]) -> Spot {
    Spot { dir: dir.text(), name: names::escape(base) }
}

/// Each flag of a Maildir and the mark that it is.
const MARKS: [(Flags, Marks); 6] = [
    (Flags::DRAFT, Marks::DRAFT),
    (Flags::FLAGGED, Marks::FLAGGED),
    (Flags::FORWARDED, Marks::FORWARDED),
    (Flags::ANSWERED, Marks::ANSWERED),
    (Flags::READ, Marks::READ),
    (Flags::TRASHED, Marks::DELETED),
];

pub(super) fn marks(flags: Flags) -> Marks {
    let set = MARKS.into_iter().filter(|(flag, _)| flags.contains(*flag));
    Marks(set.fold(0, |all, (_, mark)| all | mark.0))
}

pub(super) fn flags(marks: Marks) -> Flags {
    let set = MARKS.into_iter().filter(|(_, mark)| marks.contains(*mark));
    set.fold(Flags::NONE, |all, (flag, _)| all.with(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_marks() {
        for bits in 0..64 {
            assert_eq!(flags(marks(Flags::from_bits(bits))), Flags::from_bits(bits));
            assert_eq!(marks(flags(Marks(bits.into()))), Marks(bits.into()));
        }
        assert_eq!(marks(Flags::TRASHED), Marks::DELETED);
        assert_eq!(marks(Flags::READ.with(Flags::ANSWERED)).0, Marks::READ.0 | Marks::ANSWERED.0);
    }
}
