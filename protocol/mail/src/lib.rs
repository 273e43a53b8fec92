//! Heads of messages and mail addresses.
//!
//! A message is handed over by the client library or `sundown sendmail`, stored, and sent by a transport. All of them read its
//! head: the client takes recipients from `To`, `Cc` and `Bcc`, the store adds fields that are missing, the transport
//! removes `Bcc`. They must see the same fields. A `Bcc` that only the client sees names a recipient to all the others. So
//! there is one scanner, [`head`], one filter that uses it, [`bcc`], one reader of address lists, [`list`], and one
//! validator of addresses, [`address`].
//!
//! Nothing here reads or writes anything but memory.
//!
//! ```
//! use sundown_mail::head::Fields;
//! use sundown_mail::{address, addresses, bcc};
//!
//! let message = b"To: Anna <anna@example.org>\nBCC : bo@example.org,\n cleo\n\nBcc: is a word here\n";
//! let named: Vec<_> = Fields::of(message).flat_map(|field| addresses(field.value())).collect();
//! assert_eq!(named, ["anna@example.org", "bo@example.org", "cleo"]);
//! assert!(named.iter().all(|found| address::split(found).is_ok()));
//! assert_eq!(bcc::without(message), b"To: Anna <anna@example.org>\n\nBcc: is a word here\n");
//! ```
//!
//! # What is decided
//!
//! RFC 5321 (SMTP), RFC 5322 (messages) and RFC 6532 (UTF-8 in heads) say what a program may write. What people and programs do write
//! is more than that, and a message that is stored is never changed to fit; on its way to a server that does not take it otherwise it is
//! converted ([`transfer`]). Where several readings are possible, this is the one:
//!
//! | of | reading | why |
//! |---|---|---|
//! | the line end of a message | that of its first line. Without any it is LF | RFC 5322 knows CRLF alone, which is for the wire. Programs on Unix write LF, and a transport converts |
//! | an empty line | LF or CRLF at the beginning of a line, and no blank | RFC 5322, 2.1. A line of blanks continues a field |
//! | a CR without LF | is a byte like any other, but for [`bcc`] | RFC 5322, 2.2 forbids it. A CR that began a field would let a value name recipients |
//! | a message without a head | its first line is no field and not empty | programs pipe text into `sendmail`. RFC 5322 has no word for it |
//! | a line in a head that is no field | it ends the head, and is the first line of the body. What goes out has an empty line in front of it | so do Sendmail, Postfix and Exim: a text behind a forgotten empty line is not searched for recipients, and not cut. With the empty line every reader sees the same end, so that no `Bcc` is left in a head |
//! | a field's name | bytes from 33 to 126 but the colon, at most 998 of them with the blanks behind it, in any case | RFC 5322, 2.2 and 2.1.1, which allows no longer line. What it takes to tell a field from text stays bounded |
//! | blanks in front of the colon | belong to neither name nor value | RFC 5322, 4.5 (obsolete, and written) |
//! | `Bcc` and more than 998 bytes of blanks | a hidden field, whatever follows | a transport cannot look further ahead, and may not let it pass |
//! | a value | any bytes, NUL and what is no UTF-8 too, lines of any length | RFC 5322, 2.1.1 asks receivers to take what they get; RFC 6532 allows UTF-8 |
//! | what hides recipients | `Bcc` and `Resent-Bcc` | RFC 5322, 3.6.3 and 3.6.6 |
//! | an address without a domain | a user of this host | `sendmail root` |
//! | the length of an address | at most 320 bytes in all, 255 for the domain | RFC 5321, 4.5.3.1: 64, an `@`, 255. Longer mailboxes are common in return paths, and are no reason to refuse |
//! | a mailbox | no blank, control character or `()<>[]:;,@"\` outside quotes; any dots | RFC 5321, 4.1.2, but for dots: mailboxes with two in a row exist |
//! | a quoted mailbox | no control character, every quote in it escaped; without a domain not empty | RFC 5321, 4.1.2 |
//! | `<` and `>` in a quoted mailbox | an address, but no server is asked to take it | RFC 5321, 4.1.2 allows them; a server that looks for `>` without minding quotes would find an end of the path, and parameters behind it |
//! | characters beyond ASCII | in mailbox and domain, but no blank and no control character | RFC 6531 and 6532 |
//! | a domain | labels of letters, digits, `-` and `_`, no `-` at an end of one; a dot may end it | RFC 5321, 4.1.2; names with `_` exist, and DNS ends a full name with a dot |
//! | a domain literal | letters, digits, dots, colons and hyphens in brackets, at least one | RFC 5321, 4.1.3 |
//! | what is written here | ASCII in lines of at most 76 bytes: encoded words in fields, quoted-printable or base64 in bodies, whichever is shorter. Only a mailbox that is not ASCII stays as it is | RFC 5322, 2045, 2047; no server must be asked whether it takes more |
//! | a text that is no UTF-8 | has the charset `unknown-8bit` | RFC 1428: it is not guessed what was meant |
//! | the name of an attachment | in UTF-8 by RFC 2231, in pieces where it is long | RFC 2183; RFC 2047 forbids encoded words there |
//! | an address list | groups, comments, quotes, routes and folds of RFC 5322, 3.4 and 4.4. What is no address is given back as it stands | nothing that was written is left out in silence |
//!
//! # Why not a library
//!
//! `mail-parser`, which shows fields to people here, needs the message as a whole, repairs what it reads, and passes over an address that
//! it cannot read. `email_address` and `addr` know addresses alone, and none without a domain. Scanning a stream that keeps every
//! byte, and a list that loses no recipient, are a few hundred lines.

#![forbid(unsafe_code)]

pub mod address;
pub mod author;
pub mod bcc;
#[cfg(feature = "compose")]
pub mod compose;
#[cfg(feature = "compose")]
pub mod encoding;
pub mod head;
pub mod list;
pub mod name;
pub mod status;
#[cfg(feature = "idn")]
pub mod transfer;

pub use list::addresses;
