//! Finds the servers of a mail address: in a table of well-known services, else in DNS (RFC 6186, RFC 8314).
//!
//! ```text
//!  known    services that many people use
//!  dns      asks the nameservers
//!  srv      which of several servers is used
//!  options  which options the servers give
//! ```

mod dns;
mod known;
mod options;
mod srv;

use std::thread;

use sundown_daemon::settings::valid_host;
use sundown_mail::address::{domain_to_ascii, split};

pub(super) use dns::Resolver;
use known::Login;
use srv::Record;

/// A server of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: &'static str,
    /// The user name, if it is not the address.
    pub(super) username: Option<String>,
    /// Whether the host is in another domain than the address. Anybody on the way from the nameserver can have named it (RFC 6186, 6).
    pub(super) is_foreign: bool,
}

impl Server {
    /// The server for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{} ({})", self.host, self.port, self.security)
    }
}

/// What is known of an account's servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Servers {
    /// Who says so: a mail service or DNS.
    pub(super) source: String,
    pub(super) outgoing: Option<Server>,
    pub(super) incoming: Option<Server>,
    /// How to log on, if it is not by a password.
    pub(super) auth: Option<&'static str>,
    /// What people have to know before they log on.
    pub(super) hint: Option<&'static str>,
    /// Why a server is not known.
    pub(super) why: String,
}

/// A service by its name in DNS, and how connections to it are encrypted. Of two, the first is preferred (RFC 8314, 3).
type Offer = (&'static str, &'static str);

const OUTGOING: [Offer; 2] = [("_submissions", "tls"), ("_submission", "starttls")];
const INCOMING: [Offer; 2] = [("_imaps", "tls"), ("_imap", "starttls")];

/// Whether it is known without DNS which servers an address has, or that it has none.
pub(super) fn is_known(address: &str) -> bool {
    let domain = split(address).map(|(_, domain)| domain).unwrap_or_default();
    known::service(domain).is_some() || known::closed(domain).is_some()
}

/// Finds the servers of an address. The function asks DNS for the records of a name.
pub(super) fn find<F>(address: &str, ask: F) -> Servers
where
    F: Fn(&str) -> Result<Vec<Record>, String> + Sync,
{
    let domain = split(address).map(|(_, domain)| domain).unwrap_or_default();
    if let Some(service) = known::service(domain) {
        return of_service(address, service);
    }
    if let Some(why) = known::closed(domain) {
        return Servers { why: why.to_owned(), ..Servers::default() };
    }
    match domain_to_ascii(domain.trim_end_matches('.')) {
        Some(domain) => of_dns(&domain, &ask),
        None => Servers { why: format!("{domain} is no domain of DNS"), ..Servers::default() },
    }
}

fn of_service(address: &str, service: &known::Service) -> Servers {
    let (host, security) = service.outgoing;
    let server = |host: &str, port, security, username| Server {
        host: host.to_owned(),
        port,
        security,
        username,
        is_foreign: false,
    };
    let login = match service.login {
        Login::Address => None,
        Login::LocalPart => split(address).ok().map(|(local, _)| local.to_owned()),
    };
    let port = if security == "tls" { 465 } else { 587 };
    Servers {
        source: service.name.to_owned(),
        outgoing: Some(server(host, port, security, None)),
        incoming: Some(server(service.incoming, 993, "tls", login)),
        auth: service.auth,
        hint: service.hint,
        why: String::new(),
    }
}

/// Asks for all services at once, so that a nameserver that does not answer is waited for only once.
fn of_dns<F>(domain: &str, ask: &F) -> Servers
where
    F: Fn(&str) -> Result<Vec<Record>, String> + Sync,
{
    let [outgoing, incoming] = thread::scope(|scope| {
        let asked = [OUTGOING, INCOMING].map(|offers| {
            offers.map(|(service, security)| {
                let name = format!("{service}._tcp.{domain}");
                (security, scope.spawn(move || ask(&name)))
            })
        });
        asked.map(|offers| {
            offers.map(|(security, asked)| (security, asked.join().expect("it does not panic")))
        })
    });
    let (outgoing, incoming) = (first(domain, outgoing), first(domain, incoming));
    let why = [&outgoing, &incoming].into_iter().find_map(|found| found.as_ref().err());
    Servers {
        source: format!("DNS of {domain}"),
        why: why.cloned().unwrap_or_default(),
        outgoing: outgoing.ok(),
        incoming: incoming.ok(),
        ..Servers::default()
    }
}

/// The server of the first service that is offered, or why there is none.
fn first(
    domain: &str,
    answers: [(&'static str, Result<Vec<Record>, String>); 2],
) -> Result<Server, String> {
    let mut why = format!("DNS names none for {domain}");
    for (security, answer) in answers {
        let records = match answer {
            Ok(records) => records,
            Err(error) => {
                why = error;
                continue;
            }
        };
        let random = getrandom::u32().unwrap_or_default();
        if let Some(record) =
            srv::choose(&records, random).filter(|record| valid_host(&record.target))
        {
            return Ok(Server {
                host: record.target.clone(),
                port: record.port,
                security,
                username: None,
                is_foreign: !is_within(&record.target, domain),
            });
        }
    }
    Err(why)
}

/// Whether a host is in a domain.
fn is_within(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

#[cfg(test)]
mod tests;
