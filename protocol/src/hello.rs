//! The first frame of each side. Its bytes never change, because two versions find out by it that they differ.

use serde::{Deserialize, Serialize};

/// The first four bytes of a hello: `SNDN`.
pub const MAGIC: [u8; 4] = *b"SNDN";
/// The longest program name that is kept, in bytes; a longer name is cut.
pub const MAX_PROGRAM: usize = 255;

/// The client's first frame, which it sends before the broker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// The oldest version the client speaks.
    pub oldest: u16,
    /// The newest version the client speaks.
    pub newest: u16,
    /// Sixteen bytes that name the program image. They are the same for every copy of the library in it, and differ after `exec`.
    /// On Linux they are the kernel's `AT_RANDOM` bytes, hashed.
    #[serde(with = "sixteen")]
    pub image: [u8; 16],
    /// Sixteen random bytes that name the copy of the library. The first copy in a program image acts for the program when the
    /// process shuts down (SEED-15).
    #[serde(with = "sixteen")]
    pub library: [u8; 16],
    /// The program's name, for people.
    pub program: String,
}

/// The broker's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The connection is open.
    Welcome(Welcome),
    /// The connection ends.
    Refused(Refused),
}

/// The broker's side of an open connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both sides speak from here on.
    pub version: u16,
    /// The broker's process id.
    pub pid: u32,
    /// How many requests may be unanswered at once. More end the connection.
    pub requests: u32,
    /// How many bytes of requests may be unanswered at once. More end the connection.
    pub bytes: u64,
}

/// Why the broker refuses the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A MAPI code.
    pub code: u32,
    /// What is wrong and what to do, in words.
    pub message: String,
}

/// Sixteen bytes, encoded as a little-endian number. The bytes on the wire are the same, and are read at once instead of byte by
/// byte.
mod sixteen {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        u128::from_le_bytes(*bytes).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        u128::deserialize(from).map(u128::to_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    /// These bytes never change. If this test fails, the code is wrong and not the bytes.
    #[test]
    fn the_hello_is_frozen() {
        let hello = Hello {
            magic: MAGIC,
            oldest: 1,
            newest: 2,
            image: [0xAB; 16],
            library: [0xCD; 16],
            program: "tray".into(),
        };
        let bytes = [
            &[52, 0, 0, 0][..],        // length of the payload
            b"SNDN",                   // magic
            &[1, 0],                   // oldest version
            &[2, 0],                   // newest version
            &[0xAB; 16],               // program image
            &[0xCD; 16],               // copy of the library
            &[4, 0, 0, 0, 0, 0, 0, 0], // length of the name
            b"tray",                   // name
        ]
        .concat();
        assert_eq!(codec::encode(&hello).expect("encodes"), bytes);
        assert_eq!(codec::decode::<Hello>(&bytes[4..]), Ok(hello));
    }

    /// These bytes never change. If this test fails, the code is wrong and not the bytes.
    #[test]
    fn the_answer_is_frozen() {
        let welcome =
            Answer::Welcome(Welcome { version: 1, pid: 7, requests: 256, bytes: 4 << 20 });
        let bytes = [
            &[22, 0, 0, 0][..],
            &[0, 0, 0, 0],                // Welcome
            &[1, 0],                      // version
            &[7, 0, 0, 0],                // pid
            &[0, 1, 0, 0],                // requests
            &[0, 0, 0x40, 0, 0, 0, 0, 0], // bytes
        ]
        .concat();
        assert_eq!(codec::encode(&welcome).expect("encodes"), bytes);

        let refused = Answer::Refused(Refused { code: 0x8004_0110, message: "no".into() });
        let bytes = [
            &[18, 0, 0, 0][..],
            &[1, 0, 0, 0],             // Refused
            &[0x10, 0x01, 0x04, 0x80], // MAPI_E_VERSION
            &[2, 0, 0, 0, 0, 0, 0, 0],
            b"no",
        ]
        .concat();
        assert_eq!(codec::encode(&refused).expect("encodes"), bytes);
    }
}
