//! Tickets of processes: accepts those of earlier brokers, and issues new ones.

use sundown_protocol::request::Ticket;
use sundown_protocol::{Code, Event as News, Fault, MemberId, Notification, Reply};

use crate::broker::Broker;
use crate::ground::event::{Effect, ProcessId, Turn};
use crate::ground::timers::Timer;
use crate::peers::connection::Asker;
use crate::peers::process::Departure;
use crate::peers::ticket::{Claims, earlier};

impl Broker {
    /// Accepts what an earlier broker stated about the process. Gives the process its ticket, now and at each change of it.
    pub(crate) fn ticket(
        &mut self,
        asker: Asker,
        shown: Option<&Ticket>,
        turn: &mut Turn,
    ) -> Result<(), Fault> {
        let id = asker.process;
        if let Some(shown) = shown {
            self.believe(id, shown, turn)?;
        }
        let connection =
            self.peers.connections.get_mut(&asker.connection).expect("who asks is connected");
        connection.told_tickets = true;
        if let Some(process) = self.peers.processes.get_mut(id) {
            process.has_ticket = true;
        }
        let ticket = self.sealed(id);
        self.answer(asker, Ok(Reply::Ticket(ticket)), turn);
        let members = self.peers.connections.get(&asker.connection).map(|c| c.members.clone());
        for member in members.unwrap_or_default() {
            self.tell_tag(member, turn);
        }
        Ok(())
    }

    fn believe(&mut self, id: ProcessId, shown: &Ticket, turn: &mut Turn) -> Result<(), Fault> {
        let key = self.settings.broker.ticket_key;
        let process = self.peers.processes.get_mut(id).expect("who asks is connected");
        let Some(claims) = Claims::open(key, process, shown) else {
            let message = "this ticket was not given to this process by a broker with this runtime directory; \
                           go on without it: log off instead of shutting down fast";
            return Err(Fault::new(Code::E_NO_ACCESS, message));
        };
        let before = Claims::of(process);
        process.host = earlier(process.host, claims.host);
        process.verdict = process.verdict.or(claims.verdict);
        process.gave_notice |= claims.noticed;
        if claims.done && process.departure == Departure::No {
            process.departure = Departure::Done;
            self.timers.set(turn.tick.boot, Timer::TearDown(id));
        }
        if self.peers.processes.get(id).is_some_and(|process| Claims::of(process) != before) {
            self.tell_ticket(id, turn);
        }
        Ok(())
    }

    fn sealed(&self, id: ProcessId) -> Ticket {
        let process = self.peers.processes.get(id).expect("a process with a connection is known");
        Claims::of(process).seal(self.settings.broker.ticket_key, process)
    }

    /// Sends a process' changed ticket to each of its connections that asked for tickets. They get it before the answer that shows
    /// the change.
    pub(crate) fn tell_ticket(&self, id: ProcessId, turn: &mut Turn) {
        let connections = self.peers.processes.get(id).into_iter().flat_map(|p| &p.connections);
        let wants = |c: &&_| self.peers.connections.get(*c).is_some_and(|c| c.told_tickets);
        for connection in connections.filter(wants).copied() {
            let event = News::Ticket(self.sealed(id));
            let notification = Notification { member: MemberId(0), advises: Vec::new(), event };
            turn.emit(Effect::Notify { connection, notification });
        }
    }
}
