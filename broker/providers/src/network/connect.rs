//! From a host's name to a TCP connection: resolved here or behind a proxy, from any address of this host or from one.
//!
//! ```text
//!  without a proxy:  resolve ─► connect to each address in its turn
//!  with one:         resolve the proxy ─► connect ─► SOCKS 5 (RFC 1928), which resolves the server's name
//! ```
//!
//! Crates that speak SOCKS connect without a time limit, or need an executor; the dialogue is two questions.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use socket2::{Domain, Type};
use sundown_core::provider::ProviderError;
use sundown_protocol::Code;

use super::wire::{Socket, Wire};
use crate::Result;

/// The least time that one of several addresses is given.
pub(crate) const LEAST: Duration = Duration::from_millis(10);

/// How a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The proxy in between.
    pub(crate) proxy: Option<Proxy>,
    /// The address of this host that connections come from.
    pub(crate) source: Option<IpAddr>,
}

/// A SOCKS 5 proxy that wants no login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
}

impl Proxy {
    /// `socks5://HOST:PORT`; without a port it is 1080.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let place = text.strip_prefix("socks5://").or_else(|| text.strip_prefix("socks5h://"))?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, "1080"),
            Some((host, port)) => (host, port.strip_prefix(':')?),
            None => place.rsplit_once(':').unwrap_or((place, "1080")),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let is_host = !host.is_empty() && host.chars().all(fits);
        is_host.then(|| Self { host: host.to_owned(), port })
    }

    fn place(&self) -> String {
        format!("{}, port {}", self.host, self.port)
    }
}

impl Way {
    /// Connects to a server. Everything ends at that moment.
    pub(crate) fn connect(&self, host: &str, port: u16, until: Instant) -> Result<Wire> {
        let Some(proxy) = &self.proxy else {
            let mut wire = Wire::new(Socket::Tcp(self.socket(host, port, until)?));
            wire.set_deadline(until);
            return Ok(wire);
        };
        let mut wire = Wire::new(Socket::Tcp(self.socket(&proxy.host, proxy.port, until)?));
        wire.set_deadline(until);
        ask_proxy(&mut wire, &ascii(host), port).map_err(|why| {
            offline(format!("{host} cannot be reached by the proxy {}: {why}", proxy.place()))
        })?;
        Ok(wire)
    }

    fn socket(&self, host: &str, port: u16, until: Instant) -> Result<TcpStream> {
        let addresses = self.addresses(host, port)?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for (index, address) in addresses.iter().enumerate() {
            // One address that swallows everything must not take the time of the next.
            let left = until.saturating_duration_since(Instant::now());
            let share = (left / (addresses.len() - index) as u32).max(LEAST);
            match self.connect_to(address, share) {
                Ok(socket) => {
                    tracing::debug!(%address, host, "connected");
                    // An answer is waited for after each write; holding small ones back only costs time.
                    let _ = socket.set_nodelay(true);
                    return Ok(socket);
                }
                Err(error) => {
                    tracing::debug!(%address, host, %error, "not connected");
                    last = error;
                }
            }
        }
        let why = match last.kind() {
            io::ErrorKind::TimedOut => "it does not answer in time".to_owned(),
            io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            io::ErrorKind::AddrNotAvailable if self.source.is_some() => {
                "`source_address` is no address of this host".to_owned()
            }
            _ => last.to_string(),
        };
        Err(offline(format!("{host} cannot be reached at port {port}: {why}")))
    }

    fn connect_to(&self, address: &SocketAddr, share: Duration) -> io::Result<TcpStream> {
        let Some(source) = self.source else {
            return TcpStream::connect_timeout(address, share);
        };
        let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&(*address).into(), share)?;
        Ok(socket.into())
    }

    /// The addresses that can be reached from where connections come from.
    fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        let mut addresses = resolve(host, port)?;
        if let Some(source) = self.source {
            addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
            if addresses.is_empty() {
                let text = format!("{host} has no address that can be reached from {source}");
                return Err(offline(text));
            }
        }
        Ok(addresses)
    }
}

/// The resolver has its own time limit; there is no way to give it another.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = match (ascii(host).as_str(), port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Err(offline(format!("{host} cannot be found: {error}"))),
    };
    if addresses.is_empty() {
        return Err(offline(format!("{host} has no address")));
    }
    Ok(addresses)
}

fn ascii(host: &str) -> String {
    let mapped = if host.is_ascii() { None } else { idna::domain_to_ascii(host).ok() };
    mapped.unwrap_or_else(|| host.to_owned())
}

/// Has a proxy connect to a server; what it says no with, in words.
fn ask_proxy(
    wire: &mut (impl Read + Write),
    host: &str,
    port: u16,
) -> std::result::Result<(), String> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut => "it does not answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        _ => error.to_string(),
    };
    // Version 5, one way to log on: none.
    wire.write_all(&[5, 1, 0]).map_err(broken)?;
    let mut chosen = [0; 2];
    wire.read_exact(&mut chosen).map_err(broken)?;
    match chosen {
        [5, 0] => {}
        [5, _] => return Err("it wants a login, and Sundown has none for it".to_owned()),
        _ => return Err("it does not speak SOCKS 5".to_owned()),
    }
    wire.write_all(&question(host, port)?).map_err(broken)?;
    let mut head = [0; 4];
    wire.read_exact(&mut head).map_err(broken)?;
    match head {
        [5, 0, ..] => {}
        [5, code, ..] => return Err(refusal(code).to_owned()),
        _ => return Err("it does not speak SOCKS 5".to_owned()),
    }
    // The address from which it connects, and the port.
    let length = match head[3] {
        1 => 4,
        4 => 16,
        3 => {
            let mut length = [0];
            wire.read_exact(&mut length).map_err(broken)?;
            usize::from(length[0])
        }
        _ => return Err("it does not speak SOCKS 5".to_owned()),
    };
    wire.read_exact(&mut vec![0; length + 2]).map_err(broken)
}

/// Connect to that host, by its address if it is one, and else by its name.
fn question(host: &str, port: u16) -> std::result::Result<Vec<u8>, String> {
    let mut question = vec![5, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            question.push(1);
            question.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            question.push(4);
            question.extend(address.octets());
        }
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| "its name is too long".to_owned())?;
            question.extend([3, length]);
            question.extend(host.bytes());
        }
    }
    question.extend(port.to_be_bytes());
    Ok(question)
}

/// What a reply of RFC 1928, 6 means.
fn refusal(code: u8) -> &'static str {
    match code {
        2 => "its rules do not allow that",
        3 => "the network cannot be reached from there",
        4 => "the host cannot be reached from there",
        5 => "nothing listens there",
        6 => "the way is too long",
        7 => "it cannot connect",
        8 => "it does not know this kind of address",
        _ => "it failed",
    }
}

fn offline(text: String) -> ProviderError {
    ProviderError::new(Code::E_NETWORK_ERROR, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_that_is_not_there_is_offline() {
        let until = Instant::now();
        let error = Way::default().connect("does-not-exist.invalid", 25, until);
        let error = error.expect_err("no host");
        assert_eq!(error.code, Code::E_NETWORK_ERROR);
        assert!(error.message.contains("does-not-exist.invalid"), "{}", error.message);
    }

    #[test]
    fn proxies_have_places() {
        let proxy = |text| Proxy::parse(text).map(|proxy| (proxy.host, proxy.port));
        let named = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(proxy("socks5://localhost:9050"), named("localhost", 9050));
        assert_eq!(proxy("socks5h://192.0.2.1/"), named("192.0.2.1", 1080));
        assert_eq!(proxy("socks5://[::1]:1"), named("::1", 1));
        assert_eq!(proxy("socks5://[::1]"), named("::1", 1080));
        for bad in [
            "",
            "localhost:9050",
            "http://a:1",
            "socks5://",
            "socks5://a:0",
            "socks5://u:p@a:1",
            "socks5://[::1]x",
        ] {
            assert_eq!(proxy(bad), None, "{bad}");
        }
    }

    /// The other end of a conversation: what it says is fixed, what it hears is kept.
    struct Other<'a>(&'a [u8], Vec<u8>);

    impl Read for Other<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Other<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn asked(host: &str, says: &[u8]) -> (std::result::Result<(), String>, Vec<u8>, usize) {
        let mut other = Other(says, Vec::new());
        let done = ask_proxy(&mut other, host, 587);
        (done, other.1, other.0.len())
    }

    #[test]
    fn a_proxy_is_asked_by_name_or_address() {
        let yes = [&[5, 0, 5, 0, 0, 1][..], &[0; 6], b"220 "].concat();
        let (done, heard, left) = asked("a.example", &yes);
        assert_eq!((done, left), (Ok(()), 4), "the server's greeting is left");
        assert_eq!(heard, [&[5, 1, 0, 5, 1, 0, 3, 9][..], b"a.example", &[2, 75]].concat());
        let (_, heard, _) = asked("192.0.2.1", &yes);
        assert_eq!(heard[3..], [5, 1, 0, 1, 192, 0, 2, 1, 2, 75]);
        let named = [&[5, 0, 5, 0, 0, 3, 2][..], b"ab", &[0; 2]].concat();
        assert_eq!(asked("::1", &named).0, Ok(()));
        let other = [&[5, 0, 5, 0, 0, 4][..], &[0; 18]].concat();
        assert_eq!(asked("::1", &other).0, Ok(()));
    }

    #[test]
    fn a_proxy_that_says_no_is_understood() {
        let cases: [(&[u8], &str); 7] = [
            (b"", "closed"),
            (b"HTTP/1.1 400", "does not speak"),
            (&[5, 255], "wants a login"),
            (&[5, 0], "closed"),
            (&[5, 0, 5, 5, 0, 1], "nothing listens"),
            (&[5, 0, 5, 99, 0, 1], "failed"),
            (&[5, 0, 5, 0, 0, 9], "does not speak"),
        ];
        for (says, words) in cases {
            let why = asked("h", says).0.expect_err(words);
            assert!(why.contains(words), "{says:?}: {why}");
        }
        assert!(asked(&"x".repeat(256), &[5, 0]).0.is_err());
    }

    proptest! {
        /// Whatever a proxy says, it is understood or refused, and no more of it is read than belongs to its answer.
        #[test]
        fn any_answer_is_survived(says in prop::collection::vec(any::<u8>(), 0..300)) {
            let (done, ..) = asked("h", &says);
            prop_assert!(done.is_err() || says.starts_with(&[5, 0, 5, 0]));
        }
    }
}
