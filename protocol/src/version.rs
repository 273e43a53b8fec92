//! Versions of the protocol. The enum is the changelog of the wire, newest first.

/// A version of everything that follows the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Version {
    /// Folders beyond the five of every store, and the requests about them, about flags, contents tables, moves, copies, appended
    /// messages and search. [`Event::Arrived`](crate::Event::Arrived) says who new mail is from.
    /// [`Resource::Mailbox`](crate::reply::Resource::Mailbox). [`Request::Sync`](crate::Request::Sync) and
    /// [`Request::Mailboxes`](crate::Request::Mailboxes): what mailboxes have found, and how they fare.
    V4 = 4,
    /// [`Request::Ticket`](crate::Request::Ticket): what a process keeps over a restart of the broker. `MAPI_LOGOFF_UI`.
    /// [`Request::DeleteFrom`](crate::Request::DeleteFrom): a deletion that may be repeated.
    /// [`EndReason::StoreLost`](crate::notification::EndReason::StoreLost).
    /// [`Request::StatusPage`](crate::Request::StatusPage): a status of any length.
    /// [`Request::Health`](crate::Request::Health): how providers fare. [`Request::Reload`](crate::Request::Reload).
    /// [`Event::MembersLeft`](crate::Event::MembersLeft): several departures in one notification.
    V3 = 3,
    /// [`Request::Broker`](crate::Request::Broker): how the previous broker ended, and how much of each limit is used.
    V2 = 2,
    /// First version: sessions, objects, registrations, submissions, logoff in all its modes.
    V1 = 1,
}

impl Version {
    /// The newest version that this crate speaks.
    pub const NEWEST: Self = Self::V4;
    /// The oldest version that this crate speaks.
    pub const OLDEST: Self = Self::V1;

    /// The newest version that both sides speak, given the other side's range; `None` if there is none.
    pub fn negotiate(oldest: u16, newest: u16) -> Option<Self> {
        [Self::V4, Self::V3, Self::V2, Self::V1]
            .into_iter()
            .find(|v| (oldest..=newest).contains(&(*v as u16)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_wins() {
        assert_eq!(Version::negotiate(1, 1), Some(Version::V1));
        assert_eq!(Version::negotiate(0, 9), Some(Version::V4));
        assert_eq!(Version::negotiate(3, 3), Some(Version::V3));
        assert_eq!(Version::negotiate(2, 2), Some(Version::V2));
        assert_eq!(Version::negotiate(5, 9), None);
        assert_eq!(Version::negotiate(9, 0), None);
    }
}
