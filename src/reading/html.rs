//! HTML as text: paragraphs, lists, quotations, and where each link leads.
//!
//! A pass of our own over the tags rather than a library: those that lay HTML out bring a browser's parser of some twenty crates and build a
//! tree, which a message can make as deep as it likes; that of `mail-parser` drops the addresses of links. Here a byte is looked at a fixed
//! number of times, nothing nests, and what is no tag is text. Names of characters are the library's.

use mail_parser::decoders::html::add_html_token;

use crate::safe;

/// The most characters of an address that are shown.
const ADDRESS: usize = 2_000;

/// How deep quotations are marked.
const QUOTES: usize = 8;

/// The most line ends between two words.
const LINES: usize = 3;

/// The longest name of a character, with `&` and `;`.
const NAME: usize = 34;

/// Elements whose content is not for readers.
const HIDDEN: [&str; 4] = ["script", "style", "title", "template"];

/// Elements with an empty line around them.
const PARAGRAPHS: [&str; 13] =
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "pre", "blockquote"];

/// Elements that begin and end a line.
const BLOCKS: [&str; 19] = [
    "div", "tr", "li", "dt", "dd", "section", "article", "header", "footer", "main", "nav",
    "aside", "form", "fieldset", "address", "center", "body", "figure", "caption",
];

/// The text of a document, of at most so many bytes and what the last word is longer. Whether that is all of it.
pub(super) fn text(html: &str, most: usize) -> (String, bool) {
    let mut page = Page::default();
    let mut rest = Rest { html, at: 0, has_ends: true, quotes: true };
    while page.text.len() <= most {
        let Some(piece) = rest.next() else {
            page.end_link();
            return (page.finished(), true);
        };
        page.add(piece, &mut rest);
    }
    page.end_link();
    (page.finished(), false)
}

/// The character set that a document names itself, which counts where its part names none.
pub(super) fn charset(html: &[u8]) -> Option<&str> {
    /// How much of a document browsers look at for it.
    const BEGINNING: usize = 1_024;
    const KEY: &[u8] = b"charset=";
    let begin = &html[..html.len().min(BEGINNING)];
    let at = begin.windows(KEY.len()).position(|word| word.eq_ignore_ascii_case(KEY))?;
    let value = begin[at + KEY.len()..].trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(byte);
    let end = value.iter().position(|byte| !in_name(byte)).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok().filter(|name| {
        // The name could not be read in a document that is UTF-16.
        !name.is_empty() && !name.to_ascii_lowercase().starts_with("utf-16")
    })
}

/// What a document is made of.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    /// `&amp;`
    Name(&'a str),
    Begin(&'a str, &'a str),
    End(&'a str),
}

/// What is left of a document.
struct Rest<'a> {
    html: &'a str,
    at: usize,
    /// Whether a `>` is left. Without it no tag ends, and everything is text.
    has_ends: bool,
    /// Whether quotation marks in tags come in pairs. If one does not, later ones mean nothing.
    quotes: bool,
}

impl<'a> Rest<'a> {
    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let rest = &self.html[self.at..];
            let first = rest.chars().next()?;
            if first == '&'
                && let Some(name) = character(rest)
            {
                self.at += name.len();
                return Some(Piece::Name(name));
            }
            if first == '<' && self.has_ends {
                if self.skip_comment(rest) {
                    continue;
                }
                if let Some(tag) = self.tag(rest) {
                    return Some(tag);
                }
            }
            let begin = first.len_utf8();
            let end = rest[begin..].find(['<', '&']).map_or(rest.len(), |end| begin + end);
            self.at += end;
            return Some(Piece::Text(&rest[..end]));
        }
    }

    /// Passes over a comment, a declaration or an instruction. A comment that does not end hides the rest, as in a browser.
    fn skip_comment(&mut self, rest: &str) -> bool {
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map_or(rest.len(), |end| end + 3)
        } else if rest.starts_with("<!") || rest.starts_with("<?") {
            rest.find('>').map_or(rest.len(), |end| end + 1)
        } else {
            return false;
        };
        self.at += end;
        true
    }

    fn tag(&mut self, rest: &'a str) -> Option<Piece<'a>> {
        let inside = &rest[1..];
        let (is_end, named) = match inside.strip_prefix('/') {
            Some(named) => (true, named),
            None => (false, inside),
        };
        if !named.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let length = named.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(named.len());
        let (name, behind) = named.split_at(length);
        let end = self.end_of_tag(behind)?;
        self.at += rest.len() - behind.len() + end + 1;
        Some(if is_end { Piece::End(name) } else { Piece::Begin(name, &behind[..end]) })
    }

    /// Where the `>` of a tag stands. Each kind of search fails once at most, so all of them take linear time.
    fn end_of_tag(&mut self, behind: &str) -> Option<usize> {
        if self.quotes {
            let mut quote = None;
            for (at, byte) in behind.bytes().enumerate() {
                match (byte, quote) {
                    (b'>', None) => return Some(at),
                    (b'"' | b'\'', None) => quote = Some(byte),
                    (byte, Some(open)) if byte == open => quote = None,
                    _ => {}
                }
            }
            self.quotes = false;
        }
        let end = behind.find('>');
        self.has_ends = end.is_some();
        end
    }

    /// Passes over the content of an element, and its end.
    fn skip(&mut self, name: &str) {
        let rest = &self.html[self.at..];
        let is_end = |at: &usize| {
            let named = rest.as_bytes().get(at + 2..at + 2 + name.len());
            named.is_some_and(|named| named.eq_ignore_ascii_case(name.as_bytes()))
        };
        self.at += rest.match_indices("</").map(|(at, _)| at).find(is_end).unwrap_or(rest.len());
    }
}

/// The name of a character that a text begins with.
fn character(rest: &str) -> Option<&str> {
    let end = rest.bytes().take(NAME).position(|byte| byte == b';')?;
    let name = &rest[1..end];
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'#');
    is_name.then(|| &rest[..=end])
}

/// What a character's name means; the name itself, if it is none.
fn named(name: &str) -> String {
    let mut meaning = String::new();
    add_html_token(&mut meaning, name.as_bytes(), false);
    meaning
}

/// An attribute of a tag.
fn attribute(attributes: &str, wanted: &str) -> Option<String> {
    let mut rest = attributes.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let (value, behind) = match behind.strip_prefix('=') {
            None => ("", behind),
            Some(value) => value_of(value.trim_start()),
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(unescaped(value));
        }
        // A name that is empty, as before `==`, has a value that was passed over.
        rest = behind.trim_start();
    }
    None
}

/// The value that stands here, and what stands behind it.
fn value_of(rest: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(inside) = rest.strip_prefix(quote) {
            return inside.split_once(quote).unwrap_or((inside, ""));
        }
    }
    rest.split_at(rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len()))
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('&') {
        text += &rest[..at];
        let name = character(&rest[at..]).unwrap_or("&");
        text += &if name == "&" { "&".to_owned() } else { named(name) };
        rest = &rest[at + name.len()..];
    }
    text + rest
}

/// The text so far.
#[derive(Default)]
struct Page {
    text: String,
    /// Whether blanks stand before the next word.
    blank: bool,
    /// How many line ends stand before the next word.
    ends: usize,
    /// How many elements are open in which lines stay as they are.
    verbatim: usize,
    /// In how many quotations the next word stands, and in how many the last one.
    quotes: usize,
    quoted: usize,
    /// Where the open link leads, and where its text begins.
    link: Option<(String, usize)>,
}

impl Page {
    fn add(&mut self, piece: Piece<'_>, rest: &mut Rest<'_>) {
        match piece {
            Piece::Text(text) if self.verbatim > 0 => self.lines(text),
            Piece::Text(text) => self.words(text),
            Piece::Name(name) => self.character(&named(name)),
            Piece::End(name) => self.end(&name.to_ascii_lowercase()),
            Piece::Begin(name, attributes) => {
                let name = name.to_ascii_lowercase();
                self.begin(&name, attributes);
                if HIDDEN.contains(&&*name) {
                    rest.skip(&name);
                }
            }
        }
    }

    /// Text whose blanks and line ends are blanks.
    fn words(&mut self, text: &str) {
        let is_blank = |c: char| c.is_ascii_whitespace();
        self.blank |= text.starts_with(is_blank);
        for word in text.split(is_blank).filter(|word| !word.is_empty()) {
            self.word(word);
            self.blank = true;
        }
        self.blank =
            text.ends_with(is_blank) || (self.blank && text.trim_matches(is_blank).is_empty());
    }

    /// Text whose lines stay.
    fn lines(&mut self, text: &str) {
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.ends += 1;
            }
            let line = line.trim_end_matches('\r');
            if !line.is_empty() {
                self.word(line);
            }
        }
    }

    /// A character that was named.
    fn character(&mut self, meaning: &str) {
        for c in meaning.chars() {
            match c {
                // They say where a word may be broken or what goes together, and letters fill space with them that is not to be seen.
                '\u{ad}' | '\u{34f}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => {}
                '\u{200c}' | '\u{200d}' if !self.text.ends_with(safe::is_joining) => {}
                // It would move what is behind it to another line, where the page has none.
                '\n' | '\r' | '\u{a0}' => self.blank = true,
                c => self.word(c.encode_utf8(&mut [0; 4])),
            }
        }
    }

    /// Goes on with this, behind the blanks and line ends that were due.
    fn word(&mut self, word: &str) {
        let quotes = self.quotes.min(QUOTES);
        if self.text.is_empty() {
            self.text += &"> ".repeat(quotes);
        } else if self.ends > 0 {
            // A line that stands between belongs to both, so only to what both are in.
            for _ in 1..self.ends.min(LINES) {
                self.text.push('\n');
                self.text += "> ".repeat(quotes.min(self.quoted)).trim_end();
            }
            self.text.push('\n');
            self.text += &"> ".repeat(quotes);
        } else if self.blank {
            self.text.push(' ');
        }
        (self.blank, self.ends, self.quoted) = (false, 0, quotes);
        self.text += word;
    }

    /// The next word begins a line, behind so many line ends.
    fn line(&mut self, ends: usize) {
        self.ends = self.ends.max(ends);
        self.blank = false;
    }

    fn begin(&mut self, name: &str, attributes: &str) {
        self.around(name);
        match name {
            "br" => {
                self.ends += 1;
                self.blank = false;
            }
            "hr" => {
                self.line(1);
                self.word("----");
                self.line(1);
            }
            "li" => {
                self.word("-");
                self.blank = true;
            }
            "td" | "th" => self.blank = true,
            "pre" => self.verbatim += 1,
            "blockquote" => self.quotes += 1,
            "img" => {
                if let Some(words) =
                    attribute(attributes, "alt").filter(|words| !words.trim().is_empty())
                {
                    self.word("[");
                    self.words(words.trim());
                    self.word("]");
                }
            }
            "a" => {
                self.end_link();
                let address = attribute(attributes, "href")
                    .map(|address| address.replace(['\t', '\n', '\r'], ""));
                let address = address
                    .filter(|address| !address.trim().is_empty() && !address.starts_with('#'));
                self.link = address.map(|address| (address.trim().to_owned(), self.text.len()));
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "pre" => self.verbatim = self.verbatim.saturating_sub(1),
            "a" => self.end_link(),
            _ => {}
        }
        self.around(name);
        if name == "blockquote" {
            self.quotes = self.quotes.saturating_sub(1);
        }
    }

    /// The line ends at the beginning and the end of an element.
    fn around(&mut self, name: &str) {
        if PARAGRAPHS.contains(&name) {
            self.line(2);
        } else if BLOCKS.contains(&name) {
            self.line(1);
        }
    }

    /// Says where the link leads, unless its text does.
    fn end_link(&mut self) {
        let Some((address, begin)) = self.link.take() else { return };
        let words = self.text[begin..].trim();
        let bare = |text: &str| {
            let text = text.trim_end_matches('/').to_lowercase();
            let scheme = ["https://", "http://", "mailto:"];
            scheme.iter().find_map(|s| text.strip_prefix(s).map(str::to_owned)).unwrap_or(text)
        };
        if bare(words) == bare(&address) {
            return;
        }
        let shown: String = address.chars().take(ADDRESS).collect();
        let more = if shown.len() < address.len() { "…" } else { "" };
        let before = if words.is_empty() { "" } else { " " };
        let (ends, blank) = (self.ends, self.blank);
        if words.is_empty() {
            self.word(&format!("<{shown}{more}>"));
            return;
        }
        // Line ends that are due stand behind the address.
        self.text += &format!("{before}<{shown}{more}>");
        (self.ends, self.blank) = (ends, blank);
    }

    fn finished(self) -> String {
        let length = self.text.trim_end().len();
        let mut text = self.text;
        text.truncate(length);
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn shown(html: &str) -> String {
        let (text, is_all) = text(html, usize::MAX);
        assert!(is_all);
        text
    }

    #[test]
    fn a_page_becomes_paragraphs() {
        let page = "<!DOCTYPE html><html><head><title>No</title><style>p { x: '</p>' }</style></head>\n\
                    <body><h1>Hello &amp; welcome</h1><p>One\n two <b>th</b>ree.<p>Four<br>five\n\
                    <ul><li>a</li><li>b <i>c</i></li></ul><!-- <p>no -->\n\
                    <table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>\
                    <pre>x  y\n  z</pre><hr>end<script>alert('<p>')</script></body></html>";
        let wanted = "Hello & welcome\n\nOne two three.\n\nFour\nfive\n\n- a\n- b c\n\n1 2\n3\n\nx  y\n  z\n\n----\nend\n";
        assert_eq!(shown(page), wanted);
    }

    #[test]
    fn links_say_where_they_lead() {
        for (html, wanted) in [
            ("<a href=\"https://x.org/?a=1&amp;b\">here</a>!", "here <https://x.org/?a=1&b>!\n"),
            (
                "<A HREF='https://evil.example'>https://bank.example</A>",
                "https://bank.example <https://evil.example>\n",
            ),
            ("<a href=https://x.org/>x.org</a>", "x.org\n"),
            ("<a href=\"mailto:bo@x.org\">bo@x.org</a>", "bo@x.org\n"),
            ("<a href=\"https://x.org\"><img src=y alt=Logo></a>", "[Logo] <https://x.org>\n"),
            ("<a href=\"https://x.org\"><img src=y></a>", "<https://x.org>\n"),
            ("<a href=\"#top\">up</a> <a name=x>y</a>", "up y\n"),
            ("<a title=\"href=no\" href=\"java\nscript:x\">z", "z <javascript:x>\n"),
            (
                "<p><a href=\"https://x.org\">one<p>two</a><p>three",
                "one\n\ntwo <https://x.org>\n\nthree\n",
            ),
            ("<a href=a>b <a href=c>d</a>", "b <a> d <c>\n"),
        ] {
            assert_eq!(shown(html), wanted, "{html}");
        }
        let long = shown(&format!("<a href=\"data:{}\">x</a>", "y".repeat(100_000)));
        assert_eq!(long.chars().count(), "x <…>\n".len() - 2 + ADDRESS);
    }

    #[test]
    fn quotations_are_marked() {
        let html = "He wrote:<blockquote><p>one</p><p>two</p><blockquote>three</blockquote></blockquote>four";
        assert_eq!(shown(html), "He wrote:\n\n> one\n>\n> two\n>\n> > three\n\nfour\n");
    }

    #[test]
    fn what_is_no_tag_is_text() {
        for (html, wanted) in [
            ("1 < 2 && 3 > 2 &unknown; &#x41;&#66;&lt;b&gt;", "1 < 2 && 3 > 2 &unknown; AB<b>\n"),
            ("a <b", "a <b\n"),
            ("x <a href=\"y>z</a> w", "x z <y> w\n"),
            ("a&nbsp;&nbsp;b&#8203;&shy;c&zwnj;&#847; d", "a bc d\n"),
            ("می&zwnj;خواهم", "می\u{200c}خواهم\n"),
            ("a<!-- b", "a\n"),
            ("", ""),
        ] {
            assert_eq!(shown(html), wanted, "{html}");
        }
    }

    #[test]
    fn a_page_may_name_its_character_set() {
        for (html, named) in [
            ("<meta charset=\"koi8-r\">", Some("koi8-r")),
            (
                "<META http-equiv=Content-Type content=\"text/html; Charset= GB2312\">",
                Some("GB2312"),
            ),
            ("<meta charset=>", None),
            ("<meta charset=utf-16le>", None),
            ("<p>none", None),
        ] {
            assert_eq!(charset(html.as_bytes()), named, "{html}");
        }
        assert_eq!(charset(format!("{}charset=x", " ".repeat(2_000)).as_bytes()), None);
    }

    #[test]
    fn a_long_page_is_cut() {
        let (text, is_all) = text(&"<p>word</p>".repeat(1_000), 100);
        assert!(!is_all && (100..120).contains(&text.len()), "{text}");
    }

    /// What makes each search fail as late as it can.
    #[test]
    fn hostile_pages_take_linear_time() {
        let size = 512 << 10;
        for piece in [
            "<a",
            "<a \"",
            "<a href='",
            "<!--",
            "<!",
            "</",
            "<script>",
            "<script></",
            "&",
            "&#",
            "<a b=>",
            "<p>",
            "<blockquote>",
            "<a href=x>",
            "< ",
            "<pre>\n",
        ] {
            let began = Instant::now();
            let (text, _) = text(&piece.repeat(size / piece.len()), 1 << 20);
            assert!(text.len() < 4 << 20, "{piece}: {}", text.len());
            assert!(began.elapsed() < Duration::from_secs(20), "{piece}: {:?}", began.elapsed());
        }
    }

    proptest! {
        #[test]
        fn every_document_is_read(html in r#"([<>&;/"'= \na-cA]|<a href=|</a>|<p>|<pre>|</pre>|<!--|-->|&amp;|日|&#x1b;|<blockquote>|</script>|<script>){0,60}"#) {
            let (text, is_all) = text(&html, usize::MAX);
            prop_assert!(is_all && (text.is_empty() || text.ends_with('\n')), "{text:?}");
        }
    }
}
