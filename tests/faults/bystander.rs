//! Somebody who works while something is broken beside it, and the figures that must come back.

use std::fs;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{Broker, Home, Shell, descriptors_of, left};

/// A process with a session of its own.
pub(crate) struct Bystander {
    shell: Shell,
    worked: usize,
}

/// What the broker has of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figures {
    /// For each limit of which it is counted how much is used.
    used: Vec<(String, u64)>,
    members: usize,
    descriptors: usize,
}

impl Bystander {
    pub(crate) fn new(home: &Home) -> Self {
        let mut shell = home.shell();
        shell.ok("logon");
        shell.ok("advise session=1 events=object-created");
        Self { shell, worked: 0 }
    }

    /// It submits, is notified of what it submitted, and that is delivered.
    pub(crate) fn works(&mut self, home: &Home, broker: &Broker) {
        let subject = format!("bystander{}", self.worked);
        self.worked += 1;
        let entry = self.shell.submit(1, &home.message(&subject));
        self.shell.event("its own message", |e| {
            e["event"] == "object-created" && e["entry"] == entry.as_str()
        });
        let (maildir, worked) = (home.maildir("default"), self.worked);
        broker.until("what the bystander sent", || maildir.count() >= worked);
    }

    /// It leaves in order, and nothing of what it sent is missing or there twice.
    pub(crate) fn leaves(mut self, home: &Home) {
        self.shell.ok("logoff session=1 drain=60");
        assert_eq!(home.maildir("default").count(), self.worked);
    }
}

impl Figures {
    /// Those of this moment.
    pub(crate) fn of(home: &Home, broker: &Broker) -> Self {
        Self::from(&home.status(), broker)
    }

    fn from(status: &Value, broker: &Broker) -> Self {
        let limits = status["limits"].as_object().expect("limits");
        let used = limits.iter().filter_map(|(name, l)| Some((name.clone(), l["used"].as_u64()?)));
        let sessions = status["sessions"].as_array().expect("sessions");
        let members = sessions.iter().filter_map(|s| s["members"].as_array()).map(Vec::len);
        // A request costs its bytes, the one that asks for the status too.
        let used = used.filter(|(name, _)| !name.ends_with("request_bytes")).collect();
        Self { used, members: members.sum(), descriptors: descriptors_of(broker.pid()) }
    }

    /// Waits until everything is as it was. Who is gone is noticed by and by, and nobody is told of it.
    pub(crate) fn come_back(&self, home: &Home, broker: &Broker) {
        let since = Instant::now();
        loop {
            let now = Self::of(home, broker);
            // The connection that asks is in one of both counts, as the loop happens to be.
            let near = now.descriptors <= self.descriptors + 2;
            // What is used may be less: a session that was there for mail alone has ended.
            let no_more = now.used.iter().zip(&self.used).all(|(now, then)| now.1 <= then.1);
            if near && no_more && now.members == self.members {
                return;
            }
            assert!(!left(since).is_zero(), "waiting for {self:?}, and it is {now:?}");
        }
    }
}

/// What a broker has in memory, in KiB.
pub(crate) fn memory(broker: &Broker) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Waits until a broker has so many KiB in memory, or less. It gives memory back some time after a connection ends, and logs nothing of it.
pub(crate) fn comes_down_to(most: u64, home: &Home, broker: &Broker) {
    let since = Instant::now();
    loop {
        let now = memory(broker);
        if now <= most {
            return;
        }
        assert!(!left(since).is_zero(), "{now} KiB in memory, and it should be {most}");
        home.status();
    }
}
