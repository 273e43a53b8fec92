//! The envelope as a server takes it: addresses in the form it knows, and what is asked of it.

use lettre::transport::smtp::extension::{
    Extension, MailBodyParameter, MailParameter, RcptParameter,
};
use sundown_core::provider::{Outcome, RecipientResult, Transmission};
use sundown_mail::address::{domain_to_ascii, to_ascii};
use sundown_protocol::request::{Notify, Report, Returned};

use super::body::{Characters, Survey};
use super::connection::{Connection, Offer};

/// The commands of a transaction up to DATA.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// `MAIL FROM`, with its line end.
    pub(super) mail: String,
    /// `RCPT TO`, with its line end, for each recipient's place in the submission.
    pub(super) recipients: Vec<(usize, String)>,
    /// Recipients that cannot even be named to this server.
    pub(super) refused: Vec<RecipientResult>,
}

/// Words for why a server is not even asked. They begin with an enhanced status and never with a reply code: no server has said them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) String);

impl Envelope {
    /// Makes the commands, or says why this server cannot take the message.
    pub(super) fn new(
        connection: &Connection,
        (transmission, sender): (&Transmission, &str),
        survey: &Survey,
    ) -> Result<Self, Unfit> {
        let (offer, place) = (&connection.offer, connection.place());
        fits(offer, place, survey)?;
        let sender = on_wire(sender, offer, place)?;
        let (mut named, mut refused) = (Vec::new(), Vec::new());
        for (recipient, address) in &transmission.recipients {
            match on_wire(address, offer, place) {
                Ok(address) => named.push((*recipient, address)),
                Err(Unfit(reply)) => {
                    let (recipient, outcome) = (*recipient, Outcome::Failed);
                    refused.push(RecipientResult { recipient, outcome, reply });
                }
            }
        }
        let international = survey.head == Characters::Others
            || named.iter().map(|(_, a)| a).chain([&sender]).any(|address| !address.is_ascii());
        let mut mail = format!("MAIL FROM:<{sender}>");
        for parameter in parameters(offer, survey, international, transmission.report) {
            mail += &format!(" {parameter}");
        }
        mail += "\r\n";
        let notify = notify(offer, transmission.report);
        let rcpt = |(recipient, address)| (recipient, format!("RCPT TO:<{address}>{notify}\r\n"));
        Ok(Self { mail, recipients: named.into_iter().map(rcpt).collect(), refused })
    }
}

fn fits(offer: &Offer, place: &str, survey: &Survey) -> Result<(), Unfit> {
    let n = survey.size;
    if let Some(most) = offer.size().filter(|most| n > *most) {
        let text = format!("5.3.4 the message has {n} bytes, {place} takes at most {most}");
        return Err(Unfit(text));
    }
    Ok(())
}

fn parameters(
    offer: &Offer,
    survey: &Survey,
    international: bool,
    report: Report,
) -> Vec<MailParameter> {
    let mut parameters = Vec::new();
    if offer.has("SIZE") {
        parameters.push(MailParameter::Size(survey.size as usize));
    }
    // What is signed goes as it is also where that is not offered.
    if survey.whole == Characters::Others && offer.supports(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    if international && offer.supports(Extension::SmtpUtfEight) {
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if offer.has("DSN") {
        let value = match report.returned {
            Returned::Headers => "HDRS",
            Returned::Full => "FULL",
        };
        let (keyword, value) = ("RET".to_owned(), Some(value.to_owned()));
        parameters.push(MailParameter::Other { keyword, value });
    }
    parameters
}

/// What follows a recipient.
fn notify(offer: &Offer, report: Report) -> String {
    if !offer.has("DSN") {
        return String::new();
    }
    let all =
        [(Notify::SUCCESS, "SUCCESS"), (Notify::FAILURE, "FAILURE"), (Notify::DELAY, "DELAY")];
    let asked = all.iter().filter(|(when, _)| report.notify.contains(*when));
    let asked: Vec<_> = asked.map(|(_, word)| *word).collect();
    let value = if asked.is_empty() { "NEVER".to_owned() } else { asked.join(",") };
    let (keyword, value) = ("NOTIFY".to_owned(), Some(value));
    format!(" {}", RcptParameter::Other { keyword, value })
}

/// An address as it goes over the wire. A domain goes in its ASCII form wherever that is enough: the next server may
/// know less than this one.
fn on_wire(address: &str, offer: &Offer, place: &str) -> Result<String, Unfit> {
    // Quoted, a mailbox may have them; servers that do not mind quotes would find the end of the path there.
    if address.contains(|c: char| c.is_control() || c == '<' || c == '>') {
        return Err(Unfit("5.1.3 the address has a character that SMTP cannot carry".to_owned()));
    }
    if address.is_ascii() {
        // The dot that may end a domain is no part of it in SMTP.
        return Ok(to_ascii(address).into_owned());
    }
    if let Some((mailbox, domain)) = address.rsplit_once('@')
        && mailbox.is_ascii()
    {
        let rooted = domain.strip_suffix('.').unwrap_or(domain);
        let domain = domain_to_ascii(rooted).ok_or_else(|| {
            Unfit(format!("5.1.2 {domain} is no domain that can be written in ASCII"))
        })?;
        return Ok(format!("{mailbox}@{domain}"));
    }
    if offer.supports(Extension::SmtpUtfEight) {
        return Ok(address.to_owned());
    }
    Err(Unfit(format!("5.6.7 {place} does not take addresses beyond ASCII (SMTPUTF8)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers find the end of a path, and parameters behind it, where they see a `>`.
    #[test]
    fn a_quoted_mailbox_ends_no_path() {
        for address in ["\"a> NOTIFY=NEVER\"@b", "\"<\"@b", "a\r\nDATA@b"] {
            let refused = on_wire(address, &Offer::default(), "there");
            assert!(refused.is_err_and(|why| why.0.starts_with("5.1.3 ")), "{address}");
        }
        let quoted = "\"a b@c\"@d";
        assert_eq!(on_wire(quoted, &Offer::default(), "there"), Ok(quoted.to_owned()));
        for (rooted, written) in [
            ("a@example.org.", "a@example.org"),
            ("a@b\u{fc}cher.example.", "a@xn--bcher-kva.example"),
            ("\"a@b.\"@c.d", "\"a@b.\"@c.d"),
            ("a", "a"),
        ] {
            assert_eq!(on_wire(rooted, &Offer::default(), "there"), Ok(written.to_owned()));
        }
    }

    /// What a domain is mapped to must be a domain: some characters beyond ASCII stand for those that end an address.
    #[test]
    fn a_mapped_domain_adds_nothing_to_a_command() {
        for domain in ["ex\u{ff1e}\u{3000}NOTIFY\u{ff1d}never", "x\u{ff1c}", "a\u{ff20}b"] {
            let offer = Offer::default();
            assert!(on_wire(&format!("a@{domain}"), &offer, "there").is_err(), "{domain}");
        }
        assert_eq!(
            on_wire("a@b\u{fc}cher.example", &Offer::default(), "there"),
            Ok("a@xn--bcher-kva.example".into())
        );
    }
}
