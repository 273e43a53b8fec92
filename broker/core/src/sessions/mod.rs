//! Sessions and what belongs to them: members, objects, grants.

pub(crate) mod end;
pub(crate) mod grants;
pub(crate) mod member;
pub(crate) mod object;
pub(crate) mod session;
pub(crate) mod table;

use std::collections::{BTreeMap, BTreeSet};

use sundown_protocol::reply::SessionStatus;
use sundown_protocol::request::Request;
use sundown_protocol::{MemberId, SessionId, SessionTag};

use crate::ground::numbers::NumberMap;
use crate::peers::connection::Asker;
use crate::peers::waiting::SessionKey;
use crate::sessions::end::Kept;
use crate::sessions::grants::Grants;
use crate::sessions::member::Member;
use crate::sessions::table::SessionTable;

/// A look at a profile's file, and what waits for it.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Look {
    /// A user's request to try the profile's transports, which waits for the answer.
    pub(crate) word: Option<u64>,
    /// Requests to read the profile anew.
    pub(crate) askers: Vec<Asker>,
    /// Requests of other users than the broker's own, whose rights the file may have changed, in order.
    pub(crate) requests: Vec<(Asker, Box<Request>)>,
}

/// Sessions, and what belongs to them.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Sessions {
    pub(crate) all: SessionTable,
    /// Shared sessions that a logon may join.
    pub(crate) joinable: BTreeMap<SessionKey, SessionId>,
    pub(crate) members: NumberMap<MemberId, Member>,
    /// Objects granted to other processes, redeemed or waiting.
    pub(crate) grants: Grants,
    /// Shared sessions that were ended, as long as a member may come back to one.
    pub(crate) ends: BTreeMap<SessionTag, Kept>,
    /// Sessions whose mailboxes may have to be told to watch or to rest.
    pub(crate) unsettled: BTreeSet<SessionId>,
    /// Profiles whose files are being looked at.
    pub(crate) looks: BTreeMap<String, Look>,
    /// Profiles to be deleted when no session uses them any more, and the requests that wait for that.
    pub(crate) doomed: BTreeMap<String, Vec<Asker>>,
    /// Sessions that could not start, by profile and user. `status` shows them until one starts.
    pub(crate) failed: BTreeMap<(String, u32), SessionStatus>,
    /// Members that left since the start, by reason.
    pub(crate) departures: [u64; 5],
}
