//! Which servers are found for an address.

use super::*;

fn record(port: u16, target: &str) -> Record {
    Record { priority: 0, weight: 0, port, target: target.to_owned() }
}

/// The servers that are found if DNS has these records.
fn found(address: &str, zone: &[(&str, Record)]) -> Servers {
    find(address, |name| {
        let records = zone.iter().filter(|(owner, _)| *owner == name);
        Ok(records.map(|(_, record)| record.clone()).collect())
    })
}

fn place(server: Option<&Server>) -> String {
    server.map_or_else(|| "none".to_owned(), Server::place)
}

fn places(servers: &Servers) -> [String; 2] {
    [place(servers.outgoing.as_ref()), place(servers.incoming.as_ref())]
}

#[test]
fn a_known_service_is_not_looked_for_in_dns() {
    let servers = find("anna@gmail.com", |_| panic!("DNS is not asked"));
    assert_eq!(places(&servers), ["smtp.gmail.com:465 (tls)", "imap.gmail.com:993 (tls)"]);
    assert!(servers.source == "Gmail" && servers.hint.is_some_and(|hint| hint.contains("app")));
    let servers = find("anna@Outlook.com", |_| panic!("DNS is not asked"));
    assert_eq!(place(servers.outgoing.as_ref()), "smtp-mail.outlook.com:587 (starttls)");
    assert_eq!(servers.auth, Some("xoauth2"));
    let servers = find("anna@icloud.com", |_| panic!("DNS is not asked"));
    let user = |server: Option<Server>| server.map(|server| server.username);
    assert_eq!(user(servers.outgoing), Some(None));
    assert_eq!(user(servers.incoming), Some(Some("anna".to_owned())));
    let servers = find("anna@proton.me", |_| panic!("DNS is not asked"));
    assert!(places(&servers) == ["none", "none"] && servers.why.contains("Bridge"));
}

#[test]
fn tls_from_the_first_byte_is_preferred() {
    let both = [
        ("_imap._tcp.example.org", record(143, "imap.example.org")),
        ("_imaps._tcp.example.org", record(993, "imap.example.org")),
        ("_submission._tcp.example.org", record(587, "smtp.example.org")),
        ("_submissions._tcp.example.org", record(465, "smtp.example.org")),
    ];
    let servers = found("anna@example.org", &both);
    assert_eq!(places(&servers), ["smtp.example.org:465 (tls)", "imap.example.org:993 (tls)"]);
    let one = [both[0].clone(), both[2].clone()];
    let servers = found("anna@example.org", &one);
    let expected = ["smtp.example.org:587 (starttls)", "imap.example.org:143 (starttls)"];
    assert_eq!(places(&servers), expected);
}

#[test]
fn a_service_that_is_not_offered_is_left_out() {
    let zone = [
        ("_imaps._tcp.example.org", record(0, "")),
        ("_imap._tcp.example.org", record(143, "imap.example.org")),
        ("_submissions._tcp.example.org", record(0, "")),
    ];
    let servers = found("anna@example.org", &zone);
    assert_eq!(places(&servers), ["none", "imap.example.org:143 (starttls)"]);
    assert_eq!(servers.why, "DNS names none for example.org");
    assert_eq!(places(&found("anna@example.org", &[])), ["none", "none"]);
    // A name that no host has.
    let zone = [("_imaps._tcp.example.org", record(993, "a b"))];
    assert_eq!(places(&found("anna@example.org", &zone)), ["none", "none"]);
}

#[test]
fn a_host_in_another_domain_is_not_trusted() {
    let foreign = |host| {
        let servers = found("anna@Example.org", &[("_imaps._tcp.Example.org", record(993, host))]);
        servers.incoming.is_some_and(|server| server.is_foreign)
    };
    assert!(!foreign("example.ORG") && !foreign("imap.a.example.org"));
    assert!(foreign("imap.example.net") && foreign("notexample.org") && foreign("org"));
}

#[test]
fn other_letters_are_looked_for_in_their_ascii_form() {
    let zone = [("_imaps._tcp.xn--bcher-kva.example", record(993, "imap.xn--bcher-kva.example"))];
    let servers = found("anna@bücher.example", &zone);
    assert!(servers.incoming.is_some_and(|server| !server.is_foreign));
}

#[test]
fn why_dns_does_not_answer_is_known() {
    let servers = find("anna@example.org", |_| Err("the nameserver does not answer".to_owned()));
    assert_eq!(places(&servers), ["none", "none"]);
    assert_eq!(servers.why, "the nameserver does not answer");
    // One service that is offered is enough.
    let servers = find("anna@example.org", |name| match name {
        "_imap._tcp.example.org" => Ok(vec![record(143, "imap.example.org")]),
        _ => Err("the nameserver does not answer".to_owned()),
    });
    assert_eq!(places(&servers), ["none", "imap.example.org:143 (starttls)"]);
}
