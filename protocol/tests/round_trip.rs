//! Whatever is encoded is decoded to the same, and nothing that arrives brings the decoder down.

mod messages;

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sundown_protocol::codec::{self, CodecError};
use sundown_protocol::frame;
use sundown_protocol::hello::{Answer, Hello, Refused, Welcome};
use sundown_protocol::reply::FromBroker;
use sundown_protocol::request::{Asked, Blob};
use sundown_protocol::{MemberId, Request, RequestId, UploadId};

use messages::{asked, from_broker, text};

fn hello() -> impl Strategy<Value = Hello> {
    (any::<([u8; 4], u16, u16, [u8; 16], [u8; 16])>(), text()).prop_map(
        |((magic, oldest, newest, image, library), program)| Hello {
            magic,
            oldest,
            newest,
            image,
            library,
            program,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        any::<(u16, u32, u32, u64)>().prop_map(|(version, pid, requests, bytes)| {
            Answer::Welcome(Welcome { version, pid, requests, bytes })
        }),
        (any::<u32>(), text())
            .prop_map(|(code, message)| Answer::Refused(Refused { code, message })),
    ]
}

/// Encodes, cuts and decodes; then breaks the payload in each simple way.
fn there_and_back<T>(message: &T, cut: prop::sample::Index, more: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let frame = codec::encode(message).expect("it fits a frame");
    let (payload, taken) = frame::cut(&frame).expect("a frame").expect("a whole one");
    assert_eq!(taken, frame.len());
    assert_eq!(codec::decode::<T>(payload).as_ref(), Ok(message));

    let short = &payload[..cut.index(payload.len())];
    assert!(codec::decode::<T>(short).is_err(), "a truncated payload was taken");

    let long = [payload, more].concat();
    assert_eq!(codec::decode::<T>(&long), Err(CodecError::Trailing(more.len())));
}

/// Decodes what may be anything. What can be read is written to the same bytes again, so that nothing has two spellings
/// but the bytes of text that is there.
fn survives<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(message) = codec::decode::<T>(bytes)
        && let Ok(frame) = codec::encode(&message)
    {
        assert_eq!(&frame[frame::HEADER..], bytes);
    }
}

fn extension() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..16)
}

proptest! {
    #[test]
    fn requests_come_back_as_they_went(
        asked in asked(), cut in any::<prop::sample::Index>(), more in extension()
    ) {
        there_and_back(&asked, cut, &more);
    }

    #[test]
    fn what_the_broker_says_comes_back_as_it_went(
        said in from_broker(), cut in any::<prop::sample::Index>(), more in extension()
    ) {
        there_and_back(&said, cut, &more);
    }

    #[test]
    fn hellos_come_back_as_they_went(
        hello in hello(), answer in answer(), cut in any::<prop::sample::Index>(), more in extension()
    ) {
        there_and_back(&hello, cut, &more);
        there_and_back(&answer, cut, &more);
    }

    #[test]
    fn no_bytes_bring_the_decoder_down(bytes in vec(any::<u8>(), 0..512)) {
        survives::<Hello>(&bytes);
        survives::<Answer>(&bytes);
        survives::<Asked>(&bytes);
        survives::<FromBroker>(&bytes);
        let _ = frame::cut(&bytes);
    }

    /// Random bytes rarely get past the first tag; a real message with some bytes changed does.
    #[test]
    fn no_changed_message_brings_the_decoder_down(
        asked in asked(),
        said in from_broker(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let change = |frame: Vec<u8>| {
            let mut payload = frame[frame::HEADER..].to_vec();
            for (place, byte) in &changes {
                let place = place.index(payload.len());
                payload[place] = *byte;
            }
            payload
        };
        survives::<Asked>(&change(codec::encode(&asked).expect("it fits a frame")));
        survives::<FromBroker>(&change(codec::encode(&said).expect("it fits a frame")));
    }
}

/// A length inside a message is no reason to reserve memory for it.
#[test]
fn a_length_that_lies_is_refused() {
    let mut payload = codec::encode(&Asked { id: RequestId(1), request: Request::Status })
        .expect("it fits a frame")[frame::HEADER..]
        .to_vec();
    // Setting: tag 13, member, then a section of 2^63 bytes that are not there.
    payload.truncate(8);
    payload.extend_from_slice(&13u32.to_le_bytes());
    payload.extend_from_slice(&1u64.to_le_bytes());
    payload.extend_from_slice(&(1u64 << 63).to_le_bytes());
    assert!(matches!(codec::decode::<Asked>(&payload), Err(CodecError::Shape(_))));
}

#[test]
fn a_message_longer_than_a_frame_is_not_encoded() {
    let bytes = Blob(vec![0; frame::MAX_PAYLOAD as usize]);
    let request = Request::Upload { member: MemberId(1), store: 0, upload: UploadId(1), bytes };
    let mut out = b"before".to_vec();
    let refused = codec::encode_into(&Asked { id: RequestId(1), request }, &mut out);
    assert!(matches!(refused, Err(CodecError::TooLong(_))));
    assert_eq!(out, b"before");
}
