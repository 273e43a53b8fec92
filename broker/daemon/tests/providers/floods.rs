//! Providers whose answers are floods of words, rows, results or bytes.

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use sundown_core::provider::{
    AddressCall, Outcome, ProviderAnswer, ProviderError, ProviderSpec, RecipientResult, StoreFacts,
    StoreRead, StoreWrite, Transmission, TransportFacts,
};
use sundown_daemon::Registry;
use sundown_protocol::reply::{AddressRow, QueueRow, SubmissionState};
use sundown_protocol::request::{
    AddressAction, LogonFlags, Opening, QueueAction, ReadSource, Request, SettingChange,
};
use sundown_protocol::{Code, EntryId, Fault, Reply};
use sundown_providers::sqlite::SqliteStore;
use sundown_providers::{
    AddressBookProvider, Prepared, Reply as Answering, Result, StoreProvider, StoreReader, Support,
    Sync, TransportProvider,
};

use super::broker::{Broker, Client, PROFILE};
use super::probe::{DEADLINE, Probes};

/// So many of everything, and so many bytes of each, is a flood.
const FLOOD: usize = 100_000;

fn flood_of_words() -> String {
    "flood ".repeat(FLOOD)
}

/// A store whose reader answers more than it was asked for.
struct LoudStore(SqliteStore);

struct LoudReader(Box<dyn StoreReader>);

impl StoreProvider for LoudStore {
    fn logon(&mut self) -> Result<StoreFacts> {
        self.0.logon()
    }

    fn commit(&mut self, batch: Vec<StoreWrite>, sync: Sync) -> Vec<Result<ProviderAnswer>> {
        self.0.commit(batch, sync)
    }

    fn reader(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(LoudReader(self.0.reader()?)))
    }

    fn logoff(&mut self) -> Result<()> {
        self.0.logoff()
    }
}

impl StoreReader for LoudReader {
    fn read(&mut self, question: &StoreRead) -> Result<ProviderAnswer> {
        match question {
            StoreRead::Piece { .. } => {
                let bytes = flood_of_words().into_bytes();
                let size = bytes.len() as u64 * 10;
                Ok(ProviderAnswer::Piece { size, bytes: bytes.repeat(10), unread_notice: false })
            }
            StoreRead::Setting { .. } => {
                Ok(ProviderAnswer::Setting(Some(flood_of_words().repeat(10))))
            }
            other => self.0.read(other),
        }
    }

    fn another(&self) -> Result<Box<dyn StoreReader>> {
        Ok(Box::new(LoudReader(self.0.another()?)))
    }

    fn open(&mut self, record: u128) -> Result<Box<dyn Read + Send + '_>> {
        self.0.open(record)
    }
}

/// A transport that answers with floods: of which kind says the recipient.
#[derive(Default)]
struct LoudTransport {
    wants_logon: bool,
    last: Option<String>,
}

impl TransportProvider for LoudTransport {
    fn logon(&mut self, _: Arc<dyn Support>) -> Result<TransportFacts> {
        if self.wants_logon {
            return Err(ProviderError::new(Code::E_LOGON_FAILED, flood_of_words().repeat(10)));
        }
        Ok(TransportFacts { window: usize::MAX, ..TransportFacts::default() })
    }

    fn prepare(&mut self, transmission: Transmission, reply: Answering<Prepared>) {
        let to = transmission.recipients[0].1.clone();
        let refused = |recipient| RecipientResult {
            recipient,
            outcome: Outcome::Failed,
            reply: "no such user".into(),
        };
        reply.send(match to.as_str() {
            "error@loud" => {
                Err(ProviderError::new(Code::E_CALL_FAILED, flood_of_words().repeat(10)))
            }
            "marker@loud" => Ok(Prepared { marker: flood_of_words(), refused: Vec::new() }),
            "refused@loud" => {
                Ok(Prepared { marker: "m".into(), refused: (0..FLOOD).map(refused).collect() })
            }
            _ => Ok(Prepared { marker: "m".into(), refused: Vec::new() }),
        });
        self.last = Some(to);
    }

    fn complete(&mut self, _: u64, reply: Answering<Vec<RecipientResult>>) {
        let result = |recipient, reply: String| RecipientResult {
            recipient,
            outcome: Outcome::Failed,
            reply,
        };
        reply.send(Ok(if self.last.as_deref() == Some("words@loud") {
            vec![result(0, flood_of_words().repeat(10))]
        } else {
            // The only one there is many times, and many that there are not.
            (0..FLOOD).map(|number| result(number % 7, "no such user".into())).collect()
        }));
    }

    fn cancel(&mut self, _: u64) {}

    fn recover(&mut self, _: Transmission, _: String, reply: Answering<Vec<RecipientResult>>) {
        reply.send(Ok(Vec::new()));
    }

    fn logoff(&mut self) -> Result<()> {
        Ok(())
    }
}

/// An address book that knows too many, and whose people have too many addresses.
struct LoudBook;

impl AddressBookProvider for LoudBook {
    fn logon(&mut self) -> Result<()> {
        Ok(())
    }

    fn call(&mut self, call: &AddressCall) -> Result<ProviderAnswer> {
        let entry = EntryId { store: 0, record: 1 };
        let addresses = vec!["somebody@loud".to_owned(); FLOOD];
        let row = AddressRow { entry, name: "somebody".into(), addresses };
        Ok(match call {
            AddressCall::Act(_) => ProviderAnswer::Address(row),
            AddressCall::List { .. } => {
                let row = AddressRow { addresses: Vec::new(), ..row };
                ProviderAnswer::Addresses { rows: vec![row; FLOOD], next: Some(1) }
            }
        })
    }

    fn logoff(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Probes, and the kind `loud` of each type.
fn registry(probes: &Probes) -> Registry {
    let mut registry = probes.registry();
    registry.stores.insert(
        "loud".into(),
        Arc::new(|spec: &ProviderSpec| {
            Ok(Box::new(LoudStore(SqliteStore::new(spec))) as Box<dyn StoreProvider>)
        }),
    );
    registry.transports.insert(
        "loud".into(),
        Arc::new(|spec: &ProviderSpec| {
            let made =
                LoudTransport { wants_logon: spec.name == "fails", ..LoudTransport::default() };
            Ok(Box::new(made) as Box<dyn TransportProvider>)
        }),
    );
    registry.address_books.insert(
        "loud".into(),
        Arc::new(|_: &ProviderSpec| Ok(Box::new(LoudBook) as Box<dyn AddressBookProvider>)),
    );
    registry
}

const LOUD: &str = r#"
[[store]]
kind = "loud"

[[transport]]
kind = "loud"
name = "fails"
accept = ["nobody@nowhere"]

[[transport]]
kind = "loud"
accept = ["*"]

[[address_book]]
kind = "loud"
"#;

/// Design §3.18, §10: providers whose answers are floods, of words, rows, results or bytes, cost whoever uses them: who asks for
/// too much is told so, and what is kept of an answer is short. Somebody else works meanwhile, and can ask for the status.
#[test]
fn floods_cost_only_their_session() {
    let probes = Probes::default();
    let broker = Broker::with_registry(&probes, registry(&probes), PROFILE, "");
    std::fs::write(broker.root.path().join("profiles/loud.toml"), LOUD).expect("written");
    let (mut calm, mut loud) = (broker.process(1), broker.process(2));
    calm.logon(LogonFlags::default());
    loud.logon_to(Some("loud"), LogonFlags::default());
    let mut sent = 0;
    let mut works = |calm: &mut Client| {
        calm.submit("Subject: x\n\nx\n");
        sent += 1;
        let since = Instant::now();
        while broker.log.count("sent") < sent {
            assert!(since.elapsed() < DEADLINE, "the calm one's message is not sent");
            std::thread::yield_now();
        }
        assert!(matches!(calm.call(Request::Status), Ok(Reply::Status(_))), "everybody's status");
    };
    works(&mut calm);
    let member = loud.member;
    let refused = |answer: std::result::Result<Reply, Fault>, code| {
        assert_eq!(answer.expect_err("too much").code, code);
    };
    for to in ["error@loud", "marker@loud", "refused@loud", "words@loud", "results@loud"] {
        let entry = loud.submit_to(to, "Subject: x\n\nx\n");
        let tried = |row: &QueueRow| row.attempts > 0 && row.last_error.is_some();
        let since = Instant::now();
        let row = loop {
            let action = QueueAction::Show(entry);
            match loud.call(Request::Queue { profile: Some("loud".into()), action }) {
                Ok(Reply::Queue { rows, .. }) if tried(&rows[0]) => break rows[0].clone(),
                Ok(Reply::Queue { .. }) => assert!(since.elapsed() < DEADLINE, "{to} is not tried"),
                other => panic!("{other:?}"),
            }
            works(&mut calm);
        };
        let state = match to {
            "words@loud" => SubmissionState::Bounced,
            // Of one that answers for recipients that it was not given nothing is known.
            "refused@loud" | "results@loud" => SubmissionState::Unknown,
            _ => SubmissionState::Deferred,
        };
        assert_eq!(row.state, state, "{to}");
        assert!(row.last_error.is_some_and(|e| e.len() <= 500), "{to}");
        works(&mut calm);
    }
    let entry = loud.submit_to("error@loud", "Subject: x\n\nx\n");
    let read = Request::Read { member, source: ReadSource::Entry(entry), offset: 0 };
    refused(loud.call(read), Code::E_CORRUPT_DATA);
    works(&mut calm);
    let (section, name) = ("s".into(), "n".into());
    let change = SettingChange::Keep;
    refused(loud.call(Request::Setting { member, section, name, change }), Code::E_TOO_BIG);
    works(&mut calm);
    let Ok(Reply::Opened(book)) = loud.call(Request::Open { member, what: Opening::AddressBook })
    else {
        panic!("an address book")
    };
    let list = Request::List { member, object: book, after: 0, limit: 10 };
    refused(loud.call(list), Code::E_CORRUPT_DATA);
    let action = AddressAction::Resolve { name: "somebody".into() };
    refused(loud.call(Request::AddressBook { member, object: book, action }), Code::E_TOO_BIG);
    works(&mut calm);
    loud.logoff();
    works(&mut calm);
}
