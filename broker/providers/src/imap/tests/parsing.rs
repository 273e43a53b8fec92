//! Responses as servers send them.

use super::super::*;

fn data(response: &str) -> Data<'_> {
    match Response::read(response.as_bytes()) {
        Ok(Response::Data(data)) => data,
        other => panic!("{response:?}: {other:?}"),
    }
}

fn fetched(items: &str) -> String {
    let response = format!("* 3 FETCH ({items})");
    let Data::Fetch(message) = data(&response) else { panic!("{items}") };
    assert_eq!(message.place, 3);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut told = Vec::new();
    told.extend(message.uid.map(|uid| format!("uid {uid}")));
    told.extend(message.flags.map(|flags| {
        format!("flags {}", flags.iter().map(|flag| lossy(flag)).collect::<Vec<_>>().join(","))
    }));
    told.extend(message.modseq.map(|modseq| format!("modseq {modseq}")));
    told.extend(message.received.map(|received| format!("received {received}")));
    told.extend(message.size.map(|size| format!("size {size}")));
    told.extend(message.email_id.map(|id| format!("id {}", lossy(&id))));
    for Section { name, origin, bytes } in message.sections {
        let bytes = bytes.map(|bytes| lossy(&bytes));
        told.push(format!("[{}]{origin:?} {bytes:?}", lossy(name)));
    }
    told.extend(message.others.iter().map(|name| format!("other {}", lossy(name))));
    told.join("; ")
}

#[test]
fn messages_are_read() {
    let cases = [
        // Dovecot.
        (
            r"UID 7 FLAGS (\Seen $Forwarded) MODSEQ (12) RFC822.SIZE 4096",
            r"uid 7; flags \Seen,$Forwarded; modseq 12; size 4096",
        ),
        ("INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" UID 8", "uid 8; received 837596665000"),
        ("UID 9 BODY[]<0> {5}\r\na\r\n)\n", "uid 9; []Some(0) Some(\"a\\r\\n)\\n\")"),
        // Cyrus.
        ("EMAILID (Mdeadbeef) THREADID (T1) UID 7", "uid 7; id Mdeadbeef; other THREADID"),
        (
            "BODY[HEADER.FIELDS (\"DATE\" FROM)] {2}\r\n\r\n UID 1",
            "uid 1; [HEADER.FIELDS (\"DATE\" FROM)]None Some(\"\\r\\n\")",
        ),
        // Gmail, whose labels may be called anything.
        (
            r#"X-GM-MSGID 1278455344230334865 X-GM-LABELS (\Inbox "x)y" (z)) UID 2"#,
            "uid 2; id 1278455344230334865; other X-GM-LABELS",
        ),
        // No part, an empty one, one in quotes, and items that are not read here.
        (
            "BODY[2] NIL BODY[3] \"\" body[Text] \"a\\\"b\"",
            "[2]None None; [3]None Some(\"\"); [Text]None Some(\"a\\\"b\")",
        ),
        (
            "BODYSTRUCTURE ((\"text\" \"plain\" NIL) \"mixed\") UID 1 X NIL",
            "uid 1; other BODYSTRUCTURE; other X",
        ),
        ("BINARY[1] ~{1}\r\n\0 UID 1", "uid 1; other BINARY[1]"),
        // Of an item that has another shape than it should have, the others are not lost.
        (
            "UID x FLAGS NIL MODSEQ 7 RFC822.SIZE -1 UID 4",
            "uid 4; other UID; other FLAGS; other MODSEQ; other RFC822.SIZE",
        ),
        ("INTERNALDATE \"yesterday\" UID 0", ""),
        ("  UID   5  ", "uid 5"),
        ("", ""),
    ];
    for (items, wanted) in cases {
        assert_eq!(fetched(items), wanted, "{items}");
    }
}

#[test]
fn what_a_command_came_to_is_read() {
    let done = |text: &'static str| match Response::read(text.as_bytes()) {
        Ok(Response::Done { tag: b"a1", end, said }) => {
            (end, said.note, String::from_utf8_lossy(said.words).into_owned())
        }
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(done("a1 OK done"), (End::Ok, None, "done".into()));
    assert_eq!(done("a1 ok"), (End::Ok, None, String::new()));
    assert_eq!(
        done("a1 NO [ALREADYEXISTS] it is there"),
        (End::No, Some(Note::Other(b"ALREADYEXISTS")), "it is there".into())
    );
    assert_eq!(done("a1 BAD  [oops"), (End::Bad, None, "[oops".into()));
    let set = |text: &str| text.parse::<Set>().expect("a set");
    let notes = [
        ("[APPENDUID 38505 3955]", Note::AppendUid { validity: 38505, uids: set("3955") }),
        (
            "[COPYUID 38505 304,319:320 3956:3958]",
            Note::CopyUid { validity: 38505, from: set("304,319:320"), to: set("3956:3958") },
        ),
        ("[MODIFIED 7,9]", Note::Modified(set("7,9"))),
        ("[uidvalidity 7]", Note::UidValidity(7)),
        ("[UIDNEXT 8]", Note::UidNext(8)),
        ("[HIGHESTMODSEQ 90060115205545359]", Note::HighestModSeq(90_060_115_205_545_359)),
        ("[NOMODSEQ]", Note::NoModSeq),
        ("[UIDNOTSTICKY]", Note::UidNotSticky),
        ("[MAILBOXID (F2212ea87-6097)]", Note::MailboxId(b"F2212ea87-6097")),
        ("[CAPABILITY IMAP4rev1 AUTH=PLAIN]", Note::Capability(vec![b"IMAP4rev1", b"AUTH=PLAIN"])),
        (
            r"[PERMANENTFLAGS (\Seen \*)]",
            Note::PermanentFlags(vec![br"\Seen".into(), br"\*".into()]),
        ),
        ("[BADCHARSET (\"]\")]", Note::Other(b"BADCHARSET")),
    ];
    for (text, wanted) in notes {
        let response = format!("* OK {text} words");
        let said = Response::read(response.as_bytes()).expect("a response");
        assert_eq!(
            said,
            Response::Words {
                about: About::Ok,
                said: Said { note: Some(wanted), words: b"words" }
            },
            "{text}"
        );
    }
    // What cannot be read, or does not fit together, stays words.
    for text in
        ["[APPENDUID x 7]", "[COPYUID 1 1:2 3]", "[UIDNEXT 4294967296]", "[MODIFIED 0]", "[]", "[a"]
    {
        let response = format!("* OK {text}");
        let said = Response::read(response.as_bytes());
        assert_eq!(
            said,
            Ok(Response::Words {
                about: About::Ok,
                said: Said { note: None, words: text.as_bytes() }
            })
        );
    }
}

#[test]
fn words_without_a_command_are_read() {
    let about = |text: &'static str| match Response::read(text.as_bytes()) {
        Ok(Response::Words { about, .. }) => about,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(about("* PREAUTH welcome"), About::Preauth);
    assert_eq!(about("* bye"), About::Bye);
    assert_eq!((about("* NO [ALERT] quota"), about("* BAD what")), (About::No, About::Bad));
    assert_eq!(Response::read(b"+ go"), Ok(Response::GoOn(b"go")));
    assert_eq!(Response::read(b"+"), Ok(Response::GoOn(b"")));
    assert_eq!(Response::read(b"+dGV4dA=="), Ok(Response::GoOn(b"dGV4dA==")));
}

#[test]
fn folders_are_read() {
    let list = |text: &str| match data(&format!("* LIST {text}")) {
        Data::List(List { attributes, delimiter, name }) => {
            let attributes = attributes.iter().map(|one| String::from_utf8_lossy(one).into_owned());
            (
                attributes.collect::<Vec<_>>().join(" "),
                delimiter.map(char::from),
                String::from_utf8_lossy(&name).into_owned(),
            )
        }
        other => panic!("{text}: {other:?}"),
    };
    let cases = [
        (r#"(\HasNoChildren \Sent) "." Sent"#, r"\HasNoChildren \Sent", Some('.'), "Sent"),
        (r#"() "\\" "a\"b""#, "", Some('\\'), "a\"b"),
        ("() NIL INBOX", "", None, "INBOX"),
        ("() \"/\" {4}\r\na\r\nb (CHILDINFO (\"SUBSCRIBED\"))", "", Some('/'), "a\r\nb"),
        ("() \"/\" NIL", "", Some('/'), "NIL"),
        ("() \"/\" \"\"", "", Some('/'), ""),
        ("() \"/\" [Gmail]/a[b", "", Some('/'), "[Gmail]/a[b"),
    ];
    for (text, attributes, delimiter, name) in cases {
        assert_eq!(list(text), (attributes.into(), delimiter, name.into()), "{text}");
    }
    let wanted = Status {
        name: b"a b".into(),
        messages: Some(7),
        uid_next: Some(9),
        uid_validity: Some(1),
        highest_modseq: Some(1 << 40),
    };
    let text = "* STATUS \"a b\" (MESSAGES 7 UIDNEXT 9 X (y z) UIDVALIDITY 1 HIGHESTMODSEQ 1099511627776 MAILBOXID (F1) )";
    assert_eq!(data(text), Data::Status(wanted));
}

#[test]
fn numbers_and_searches_are_read() {
    let set = |text: &str| text.parse::<Set>().expect("a set");
    let own = |prefix: &'static str, delimiter, others| {
        let own = Some(Namespace { prefix: prefix.as_bytes().into(), delimiter });
        Data::Namespace { own, others }
    };
    let cases = [
        ("* 0 EXISTS", Data::Exists(0)),
        ("* 23 recent", Data::Recent(23)),
        ("* 1 EXPUNGE", Data::Expunge(1)),
        ("* 1 BINGO", Data::Other(b"BINGO")),
        (
            "* VANISHED (EARLIER) 41,43:116",
            Data::Vanished { earlier: true, uids: set("41,43:116") },
        ),
        ("* VANISHED 405", Data::Vanished { earlier: false, uids: set("405") }),
        ("* FLAGS (\\Seen x)", Data::Flags(vec![br"\Seen".into(), b"x".into()])),
        ("* CAPABILITY IMAP4rev1 IDLE", Data::Capability(vec![b"IMAP4rev1", b"IDLE"])),
        ("* ENABLED QRESYNC ", Data::Enabled(vec![b"QRESYNC"])),
        ("* ENABLED", Data::Enabled(Vec::new())),
        ("* SEARCH", Data::Search { numbers: Vec::new(), modseq: None }),
        (
            "* SEARCH 2 5 (MODSEQ 917162500)",
            Data::Search { numbers: vec![2, 5], modseq: Some(917_162_500) },
        ),
        (
            "* ESEARCH (TAG \"a2\") UID MIN 7 MAX 3800 COUNT 4 ALL 7,9:10,3800 X (1) MODSEQ 9",
            Data::Esearch(Esearch {
                tag: Some(b"a2".into()),
                by_uid: true,
                all: set("7,9:10,3800"),
                min: Some(7),
                max: Some(3800),
                count: Some(4),
                modseq: Some(9),
            }),
        ),
        ("* ESEARCH", Data::Esearch(Esearch::default())),
        ("* NAMESPACE NIL NIL NIL", Data::Namespace { own: None, others: false }),
        ("* NAMESPACE ((\"\" \"/\")) NIL NIL", own("", Some(b'/'), false)),
        ("* NAMESPACE NIL ((\"o/\" \"/\")) NIL", Data::Namespace { own: None, others: true }),
        (
            "* NAMESPACE ((\"INBOX.\" \".\")(\"#a/\" \"/\" \"X\" (\"y\"))) NIL ((\"\" NIL))",
            own("INBOX.", Some(b'.'), true),
        ),
        ("* THREAD (2)", Data::Other(b"THREAD")),
    ];
    for (text, wanted) in cases {
        assert_eq!(data(text), wanted, "{text}");
    }
}

/// What is made of a response is never many times as large as the response.
#[test]
fn lists_without_an_end_are_not_kept() {
    let long = "a ".repeat(5000);
    let items = "BODY[] NIL ".repeat(5000);
    for text in [
        format!("* CAPABILITY {long}"),
        format!("* FLAGS ({long})"),
        format!("* 1 FETCH (FLAGS ({long}))"),
        format!("* 1 FETCH ({items})"),
        format!("* LIST ({long}) NIL x"),
    ] {
        let kept = match Response::read(text.as_bytes()) {
            Ok(Response::Data(Data::Fetch(message))) => message.flags.is_some(),
            read => read.is_ok(),
        };
        assert!(!kept, "{}", &text[..30]);
    }
}

#[test]
fn nonsense_is_one_response_that_is_lost() {
    for text in [
        "",
        " ",
        "*",
        "* ",
        "a1",
        "a1 BYE",
        "a1 FETCH",
        "* 0 EXPUNGE",
        "* 0 FETCH (UID 1)",
        "* 1 FETCH",
        "* 1 FETCH UID 1",
        "* 1 FETCH (UID 1",
        "* 1 FETCH (UID)",
        "* 4294967296 EXISTS",
        "* VANISHED",
        "* VANISHED (EARLIER 1",
        "* VANISHED (LATER) 1",
        "* VANISHED 1:*",
        "* LIST () \"ab\" x",
        "* LIST x",
        "* STATUS a (MESSAGES)",
        "* SEARCH 1 x",
        "* SEARCH (X 1)",
        "* ESEARCH (TAG",
        "HTTP/1.1 400 Bad Request",
    ] {
        assert_eq!(Response::read(text.as_bytes()), Err(Garbled), "{text:?}");
    }
}
