//! A payload: whatever can be decoded is encoded to the same bytes, so there is one way to say each thing.

use std::fmt::Debug;

use sundown_protocol::codec::{decode, encode};
use sundown_protocol::frame::{HEADER, MAX_PAYLOAD, MIN_PAYLOAD};
use sundown_protocol::hello::{Answer, Hello};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::Asked;

/// Bytes as every message of the protocol.
pub fn codec(payload: &[u8]) {
    if !(MIN_PAYLOAD as usize..=MAX_PAYLOAD as usize).contains(&payload.len()) {
        return;
    }
    check(payload, decode::<Hello>, encode);
    check(payload, decode::<Answer>, encode);
    check(payload, decode::<FromBroker>, encode);
    check(payload, decode::<Asked>, encode);
    if let Ok(Asked { request, .. }) = decode(payload) {
        // What the broker looks at before it looks at the request.
        assert!(!request.name().is_empty());
        let _ = (request.member(), request.since(), request.is_free());
        let _ = format!("{request:?}");
    }
}

fn check<T: Debug + PartialEq, E: Debug>(
    payload: &[u8],
    decode: fn(&[u8]) -> Result<T, E>,
    encode: fn(&T) -> Result<Vec<u8>, E>,
) {
    let Ok(message) = decode(payload) else { return };
    let frame = encode(&message).expect("what came in a frame fits into one");
    assert_eq!(&frame[HEADER..], payload, "{message:?} is said in two ways");
    assert_eq!(decode(&frame[HEADER..]).expect("it was decoded before"), message);
}
