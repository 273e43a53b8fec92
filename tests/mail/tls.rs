//! Protected and authenticated: a real server with certificates made here, good ones and bad ones.

use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::harness::Home;
use crate::queue::{RETRIES, transport};
use crate::servers::{Postfix, installed};

/// A CA, which nobody knows who is not told.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    /// A new one, whose certificate is in the home as `ca.pem`.
    fn new(home: &Home) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "a CA of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        home.write("ca.pem", issuer.pem());
        Self(issuer)
    }

    /// Makes a server's key and certificate; gives back the settings of Postfix that name them.
    fn certify(&self, home: &Home, file: &str, name: &str, last_year: Option<i32>) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        if let Some(year) = last_year {
            params.not_before = date_time_ymd(year - 1, 1, 1);
            params.not_after = date_time_ymd(year, 12, 31);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let certificate = home.write(&format!("{file}.pem"), certificate.pem());
        let key = home.write(&format!("{file}.key"), key.serialize_pem());
        format!(
            "-o smtpd_tls_cert_file={} -o smtpd_tls_key_file={}",
            certificate.display(),
            key.display()
        )
    }
}

/// The settings of a server with users and passwords, which takes mail from nobody else.
const USERS: &str = "\
smtpd_sasl_auth_enable = yes
smtpd_tls_auth_only = yes
smtpd_tls_received_header = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject
";

const STARTTLS: &str = "-o smtpd_tls_security_level=may";
const WRAPPED: &str = "-o smtpd_tls_wrappermode=yes -o smtpd_tls_security_level=encrypt";

/// A certificate counts if a CA that is trusted made it, for this name, and for today; otherwise nothing is sent, not in
/// the clear either, and the mail waits with the reason. The same with STARTTLS and with TLS from the first byte.
///
/// design §6, §3.18
#[test]
fn mail_goes_only_to_who_can_prove_the_name() {
    if !Postfix::installed() {
        return;
    }
    let home = Home::new();
    let ca = Ca::new(&home);
    let good = ca.certify(&home, "good", "localhost", None);
    let expired = ca.certify(&home, "expired", "localhost", Some(2020));
    let other = ca.certify(&home, "other", "elsewhere.test", None);
    let words = [&good, &expired, &other]
        .into_iter()
        .flat_map(|certificate| [STARTTLS, WRAPPED].map(|how| format!("{how} {certificate}")));
    let words: Vec<_> = words.chain(["-o smtpd_tls_security_level=none".to_owned()]).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let postfix = Postfix::with_services("smtpd_tls_received_header = yes\n", &words);
    let [good, good_tls, expired, expired_tls, other, other_tls, open] = postfix.ports()[..] else {
        panic!("seven ports")
    };
    let trusted = format!("ca_file = \"{}\"\n", home.path("ca.pem").display());
    // The port, how it is used, whether the CA is known, and what is wrong if anything is.
    let cases: &[(u16, &str, bool, Option<&str>)] = &[
        (good, "starttls", true, None),
        (good_tls, "tls", true, None),
        (good, "starttls", false, Some("certificate")),
        (good_tls, "tls", false, Some("certificate")),
        (expired, "starttls", true, Some("expired")),
        (expired_tls, "tls", true, Some("expired")),
        (other, "starttls", true, Some("elsewhere.test")),
        (other_tls, "tls", true, Some("elsewhere.test")),
        (open, "starttls", true, Some("STARTTLS")),
        (open, "tls", true, Some("TLS")),
        (good_tls, "starttls", true, Some("")),
    ];
    let broker = home.serve();
    let mut shell = home.shell();
    let mut entries = Vec::new();
    for (number, (port, security, known, _)) in cases.iter().enumerate() {
        let more = format!("host = \"localhost\"\nsecurity = \"{security}\"\n");
        let more = if *known { more + &trusted } else { more };
        let profile = format!("case{number}");
        home.profile(&profile, &format!("{}{RETRIES}", transport(*port, &more)));
        let session = shell.ok(&format!("logon profile={profile}"))["session"].as_u64();
        let text = format!("From: me@home.test\nTo: user1@test\nSubject: {profile}\n\nbody\n");
        let file = home.write(&format!("{profile}.eml"), text);
        entries.push(shell.submit(session.expect("a number"), &file));
    }
    for ((port, security, _, wrong), entry) in cases.iter().zip(&entries) {
        let Some(wrong) = wrong else {
            home.rows_until("it is sent", |rows| {
                rows.iter().any(|row| row["entry"] == **entry && row["state"] == "sent")
            });
            continue;
        };
        let rows = home.rows_until("a reason", |rows| {
            rows.iter().any(|row| row["entry"] == **entry && row["last_error"].is_string())
        });
        let row = rows.iter().find(|row| row["entry"] == **entry).expect("it is there");
        assert_ne!(row["state"], "sent", "{security} {port}: {row:#}");
        assert_ne!(row["state"], "bounced", "{security} {port}: {row:#}");
        let error = row["last_error"].as_str().expect("text");
        assert!(error.contains(wrong), "{security}: no {wrong:?} in {error:?}");
    }
    postfix.log(2, "status=sent");
    let delivered = postfix.mailbox("user1").messages();
    let mut subjects: Vec<_> = delivered.iter().flat_map(|m| m.field("Subject")).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["case0", "case1"]);
    for message in &delivered {
        assert!(message.text.contains("using TLSv1.3"), "{}", message.text);
    }
    let log = broker.log();
    let of = |event: &str, profile: &str| {
        let fits = |l: &&serde_json::Value| l["event"] == event && l["profile"] == profile;
        log.iter().filter(fits).map(|l| l["level"].as_str().expect("text")).collect::<Vec<_>>()
    };
    for (number, (.., wrong)) in cases.iter().enumerate() {
        let warned = of("transport-unreachable", &format!("case{number}"));
        let wanted: &[&str] = if wrong.is_some() { &["warn"] } else { &[] };
        assert_eq!(warned, wanted, "case {number} is one warning if anything is wrong");
    }
    assert!(!log.iter().any(|line| line["event"] == "refused"), "nobody was refused anything");
    drop(broker);
}

/// A password that the server refuses twice puts the transport out of use, and `status` says so; the mail waits. When the
/// password is right and somebody asks for the queue, it goes out. The password is nowhere to be seen.
///
/// QUEUE-11, design §3.18, §6
#[test]
fn mail_waits_for_the_right_password() {
    if !Postfix::installed() || !installed("saslpasswd2") {
        return;
    }
    let home = Home::new();
    let certificate = Ca::new(&home).certify(&home, "good", "localhost", None);
    let postfix = Postfix::with_services(USERS, &[&format!("{STARTTLS} {certificate}")]);
    postfix.user("anna", "correct-horse");
    let password = home.write("password", "battery-staple\n");
    std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).expect("changed");
    home.sends_to(
        postfix.port(),
        &format!(
            "host = \"localhost\"\nsecurity = \"starttls\"\nca_file = \"{}\"\nusername = \"anna@test\"\n\
             password_file = \"{}\"\n",
            home.path("ca.pem").display(),
            password.display()
        ),
    );
    let broker = home.serve();
    let mut shell = home.shell();
    shell.ok("logon");
    let text = "From: me@home.test\nTo: user1@test\nSubject: patient\n\nbody\n";
    let entry = shell.submit(1, &home.write("patient.eml", text));
    let status = home.status_until("the transport is out of use", |status| {
        let providers = status["sessions"][0]["providers"].as_array().expect("rows");
        let smtp = providers.iter().find(|p| p["kind"] == "transport").expect("it is there");
        smtp["status"].as_str().is_some_and(|text| text.starts_with("failed"))
    });
    let refused = postfix.log(2, "authentication failed");
    assert_eq!(refused.len(), 2, "not more often than twice: {refused:?}");
    let row = home.queue(&["show", &entry]);
    assert!(["queued", "deferred"].contains(&row["state"].as_str().expect("text")), "{row:#}");
    let check = home.run(&["--json", "profile", "check", "default"]).exits(1);
    home.write("password", "correct-horse\n");
    home.run(&["queue", "flush"]).ok();
    home.entry_until(&entry, "sent");
    let status_now = home.status();
    postfix.log(1, "sasl_username=anna@test");
    postfix.log(1, "status=sent");
    assert_eq!(postfix.mailbox("user1").only().field("Subject"), ["patient"]);
    let shown = home.run(&["--json", "profile", "show", "default"]).ok();
    let log = broker.log().iter().map(ToString::to_string).collect::<String>();
    let seen = [status.to_string(), status_now.to_string(), row.to_string(), log, shown.output];
    for text in seen.iter().chain([&check.output, &check.errors]) {
        assert!(!text.contains("battery-staple") && !text.contains("correct-horse"), "{text}");
    }
}

/// Each way to log on works with a real server.
///
/// design §6
#[test]
fn each_way_to_log_on_works() {
    if !Postfix::installed() || !installed("saslpasswd2") {
        return;
    }
    let home = Home::new();
    let certificate = Ca::new(&home).certify(&home, "good", "localhost", None);
    let words = [STARTTLS, WRAPPED].map(|how| format!("{how} {certificate}"));
    let postfix = Postfix::with_services(USERS, &[&words[0], &words[1]]);
    postfix.user("anna", "p\u{e4}ss w\u{f6}rd");
    let broker = home.serve();
    let mut shell = home.shell();
    let common = format!(
        "host = \"localhost\"\nca_file = \"{}\"\nusername = \"anna@test\"\n\
         password_command = \"printf 'p\u{e4}ss w\u{f6}rd\\\\nmore\\\\n'\"\n",
        home.path("ca.pem").display()
    );
    let ways = [
        ("starttls", 0, "plain"),
        ("starttls", 0, "login"),
        ("starttls", 0, "scram-sha-256"),
        ("starttls", 0, "scram-sha-1"),
        ("tls", 1, "plain"),
    ];
    for (number, (security, service, auth)) in ways.iter().enumerate() {
        let profile = format!("way{number}");
        let more = format!("{common}security = \"{security}\"\nauth = \"{auth}\"\n");
        let port = postfix.ports()[*service];
        home.profile(&profile, &format!("{}{RETRIES}", transport(port, &more)));
        home.run(&["profile", "check", &profile]).ok();
        let session = shell.ok(&format!("logon profile={profile}"))["session"].as_u64();
        let text = format!("From: me@home.test\nTo: user1@test\nSubject: {profile}\n\nbody\n");
        let file = home.write(&format!("{profile}.eml"), text);
        let session = session.expect("a number");
        shell.submit(session, &file);
        assert_eq!(shell.ok(&format!("logoff session={session} drain=60"))["queued"], 0);
    }
    postfix.log(ways.len(), "status=sent");
    assert_eq!(postfix.mailbox("user1").count(), ways.len());
    drop(broker);
}
