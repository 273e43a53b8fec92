//! Messages as people and programs write them, and what a server gets of them.

use proptest::prelude::*;

use super::*;

const SEVEN: Wanted = Wanted { bodies: Bodies::SevenBit, head: Head::Ascii };

fn facts(message: &[u8]) -> Facts {
    let mut scanner = Scanner::default();
    for piece in message.chunks(11) {
        scanner.feed(piece);
    }
    scanner.finish()
}

fn converted_to(wanted: Wanted, message: &[u8]) -> Vec<u8> {
    let (mut converter, mut out) = (Converter::new(facts(message), wanted), Vec::new());
    for piece in message.chunks(13) {
        converter.feed(piece, &mut out);
    }
    converter.finish(&mut out);
    out
}

fn converted(message: impl AsRef<[u8]>) -> String {
    String::from_utf8(converted_to(SEVEN, message.as_ref())).expect("ASCII")
}

#[test]
fn a_message_without_a_mime_head_gets_one() {
    assert_eq!(
        converted("Subject: x\n\n\u{fc} and more\n"),
        "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC and more\r\n"
    );
    let latin = converted(b"Subject: x\n\nGr\xfc\xdfe\n");
    assert!(
        latin.contains("charset=unknown-8bit\r\n") && latin.ends_with("Gr=FC=DFe\r\n"),
        "{latin}"
    );
    // The first byte of a character, and no second.
    let cut = converted(b"Subject: x\n\nGr\xc3\n");
    assert!(cut.contains("charset=unknown-8bit\r\n"), "{cut}");
    let headless = converted("\u{fc}\n");
    assert!(
        headless.starts_with("MIME-Version: 1.0\r\n") && headless.ends_with("\r\n\r\n=C3=BC\r\n"),
        "{headless}"
    );
}

#[test]
fn a_leaf_keeps_its_type_and_flowed_text_stays_flowed() {
    let flowed = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8; format=flowed\n\
                  Content-Transfer-Encoding: 8bit\n\na \u{fc} \n> b\n-- \n";
    assert_eq!(
        converted(flowed),
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\na =C3=BC=20\r\n> b\r\n--=20\r\n"
    );
}

const MIXED: &[u8] = b"MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"=_b\"\n\
    Content-Transfer-Encoding: 8bit\n\npre\xfc\n--=_b\nContent-Type: text/plain; charset=utf-8\n\nplain\n\
    --=_b \nContent-Type: image/png\nContent-Disposition: attachment; filename=\"\xc3\xbc.png\"\n\
    Content-Transfer-Encoding: binary\n\n\xff\xfe\n\xfd\n\
    --=_b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: \xc3\xbc\n\n\xc3\xbc inside\n\
    --=_b\nContent-Transfer-Encoding: quoted-printable\n\na=20\xfc\n--=_b--\nepi\xfc\n";

#[test]
fn leaves_are_converted_and_what_holds_them_is_labelled() {
    let wanted = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"=_b\"\r\n\
        Content-Transfer-Encoding: 7bit\r\n\r\npre?\r\n--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
        plain\r\n--=_b \r\nContent-Type: image/png\r\n\
        Content-Disposition: attachment;\r\n filename*=utf-8''%C3%BC.png\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n//4NCv0=\r\n\
        --=_b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n\
        Subject: =?utf-8?q?=C3=BC?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC inside\r\n\
        --=_b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=20=FC\r\n--=_b--\r\nepi?\r\n";
    assert_eq!(converted(MIXED), wanted);
}

#[test]
fn a_server_that_takes_eight_bits_gets_them() {
    let eight = Wanted { bodies: Bodies::EightBit, head: Head::Ascii };
    assert!(!facts(MIXED).differs(eight));
    let head = "Subject: \u{fc}\n\n\u{fc}\n";
    assert!(facts(head.as_bytes()).differs(eight));
    let out = String::from_utf8(converted_to(eight, head.as_bytes())).expect("UTF-8");
    assert_eq!(out, "Subject: =?utf-8?q?=C3=BC?=\r\n\r\n\u{fc}\r\n");
}

#[test]
fn a_head_is_utf8_or_it_is_encoded() {
    let utf8 = Wanted { bodies: Bodies::EightBit, head: Head::Utf8 };
    assert!(!facts("Subject: \u{fc}\n\n".as_bytes()).differs(utf8));
    let out = converted_to(utf8, b"Subject: \xfc\nX: \xc3\xbc\n\nb\n");
    assert_eq!(out, b"Subject: =?unknown-8bit?q?=FC?=\r\nX: \xc3\xbc\r\n\r\nb\r\n");
    assert_eq!(facts(b"Subject: \xfc\n\n").head, Beyond::Other);
}

#[test]
fn lines_that_are_too_long_are_broken_for_every_server() {
    let any = Wanted { bodies: Bodies::EightBit, head: Head::Utf8 };
    let long = format!("Subject: {}\n\n{}\n", "word ".repeat(400), "x".repeat(5000));
    assert!(facts(long.as_bytes()).differs(any));
    let out = String::from_utf8(converted_to(any, long.as_bytes())).expect("ASCII");
    assert!(out.split("\r\n").all(|line| line.len() <= MAX_LINE), "{out}");
    let (head, body) = out.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("quoted-printable"), "{head}");
    assert_eq!(body.replace("=\r\n", ""), "x".repeat(5000) + "\r\n");
    assert_eq!(
        head.split("\r\nMIME").next().map(|subject| subject.replace("\r\n", "")),
        Some(format!("Subject: {}", "word ".repeat(400)))
    );
    let fits = format!("Subject: x\n\n{}\n", "x".repeat(MAX_LINE));
    assert!(!facts(fits.as_bytes()).differs(any));
}

#[test]
fn what_is_signed_or_encrypted_stays_as_it_is() {
    let sealed = [
        "DKIM-Signature: v=1\nSubject: \u{fc}\n\n\u{fc}\n",
        "Content-Type: multipart/signed; boundary=b\n\n--b\n\n\u{fc}\n--b--\n",
        "Content-Type: multipart/encrypted; boundary=b\n\n--b\n\n\u{fc}\n--b--\n",
    ];
    for message in sealed {
        assert_eq!(facts(message.as_bytes()).sealed, Sealed::Whole, "{message}");
        let out = converted_to(SEVEN, message.as_bytes());
        assert_eq!(String::from_utf8(out).expect("UTF-8"), message.replace('\n', "\r\n"));
    }
    let part = "Content-Type: multipart/mixed; boundary=o\n\n--o\n\n\u{fc}\n--o\n\
        Content-Type: multipart/signed; boundary=b\n\n--b\n\n\u{fc}\n--b--\n--o\n\n\u{fc}\n--o--\n";
    assert_eq!(facts(part.as_bytes()).sealed, Sealed::Part);
    let out = String::from_utf8(converted_to(SEVEN, part.as_bytes())).expect("UTF-8");
    assert_eq!((out.matches("=C3=BC").count(), out.matches('\u{fc}').count()), (2, 1), "{out}");
}

#[test]
fn too_much_is_not_held() {
    let large = [&b"X: "[..], &vec![b'y'; MAX_HEAD], b"\n\n\xfc\n"].concat();
    assert_eq!(facts(&large).sealed, Sealed::Whole);
    let many = format!(
        "Content-Type: multipart/mixed; boundary=b\n\n{}",
        "--b\n\n\u{fc}\n".repeat(MAX_LEAVES + 5)
    );
    let found = facts(many.as_bytes());
    assert_eq!((found.sealed, found.leaves.len()), (Sealed::Part, MAX_LEAVES));
    let deep: String = (0..200)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n"))
        .collect();
    assert_eq!(facts(format!("{deep}\n\u{fc}\n").as_bytes()).sealed, Sealed::Part);
}

fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragments: &[&[u8]] = &[
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"--b",
        b"--b--",
        b"--c",
        b"x",
        b" ",
        b"\t",
        b":",
        b"=",
        b"\xfc",
        b"\xc3\xbc",
        b"\"",
        b"(",
        b"<",
        b"@",
        b"Content-Type: multipart/mixed; boundary=b\n",
        b"Content-Type: multipart/digest; boundary=\"c\"\n",
        b"Content-Type: message/rfc822\n",
        b"Content-Type: image/png; name=\xfc\n",
        b"Content-Type: text/plain; charset=x\n",
        b"Content-Transfer-Encoding: 8bit\n",
        b"Content-Transfer-Encoding: base64\n",
        b"Content-Transfer-Encoding: quoted-printable\n",
        b"MIME-Version: 1.0\n",
        b"Subject: \xc3\xbc \xfc",
        b"From: \xc3\xbc <a@b>",
        b"To: \"\xfc\" (\xfc)",
    ];
    let one = prop_oneof![
        12 => prop::sample::select(fragments).prop_map(<[u8]>::to_vec),
        1 => (0_usize..3000).prop_map(|length| vec![b'x'; length]),
        1 => (0_usize..3000).prop_map(|length| vec![0xfc; length]),
    ];
    prop::collection::vec(one, 0..25).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_comes_out_is_fit_and_comes_out_again(message in fragments(), cut in 0_usize..100) {
        let found = facts(&message);
        let out = converted_to(SEVEN, &message);
        if found.sealed == Sealed::Nothing {
            prop_assert!(out.is_ascii(), "{:?}", String::from_utf8_lossy(&out));
            let again = converted_to(SEVEN, &out);
            prop_assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&out));
        }
        prop_assert!(!out.windows(2).any(|two| two[0] == b'\r' && two[1] != b'\n' || two[0] != b'\r' && two[1] == b'\n'));
        let (mut converter, mut pieces) = (Converter::new(found, SEVEN), Vec::new());
        let (first, second) = message.split_at(cut.min(message.len()));
        converter.feed(first, &mut pieces);
        converter.feed(second, &mut pieces);
        converter.finish(&mut pieces);
        prop_assert_eq!(pieces, out);
    }
}
