//! What everybody else notices of somebody who is in trouble, or makes it.
//!
//! Two brokers, alike but for that one, do the same in turns, and what is compared is the slowest hundredth. The trouble
//! stands beside the requests that are timed; it does not take the only processor from them.

use std::net::{Ipv4Addr, TcpListener};

use sundown_protocol::Request;
use sundown_protocol::reply::Resource;
use sundown_protocol::request::{LogonFlags, Opening};

use crate::Bench;
use crate::load::asking;
use crate::measure::{Goal, Line, Measure, Side, one_by_one};
use crate::wire::{Broker, SmallRequest, body, submit};

/// Requests of a round: the slowest hundredth of them counts.
const REQUESTS: usize = 4_000;
/// Clients that ask.
const CLIENTS: usize = 8;
/// Answers that wait for somebody who never reads.
const UNREAD: usize = 2_000;
/// Objects that a process may have, where one has them all.
const OBJECTS: usize = 1_000;
/// Messages that fill a log until it is moved into the database: 48 of 200 kB, for the store moves every 8 MiB.
const LARGE: (usize, usize) = (48, 200_000);
/// Durable submits of a round.
const SUBMITS: usize = 200;

/// A profile whose server accepts connections and says nothing.
pub(crate) fn silent_profile(port: u16) -> String {
    format!(
        "[[transport]]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         accept = [\"*\"]\n"
    )
}

/// A port where the kernel accepts and nobody answers.
pub(crate) fn silence() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let port = listener.local_addr().expect("it has one").port();
    (listener, port)
}

impl Bench<'_> {
    pub(crate) fn bystanders(&self) -> Vec<Line> {
        let calm = self.another("calm", "");
        let mut lines = self.beside_a_hung_provider(&calm);
        lines.extend(self.beside_one_that_never_reads(&calm));
        lines.extend(self.beside_a_full_quota(&calm));
        lines.extend(self.beside_a_checkpoint(&calm));
        lines
    }

    fn beside_a_hung_provider(&self, calm: &Broker) -> Vec<Line> {
        let (_silence, port) = silence();
        let profile = silent_profile(port);
        let home = self.home.join("hung");
        let broker = Broker::with(&home, "", &[("hung", &profile)]);
        let mut client = broker.connect();
        let member = client.log_on_to(Some("hung"), LogonFlags::default());
        client.ask(submit(member, &body())).expect("submitted");
        // This one is never answered.
        let kind = Resource::TransportProvider;
        client.send(Request::ValidateState { member, kind, provider: "smtp".into() });
        self.slowest("a provider that hangs", &broker, calm, || {})
    }

    fn beside_one_that_never_reads(&self, calm: &Broker) -> Vec<Line> {
        let broker = self.another("unread", "");
        let mut client = broker.connect();
        client.log_on(LogonFlags::default());
        (0..self.asked.scaled(UNREAD)).for_each(|_| client.send(Request::Status));
        self.slowest("a client that never reads", &broker, calm, || {})
    }

    fn beside_a_full_quota(&self, calm: &Broker) -> Vec<Line> {
        let broker = self.another("quota", &format!("[limits]\nobjects = {OBJECTS}\n"));
        let mut client = broker.connect();
        let member = client.log_on(LogonFlags::default());
        let open = || Request::Open { member, what: Opening::StatusTable };
        client.ask_many(OBJECTS, open);
        let mut refused = client;
        self.slowest("a process at its quota, refused", &broker, calm, move || {
            // Read before the next round, so that it is about refusals and not about what nobody reads.
            (0..100).for_each(|_| refused.send(open()));
            (0..100).for_each(|_| drop(refused.answer().expect_err("it has all that it may have")));
        })
    }

    fn beside_a_checkpoint(&self, calm: &Broker) -> Vec<Line> {
        let broker = self.another("checkpoint", "");
        let member_of = |broker: &Broker| {
            let mut client = broker.connect();
            let member = client.log_on(LogonFlags::NO_MAIL);
            (client, member)
        };
        let (mut writer, member) = member_of(&broker);
        let large = [b"To: you@localhost\n\n".to_vec(), vec![b'x'; LARGE.1]].concat();
        let mut fill = move || {
            (0..self.asked.scaled(LARGE.0)).for_each(|_| {
                writer.ask(submit(member, &large)).expect("submitted");
            });
        };
        let mut lines = self.slowest("a running checkpoint", &broker, calm, &mut fill);
        let times = self.asked.scaled(SUBMITS);
        let submits = |broker| {
            let ((mut client, member), body) = (member_of(broker), body());
            move || {
                let one = || drop(client.ask(submit(member, &body)).expect("submitted"));
                one_by_one(times, one)().slowest()
            }
        };
        let (mut disturbed, undisturbed) = (submits(&broker), submits(calm));
        let disturbed = Side::new("sundown", move || {
            fill();
            disturbed()
        });
        let name = "durable submits beside a checkpoint, slowest hundredth";
        let measure = Measure::new(name, disturbed)
            .beside(Side::new("the same without", undisturbed), Goal::None);
        lines.extend(measure.run(self.asked.rounds));
        lines
    }

    /// The slowest hundredth of small requests of a broker with something in it, beside that of a calm one.
    fn slowest(
        &self,
        what: &str,
        broker: &Broker,
        calm: &Broker,
        mut before: impl FnMut(),
    ) -> Vec<Line> {
        let requests = self.asked.scaled(REQUESTS);
        let side = |broker, name| {
            let mut side = asking(name, SmallRequest::of(broker), CLIENTS, requests, 0);
            move || (side.run)().slowest()
        };
        let (mut disturbed, undisturbed) = (side(broker, "sundown"), side(calm, "calm"));
        let ours = Side::new("sundown", move || {
            before();
            disturbed()
        });
        Measure::new(format!("slowest hundredth beside {what}"), ours)
            .beside(Side::new("the same without", undisturbed), Goal::AtMost(1.1))
            .run(self.asked.rounds)
    }
}
