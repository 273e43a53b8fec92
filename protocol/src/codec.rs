//! The one file that names the codec: bincode 2.0.1, fixed-width integers, little-endian, no trailing bytes.
//!
//! How to leave it again: `docs/decisions/0002-bincode.md`.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{self, HEADER, MAX_PAYLOAD};

/// What one decoded message may take in memory. The codec's own limit counts that, and not bytes on the wire: rows of
/// a table are larger decoded than encoded.
const MAX_DECODED: usize = 8 * MAX_PAYLOAD as usize;

/// Why a payload is not a message. It ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes do not have the shape of the message.
    Shape(String),
    /// The message ended before the payload did.
    Trailing(usize),
    /// The message is longer than a frame may be; nothing was sent.
    TooLong(usize),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(why) => write!(f, "not a message of this protocol: {why}"),
            Self::Trailing(bytes) => write!(f, "{bytes} bytes follow the end of the message"),
            Self::TooLong(bytes) => {
                write!(f, "a message of {bytes} bytes; {MAX_PAYLOAD} are allowed")
            }
        }
    }
}

impl std::error::Error for CodecError {}

/// Decodes one payload, all of it.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::legacy().with_limit::<MAX_DECODED>();
    let (message, used) = bincode::serde::borrow_decode_from_slice(payload, config)
        .map_err(|e| CodecError::Shape(e.to_string()))?;
    match payload.len() - used {
        0 => Ok(message),
        trailing => Err(CodecError::Trailing(trailing)),
    }
}

/// Appends one whole frame, length and payload, to `out`. On an error `out` is as it was.
pub fn encode_into<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    let written = bincode::serde::encode_into_std_write(message, out, bincode::config::legacy())
        .map_err(|e| CodecError::Shape(e.to_string()));
    let checked = written.and_then(|length| {
        u32::try_from(length)
            .ok()
            .filter(|&l| frame::check(l).is_ok())
            .ok_or(CodecError::TooLong(length))
    });
    match checked {
        Ok(length) => {
            out[start..start + HEADER].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        Err(e) => {
            out.truncate(start);
            Err(e)
        }
    }
}

/// One whole frame, length and payload.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(64);
    encode_into(message, &mut out)?;
    Ok(out)
}
