//! The form in which a server takes a message: as it is, or converted on its way.
//!
//! What is stored never changes. A message that fits every server, which nearly all do, is read no more often for it.

use std::io::{self, Read};

use lettre::transport::smtp::extension::Extension;
use sundown_mail::transfer::{Beyond, Bodies, Converter, Facts, Head, Scanner, Sealed, Wanted};

use super::author::Fields;
use super::body::{Characters, Lines, PIECE, Survey};
use super::connection::Offer;
use crate::files::read;

/// The form of one message for one server: as it is stored, but for these.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// Fields of its head that name other authors.
    pub(super) authors: Option<Fields>,
    /// What it is converted to.
    pub(super) conversion: Option<(Facts, Wanted)>,
}

impl Form {
    /// Does something with a message as it goes out.
    pub(super) fn with<T>(
        &self,
        message: &mut dyn Read,
        use_it: impl FnOnce(&mut dyn Read) -> T,
    ) -> T {
        let mut message: Box<dyn Read + '_> = match &self.authors {
            Some(fields) => fields.of(message),
            None => Box::new(message),
        };
        match &self.conversion {
            None => use_it(&mut message),
            Some((facts, wanted)) => {
                let converter = Converter::new(facts.clone(), *wanted);
                use_it(&mut Converted::new(&mut message, converter))
            }
        }
    }
}

/// What a server takes.
pub(super) fn wanted(offer: &Offer) -> Wanted {
    let (eight, utf8) = (Extension::EightBitMime, Extension::SmtpUtfEight);
    Wanted {
        bodies: if offer.supports(eight) { Bodies::EightBit } else { Bodies::SevenBit },
        head: if offer.supports(utf8) { Head::Utf8 } else { Head::Ascii },
    }
}

/// Whether it must be looked at more closely what is in a message before that server gets it.
pub(super) fn is_in_question(survey: &Survey, wanted: Wanted) -> bool {
    survey.lines == Lines::Long
        || survey.head == Characters::Others
        || survey.whole == Characters::Others && wanted.bodies == Bodies::SevenBit
}

/// Looks at a message more closely.
pub(super) fn facts(message: &mut dyn Read) -> io::Result<Facts> {
    let (mut scanner, mut piece) = (Scanner::default(), vec![0; PIECE]);
    loop {
        match read(message, &mut piece)? {
            0 => return Ok(scanner.finish()),
            n => scanner.feed(&piece[..n]),
        }
    }
}

/// What a message with these facts is converted to, and what is left of its survey if it is not.
pub(super) fn choose(
    facts: Facts,
    wanted: Wanted,
    place: &str,
    survey: &mut Survey,
) -> Option<(Facts, Wanted)> {
    if !facts.differs(wanted) {
        return None;
    }
    if facts.sealed != Sealed::Nothing {
        tracing::warn!(
            server = place,
            "a message has characters or lines that the server does not offer to take; it is signed or encrypted, and \
             that part of it goes out as it is"
        );
    }
    if facts.sealed == Sealed::Whole {
        if facts.head == Beyond::Other {
            // Not what SMTPUTF8 is for.
            survey.head = Characters::Ascii;
        }
        return None;
    }
    Some((facts, wanted))
}

/// A message that is converted while it is read.
struct Converted<'a> {
    message: &'a mut dyn Read,
    converter: Converter,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output was read.
    given: usize,
    is_over: bool,
}

impl<'a> Converted<'a> {
    fn new(message: &'a mut dyn Read, converter: Converter) -> Self {
        let (input, output) = (vec![0; PIECE], Vec::new());
        Self { message, converter, input, output, given: 0, is_over: false }
    }
}

impl Read for Converted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.output.len() && !self.is_over {
            self.output.clear();
            self.given = 0;
            match read(self.message, &mut self.input)? {
                0 => {
                    self.converter.finish(&mut self.output);
                    self.is_over = true;
                }
                n => self.converter.feed(&self.input[..n], &mut self.output),
            }
        }
        let left = &self.output[self.given..];
        let n = left.len().min(into.len());
        into[..n].copy_from_slice(&left[..n]);
        self.given += n;
        Ok(n)
    }
}
