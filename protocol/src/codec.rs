//! The codec, which only this file names: bincode 2.0.1, fixed-width integers, little-endian, no trailing bytes.
//!
//! `docs/decisions/0002-bincode.md` says how to replace it.

use std::fmt;

use bincode::error::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{self, HEADER, MAX_PAYLOAD};

/// How much memory a decoded message may take, in bytes. The codec's own limit counts memory, and not bytes on the wire: rows of a
/// table are larger decoded than encoded.
const MAX_DECODED: usize = 8 * MAX_PAYLOAD as usize;

/// Why a payload is not a message. Such a payload ends the connection.
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

/// Decodes a payload, which must contain exactly one message.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::legacy().with_limit::<MAX_DECODED>();
    let (message, used) = bincode::serde::borrow_decode_from_slice(payload, config)
        .map_err(|e| CodecError::Shape(in_words(e)))?;
    match payload.len() - used {
        0 => Ok(message),
        trailing => Err(CodecError::Trailing(trailing)),
    }
}

/// Describes the error for people; the codec's own texts are for debugging.
fn in_words(error: DecodeError) -> String {
    match error {
        DecodeError::UnexpectedEnd { .. } => "it ends too early".to_owned(),
        DecodeError::LimitExceeded => "it would take too much memory".to_owned(),
        DecodeError::Utf8 { .. } => "a text is not UTF-8".to_owned(),
        DecodeError::InvalidBooleanValue(found) => {
            format!("{found} stands where 0 is no and 1 is yes")
        }
        DecodeError::UnexpectedVariant { found, .. } => format!("there is no variant {found}"),
        // Texts of this crate's own types, and of serde about them.
        DecodeError::OtherString(why) => why,
        _ => "its bytes make no sense".to_owned(),
    }
}

/// Appends a whole frame, length and payload, to `out`. On an error `out` is unchanged.
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

/// Encodes a whole frame, length and payload.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(64);
    encode_into(message, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::Hello;
    use crate::request::Asked;

    #[test]
    fn what_is_no_message_is_refused_in_words() {
        let why = |error: CodecError| error.to_string();
        let (short, filled) = ([1, 2, 3], [0xFF; 64]);
        let mut huge = vec![0; 64];
        huge[..8].fill(0xFE);
        let said = [
            why(decode::<Asked>(&short).expect_err("too short")),
            why(decode::<Asked>(&filled).expect_err("no request")),
            why(decode::<Hello>(&filled).expect_err("no hello")),
            why(decode::<Option<bool>>(&[7]).expect_err("no option")),
            why(decode::<bool>(&[7]).expect_err("no boolean")),
            why(decode::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xFF]).expect_err("no text")),
            why(decode::<String>(&[0xFF; 8]).expect_err("too long")),
            why(decode::<Vec<u8>>(&huge).expect_err("too long")),
        ];
        for text in &said {
            let words = text.strip_prefix("not a message of this protocol: ").expect("why");
            assert!(words.contains(' ') && !words.contains(['{', '(', '"']), "{text}");
        }
        let reasons = [
            "ends too early",
            "expected variant index",
            "too much memory",
            "no variant 7",
            "7 stands where",
            "not UTF-8",
            "too much memory",
            "ends too early",
        ];
        for (text, reason) in said.iter().zip(reasons) {
            assert!(text.contains(reason), "{text}: not {reason}");
        }
    }
}
