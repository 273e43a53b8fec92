//! Options of `profile add` that the servers of an account give, where the person does not.

use sundown_client::Error;

use super::{Server, Servers};
use crate::cli::{AddArguments, TransportKind};
use crate::output;

impl AddArguments {
    /// Whether the server for outgoing mail of an account must be found.
    pub(in crate::profile) fn lacks_outgoing(&self) -> bool {
        self.address.is_some() && self.host.is_none()
    }

    /// Whether the server for incoming mail of an account must be found.
    pub(in crate::profile) fn lacks_incoming(&self) -> bool {
        self.address.is_some() && self.imap_host.is_none() && !self.no_imap
    }

    /// The account whose servers must be found.
    pub(in crate::profile) fn to_find(&self) -> Option<String> {
        self.address.clone().filter(|_| self.lacks_outgoing() || self.lacks_incoming())
    }

    /// Finds the servers that no option names. What people have to know before the account is used.
    pub(in crate::profile) fn find_servers(
        &mut self,
        find: impl FnOnce(&str) -> Servers,
    ) -> Result<Option<&'static str>, Error> {
        let kind = self.implied_kind();
        let Some(address) = self.to_find().filter(|_| kind == Some(TransportKind::Smtp)) else {
            self.use_address();
            return Ok(None);
        };
        let servers = find(&address);
        let foreign: Vec<_> = self.new_servers(&servers).filter(|(_, s)| s.is_foreign).collect();
        if !foreign.is_empty() {
            let options: Vec<_> = foreign.iter().map(|(way, server)| way.options(server)).collect();
            return Err(output::invalid(format!(
                "{} names servers in another domain, which nothing proves to be your provider's. If they are, say {}",
                servers.source,
                options.join(" ")
            )));
        }
        self.take(&servers);
        self.use_address();
        let Some((what, options)) = self.missing() else { return Ok(servers.hint) };
        let why = &servers.why;
        Err(output::invalid(format!("no {what} of {address} found: {why}; say {options}")))
    }

    /// Which servers of an account are not known, and the options that name them.
    pub(in crate::profile) fn missing(&self) -> Option<(&'static str, &'static str)> {
        match (self.lacks_outgoing(), self.lacks_incoming()) {
            (false, false) => None,
            (true, false) => Some(("server for outgoing mail", "--host")),
            (false, true) => {
                Some(("server for incoming mail", "--imap-host, or --no-imap to send only"))
            }
            (true, true) => {
                Some(("servers", "--host and --imap-host, or --host and --no-imap to send only"))
            }
        }
    }

    /// The servers that were found and that no option names.
    pub(in crate::profile) fn new_servers<'s>(
        &self,
        servers: &'s Servers,
    ) -> impl Iterator<Item = (Way, &'s Server)> + use<'s> {
        let outgoing = servers.outgoing.as_ref().filter(|_| self.lacks_outgoing());
        let incoming = servers.incoming.as_ref().filter(|_| self.lacks_incoming());
        let outgoing = outgoing.map(|server| (Way::Outgoing, server));
        outgoing.into_iter().chain(incoming.map(|server| (Way::Incoming, server)))
    }

    /// Uses the servers that were found. What options say stays.
    pub(in crate::profile) fn take(&mut self, servers: &Servers) {
        let found: Vec<_> = self.new_servers(servers).collect();
        for (way, server) in found {
            let Server { host, port, security, username, .. } = server.clone();
            let keys = match way {
                Way::Outgoing => {
                    (&mut self.host, &mut self.port, &mut self.security, &mut self.username)
                }
                Way::Incoming => (
                    &mut self.imap_host,
                    &mut self.imap_port,
                    &mut self.imap_security,
                    &mut self.imap_username,
                ),
            };
            *keys.0 = Some(host);
            // A port and its encryption belong together.
            if keys.1.is_none() && keys.2.is_none() {
                (*keys.1, *keys.2) = (Some(port), Some(security.to_owned()));
            }
            if keys.3.is_none() {
                *keys.3 = username;
            }
        }
        if self.auth.is_none() {
            self.auth = servers.auth.map(str::to_owned);
        }
    }

    /// Logs on with the address if no option names a user.
    pub(in crate::profile) fn use_address(&mut self) {
        if self.username.is_none() {
            self.username.clone_from(&self.address);
        }
    }
}

/// Which way mail goes at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::profile) enum Way {
    Outgoing,
    Incoming,
}

impl Way {
    pub(in crate::profile) fn name(self) -> &'static str {
        match self {
            Self::Outgoing => "outgoing",
            Self::Incoming => "incoming",
        }
    }

    /// The options that name a server.
    fn options(self, Server { host, port, security, .. }: &Server) -> String {
        let prefix = match self {
            Self::Outgoing => "--",
            Self::Incoming => "--imap-",
        };
        format!("{prefix}host {host} {prefix}port {port} {prefix}security {security}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What options become of `anna@example.org` and these others, if these hosts are found.
    fn found(
        others: AddArguments,
        outgoing: Option<&str>,
        incoming: Option<&str>,
    ) -> Result<AddArguments, String> {
        let server = |host: &str, port, security| Server {
            host: host.to_owned(),
            port,
            security,
            username: None,
            is_foreign: !host.ends_with("example.org"),
        };
        let servers = Servers {
            source: "DNS of example.org".to_owned(),
            outgoing: outgoing.map(|host| server(host, 587, "starttls")),
            incoming: incoming.map(|host| server(host, 993, "tls")),
            why: "DNS is silent".to_owned(),
            ..Servers::default()
        };
        let address = Some("anna@example.org".to_owned());
        let mut arguments = AddArguments { address, ..others };
        match arguments.find_servers(|_| servers) {
            Ok(_) => Ok(arguments),
            Err(error) => Err(error.to_string()),
        }
    }

    fn without_imap() -> AddArguments {
        AddArguments { no_imap: true, ..AddArguments::default() }
    }

    #[test]
    fn servers_become_options() {
        let got =
            found(AddArguments::default(), Some("smtp.example.org"), Some("imap.example.org"));
        let expected = AddArguments {
            address: Some("anna@example.org".into()),
            host: Some("smtp.example.org".into()),
            port: Some(587),
            security: Some("starttls".into()),
            username: Some("anna@example.org".into()),
            imap_host: Some("imap.example.org".into()),
            imap_port: Some(993),
            imap_security: Some("tls".into()),
            ..AddArguments::default()
        };
        assert_eq!(got, Ok(expected));
    }

    #[test]
    fn given_options_stay() {
        let given = AddArguments {
            port: Some(2525),
            username: Some("an".into()),
            imap_host: Some("localhost".into()),
            ..AddArguments::default()
        };
        let got = found(given.clone(), Some("smtp.example.org"), Some("imap.example.org"));
        let expected = AddArguments {
            address: Some("anna@example.org".into()),
            host: Some("smtp.example.org".into()),
            ..given
        };
        assert_eq!(got, Ok(expected));
        let got = found(without_imap(), Some("smtp.example.org"), Some("imap.example.org"));
        assert_eq!(got.map(|got| got.imap_host), Ok(None));
    }

    #[test]
    fn a_server_in_another_domain_must_be_named() {
        let error = found(AddArguments::default(), Some("smtp.example.net"), Some("example.net"));
        let options = "say --host smtp.example.net --port 587 --security starttls \
                       --imap-host example.net --imap-port 993 --imap-security tls";
        assert!(error.as_ref().is_err_and(|error| error.contains(options)), "{error:?}");
        let error = found(AddArguments::default(), Some("smtp.example.org"), Some("example.net"));
        let options = "say --imap-host example.net --imap-port 993 --imap-security tls";
        assert!(error.as_ref().is_err_and(|error| error.contains(options)), "{error:?}");
        // It is not used.
        assert!(found(without_imap(), Some("smtp.example.org"), Some("example.net")).is_ok());
    }

    #[test]
    fn a_server_that_is_not_found_must_be_named() {
        let missing = |others, outgoing, incoming| {
            found(others, outgoing, incoming).map(drop).expect_err("a server is missing")
        };
        let smtp = Some("smtp.example.org");
        let cases = [
            (
                missing(AddArguments::default(), None, None),
                "no servers of anna@example.org found: DNS is silent; say --host and --imap-host, or --host and \
                 --no-imap to send only",
            ),
            (
                missing(AddArguments::default(), smtp, None),
                "no server for incoming mail of anna@example.org found: DNS is silent; say --imap-host, or --no-imap \
                 to send only",
            ),
            (
                missing(without_imap(), None, Some("imap.example.org")),
                "no server for outgoing mail of anna@example.org found: DNS is silent; say --host",
            ),
        ];
        for (error, words) in cases {
            assert!(error.contains(words), "{error}");
        }
    }
}
