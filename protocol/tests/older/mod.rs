//! What clients and brokers of versions 1 to 3 can read, written down from their sources: each part of a message is a function that
//! reads it. A tag that the version does not have is refused, and so are missing and further bytes.

#![allow(clippy::match_same_arms, reason = "each tag has its own line, in the order of the tags")]

use sundown_protocol::Version;

/// Whether a reader of this version understands the payload of a request.
pub(crate) fn reads_request(version: Version, payload: &[u8]) -> bool {
    whole(version, payload, |r| {
        r.fixed(8)?;
        request(r)
    })
}

/// Whether a reader of this version understands the payload of a message of the broker.
pub(crate) fn reads_from_broker(version: Version, payload: &[u8]) -> bool {
    whole(version, payload, from_broker)
}

fn whole(version: Version, payload: &[u8], part: Part) -> bool {
    let mut reader = Reader { rest: payload, version };
    part(&mut reader).is_some() && reader.rest.is_empty()
}

struct Reader<'a> {
    rest: &'a [u8],
    version: Version,
}

/// Reads a part of a message; `None` if it is not one.
type Part = fn(&mut Reader<'_>) -> Option<()>;

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// Numbers and arrays of this many bytes together.
    fn fixed(&mut self, length: usize) -> Option<()> {
        self.take(length).map(drop)
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.take(8)?.try_into().expect("eight bytes");
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    }

    /// A tag of an enum with this many variants in every version.
    fn tag(&mut self, variants: u32) -> Option<u32> {
        self.tag_of([variants; 3])
    }

    /// A tag of an enum with these numbers of variants in versions 1, 2 and 3.
    fn tag_of(&mut self, variants: [u32; 3]) -> Option<u32> {
        let tag = u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes"));
        (tag < variants[self.version as usize - 1]).then_some(tag)
    }

    fn bytes(&mut self) -> Option<()> {
        let length = self.length()?;
        self.fixed(length)
    }

    fn text(&mut self) -> Option<()> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).ok().map(drop)
    }

    fn texts(&mut self, count: usize) -> Option<()> {
        (0..count).try_for_each(|_| self.text())
    }

    fn list(&mut self, part: Part) -> Option<()> {
        let length = self.length()?;
        (0..length).try_for_each(|_| part(self))
    }

    fn option(&mut self, part: Part) -> Option<()> {
        match self.take(1)?[0] {
            0 => Some(()),
            1 => part(self),
            _ => None,
        }
    }

    fn all<const N: usize>(&mut self, parts: [Part; N]) -> Option<()> {
        parts.into_iter().try_for_each(|part| part(self))
    }
}

fn bool(r: &mut Reader<'_>) -> Option<()> {
    (r.take(1)?[0] < 2).then_some(())
}

fn text(r: &mut Reader<'_>) -> Option<()> {
    r.text()
}

fn u32(r: &mut Reader<'_>) -> Option<()> {
    r.fixed(4)
}

fn u64(r: &mut Reader<'_>) -> Option<()> {
    r.fixed(8)
}

const OBJECT: usize = 8;
const ENTRY: usize = 20;

fn entry(r: &mut Reader<'_>) -> Option<()> {
    r.fixed(ENTRY)
}

fn blob(r: &mut Reader<'_>) -> Option<()> {
    r.bytes()
}

fn folder(r: &mut Reader<'_>) -> Option<()> {
    r.tag(5).map(drop)
}

fn resource(r: &mut Reader<'_>) -> Option<()> {
    r.tag(6).map(drop)
}

fn state(r: &mut Reader<'_>) -> Option<()> {
    r.tag(9).map(drop)
}

fn peer(r: &mut Reader<'_>) -> Option<()> {
    r.all([u32, text])
}

fn place(r: &mut Reader<'_>) -> Option<()> {
    r.all([entry, folder])
}

fn content(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(2)? {
        0 => r.bytes(),
        _ => r.fixed(4),
    }
}

fn submit(r: &mut Reader<'_>) -> Option<()> {
    // Member, store, key.
    r.fixed(8 + 2 + 16)?;
    r.option(text)?;
    r.list(text)?;
    content(r)?;
    r.tag(2)?;
    // The events that are reported.
    r.fixed(1)?;
    r.tag(2).map(drop)
}

fn request(r: &mut Reader<'_>) -> Option<()> {
    match r.tag_of([29, 30, 38])? {
        0 => r.all([|r| r.option(text), u32]),
        1 => r.all([|r| r.fixed(8 + 4), |r| r.option(u64)]),
        2 => {
            r.fixed(8)?;
            advise_source(r)?;
            r.fixed(4)
        }
        3 => r.fixed(8 + 4),
        4 => r.all([u64, opening]),
        5 => r.fixed(8 + OBJECT),
        6 => r.fixed(8 + OBJECT + 8 + 4),
        7 => r.all([u64, read_source, u64]),
        8 => r.all([|r| r.fixed(8 + 2 + 4), blob]),
        9 => submit(r),
        10 => r.all([|r| r.fixed(8 + 2), content]),
        11 => r.fixed(8 + OBJECT + 16),
        12 | 14 => r.fixed(8 + ENTRY),
        13 => r.all([u64, |r| r.texts(2), setting_change]),
        15 => r.fixed(8),
        16 => r.all([|r| r.fixed(8 + OBJECT), address_action]),
        17 | 18 | 23 | 29 => Some(()),
        19 => bool(r),
        20 => r.all([|r| r.fixed(8 + OBJECT + 16), |r| r.option(u32)]),
        21 => r.fixed(16),
        22 => r.fixed(8 + 16),
        24 => r.all([|r| r.option(text), queue_action]),
        25 => r.tag(2).map(drop),
        26 => r.all([u64, resource, text]),
        27 => r.fixed(8 + OBJECT + 4),
        28 | 36 => r.text(),
        30 => r.option(blob),
        31 => r.all([|r| r.option(text), |r| r.fixed(4 + 16), bool]),
        32 => r.all([|r| r.fixed(8 + ENTRY), folder]),
        33 => r.fixed(3 * 8),
        34 => r.all([submit, |r| r.option(text), |r| r.option(text)]),
        35 => r.fixed(8),
        37 => r.fixed(ENTRY),
        _ => None,
    }
}

fn advise_source(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(2)? {
        0 => Some(()),
        _ => r.fixed(OBJECT),
    }
}

fn opening(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(5)? {
        0 => r.fixed(2),
        1 => r.all([|r| r.fixed(2), folder]),
        2 => entry(r),
        _ => Some(()),
    }
}

fn read_source(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(2)? {
        0 => entry(r),
        _ => r.fixed(OBJECT),
    }
}

fn setting_change(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(3)? {
        1 => r.text(),
        _ => Some(()),
    }
}

fn address_action(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(3)? {
        0 => r.all([text, |r| r.list(text)]),
        _ => r.text(),
    }
}

fn queue_action(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(4)? {
        0 => r.all([bool, |r| r.fixed(8 + 4)]),
        1 => entry(r),
        2 => r.all([entry, |r| r.tag(4).map(drop)]),
        _ => Some(()),
    }
}

fn from_broker(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(3)? {
        0 => {
            r.fixed(8)?;
            match r.tag(2)? {
                0 => reply(r),
                _ => fault(r),
            }
        }
        1 => r.all([u64, |r| r.list(u32), event]),
        _ => fault(r),
    }
}

fn fault(r: &mut Reader<'_>) -> Option<()> {
    r.all([u32, text])?;
    match r.tag(6)? {
        0 => Some(()),
        1 => peer(r),
        2 | 3 => r.list(text),
        4 => r.list(peer),
        _ => r.list(entry),
    }
}

fn reply(r: &mut Reader<'_>) -> Option<()> {
    match r.tag_of([18, 19, 24])? {
        0 => Some(()),
        1 => r.all([|r| r.fixed(8 + 8), text, bool, |r| r.list(text), text]),
        2 => r.all([|r| r.fixed(3 * 8), |r| r.list(peer)]),
        3 => r.fixed(4),
        4 => r.fixed(OBJECT),
        5 => r.all([table_rows, |r| r.option(u64)]),
        6 => r.all([u64, blob]),
        7 => r.all([entry, state]),
        8 | 10 => entry(r),
        9 | 23 => r.option(text),
        11 => address_row(r),
        12 => r.all([|r| r.fixed(8 + OBJECT), granted]),
        13 => status(r),
        14 => r.all([|r| r.list(queue_row), |r| r.option(u64)]),
        15 => r.fixed(8),
        16 => r.fixed(4),
        17 => r.tag(2).map(drop),
        18 => r.all([|r| r.option(previous), |r| r.list(limit)]),
        19 => r.bytes(),
        20 => r.all([status, |r| r.option(|r| r.fixed(3 * 8))]),
        21 => r.all([|r| r.list(health), |r| r.option(u64), |r| r.option(u64)]),
        22 => {
            r.fixed(4)?;
            match r.tag(4)? {
                2 => r.text(),
                _ => Some(()),
            }
        }
        _ => None,
    }
}

fn granted(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(2)? {
        0 => entry(r),
        _ => folder(r),
    }
}

fn table_rows(r: &mut Reader<'_>) -> Option<()> {
    match r.tag(3)? {
        0 => r.list(|r| r.all([entry, |r| r.texts(3), |r| r.fixed(8 + 8), bool])),
        1 => r.list(address_row),
        _ => r.list(|r| r.all([text, resource, u32, text, u32])),
    }
}

fn address_row(r: &mut Reader<'_>) -> Option<()> {
    r.all([entry, text, |r| r.list(text)])
}

fn status(r: &mut Reader<'_>) -> Option<()> {
    r.all([text, u32, text, u64, |r| r.list(session), |r| r.fixed(9 * 8 + 8)])
}

fn session(r: &mut Reader<'_>) -> Option<()> {
    let member: Part = |r| r.all([u64, peer, |r| r.fixed(4 + 8), text, bool, u64]);
    let provider: Part = |r| r.all([text, resource, |r| r.texts(2)]);
    let reference: Part = |r| r.all([u64, peer, granted]);
    r.all([u64, text, bool, text])?;
    r.list(member)?;
    r.list(provider)?;
    r.list(reference)
}

fn queue_row(r: &mut Reader<'_>) -> Option<()> {
    r.all([entry, text, state, text])?;
    r.list(|r| r.all([text, state, |r| r.option(text)]))?;
    r.all([text, u32, |r| r.option(u64), |r| r.option(text), |r| r.fixed(8 + 8)])
}

fn previous(r: &mut Reader<'_>) -> Option<()> {
    r.all([|r| r.fixed(4 + 8), |r| r.option(u64), |r| r.tag(4).map(drop), text])
}

fn limit(r: &mut Reader<'_>) -> Option<()> {
    r.all([text, u64, |r| r.option(u64)])
}

fn health(r: &mut Reader<'_>) -> Option<()> {
    let outcome: Part = |r| r.all([u64, bool, text]);
    r.all([u64, |r| r.option(u64), u64, |r| r.option(text)])?;
    let length = r.length()?;
    (0..length).try_for_each(|_| {
        r.all([text, resource])?;
        r.option(outcome)?;
        r.all([|r| r.option(u64), |r| r.option(u64), u32])
    })
}

fn event(r: &mut Reader<'_>) -> Option<()> {
    let leave: Part = |r| r.tag(5).map(drop);
    match r.tag_of([13, 13, 16])? {
        0 => {
            r.fixed(4)?;
            r.tag_of([4, 4, 5])?;
            r.option(peer)?;
            r.option(u64)
        }
        1 | 2 | 3 | 5 => place(r),
        4 => r.all([place, folder]),
        6 => {
            r.fixed(OBJECT)?;
            match r.tag(4)? {
                3 => Some(()),
                _ => r.text(),
            }
        }
        7 => r.all([u64, leave]),
        8 => Some(()),
        9 | 12 => r.fixed(8),
        10 => r.fixed(8 + 8),
        11 => r.list(entry),
        13 => r.bytes(),
        14 => r.fixed(16),
        15 => r.list(|r| r.all([u64, |r| r.tag(5).map(drop)])),
        _ => None,
    }
}
