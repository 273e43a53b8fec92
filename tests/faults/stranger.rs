//! A connection that says what a test wants, and reads when it wants.

use std::io::Write;
use std::os::unix::net::UnixStream;

use sundown_protocol::hello::{Answer, Hello, MAGIC};
use sundown_protocol::reply::{FromBroker, Reply};
use sundown_protocol::request::{Asked, Logon, LogonFlags, Request};
use sundown_protocol::{Code, Fault, MemberId, RequestId, Version, codec, frame};

use crate::harness::{DEADLINE, Home};

/// One such connection. It ends when it is dropped.
pub(crate) struct Stranger {
    stream: UnixStream,
    asked: u64,
}

impl Stranger {
    /// It connects and says nothing.
    pub(crate) fn connect(home: &Home) -> Self {
        let stream = UnixStream::connect(home.socket()).expect("the broker listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("it has a timeout");
        Self { stream, asked: 0 }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        // The other side may have hung up already.
        let _ = self.stream.write_all(bytes);
    }

    /// It says hello and waits for the answer.
    pub(crate) fn hello(&mut self) -> Answer {
        self.hello_as([7; 16])
    }

    /// The same, as this program image of the process.
    pub(crate) fn hello_as(&mut self, image: [u8; 16]) -> Answer {
        self.hello_as_program(image, "stranger")
    }

    /// The same, as a program of that name.
    pub(crate) fn hello_as_program(&mut self, image: [u8; 16], program: &str) -> Answer {
        let (oldest, newest) = (Version::OLDEST as u16, Version::NEWEST as u16);
        let program = program.to_owned();
        let hello = Hello { magic: MAGIC, oldest, newest, image, library: [7; 16], program };
        self.say(&codec::encode(&hello).expect("it encodes"));
        codec::decode(&self.payload().expect("an answer")).expect("an answer to a hello")
    }

    /// The next frame, or `None` at the end of the connection.
    pub(crate) fn payload(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        match frame::read(&mut self.stream, &mut payload) {
            Ok(whole) => whole.then_some(payload),
            Err(_) => None,
        }
    }

    /// The refusal of a connection that has said nothing.
    pub(crate) fn refusal(&mut self) -> (Code, String) {
        match codec::decode(&self.payload().expect("a refusal")) {
            Ok(Answer::Refused(refused)) => (Code(refused.code), refused.message),
            other => panic!("{other:?}"),
        }
    }

    /// It asks, and does not wait.
    pub(crate) fn tell(&mut self, request: Request) -> RequestId {
        self.asked += 1;
        let asked = Asked { id: RequestId(self.asked), request };
        self.say(&codec::encode(&asked).expect("it encodes"));
        asked.id
    }

    /// It asks the same until its socket takes no more, and reads nothing meanwhile. The last request may be cut.
    pub(crate) fn floods(&mut self, request: &Request) {
        self.stream.set_nonblocking(true).expect("set");
        loop {
            self.asked += 1;
            let asked = Asked { id: RequestId(self.asked), request: request.clone() };
            let bytes = codec::encode(&asked).expect("it encodes");
            if !matches!(self.stream.write(&bytes), Ok(n) if n == bytes.len()) {
                break;
            }
        }
        self.stream.set_nonblocking(false).expect("set");
    }

    /// The next answer; notifications are passed over.
    pub(crate) fn answer(&mut self) -> Result<Reply, Fault> {
        loop {
            let payload = self.payload().expect("the connection is open");
            match codec::decode(&payload).expect("it is the broker's") {
                FromBroker::Answer { result, .. } => return result,
                FromBroker::Notify(_) => {}
                FromBroker::Goodbye(why) => panic!("goodbye: {why}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, Fault> {
        self.tell(request);
        self.answer()
    }

    /// It joins the shared session.
    pub(crate) fn logon(&mut self) -> MemberId {
        assert!(matches!(self.hello(), Answer::Welcome(_)));
        self.joins()
    }

    /// It joins the shared session, having said hello.
    pub(crate) fn joins(&mut self) -> MemberId {
        self.logs_on(LogonFlags::default())
    }

    /// It logs on, having said hello.
    pub(crate) fn logs_on(&mut self, flags: LogonFlags) -> MemberId {
        let logon = Logon { profile: None, flags };
        match self.ask(Request::Logon(logon)) {
            Ok(Reply::LoggedOn(on)) => on.member,
            other => panic!("{other:?}"),
        }
    }
}
