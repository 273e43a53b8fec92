//! The two formats in which figures are asked for: `OpenMetrics`, and the text format of Prometheus before it.

/// A format of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `OpenMetrics` 1.0.
    Open,
    /// The text format 0.0.4, which everything reads.
    Plain,
}

impl Format {
    /// The one that a request accepts, by its `Accept` field.
    pub(crate) fn accepted(accept: &[u8]) -> Self {
        let open = b"application/openmetrics-text";
        let accepts = accept.windows(open.len()).any(|part| part.eq_ignore_ascii_case(open));
        if accepts { Self::Open } else { Self::Plain }
    }

    /// Its media type.
    pub(crate) fn media(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// `OpenMetrics` text in this format.
    pub(crate) fn of(self, text: String) -> String {
        match self {
            Self::Open => text,
            Self::Plain => plain(&text),
        }
    }
}

/// The same in the older format: there the name in a comment is the whole name, units have no line, and nothing marks the end.
fn plain(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut plain = String::with_capacity(text.len());
    while let Some(line) = lines.next() {
        let comment =
            line.strip_prefix("# ").map(|comment| comment.splitn(3, ' ').collect::<Vec<_>>());
        match comment.as_deref() {
            None => plain += line,
            Some(["HELP", name, help]) => {
                let next = lines.peek().and_then(|next| next.strip_prefix("# TYPE "));
                let kind = next.and_then(|next| next.rsplit(' ').next()).unwrap_or_default();
                plain += &format!("# HELP {name}{} {help}", suffix(kind));
            }
            Some(["TYPE", name, kind]) => {
                let shown = if *kind == "info" { "gauge" } else { kind };
                plain += &format!("# TYPE {name}{} {shown}", suffix(kind));
            }
            Some(_) => continue,
        }
        plain.push('\n');
    }
    plain
}

/// What the lines of a metric of this type have behind its name.
fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_the_older_format_name_what_they_are_about() {
        let open = "# HELP a_seconds What.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n\
                    # HELP b Which.\n# TYPE b counter\nb_total 2\n\
                    # HELP c Who.\n# TYPE c info\nc_info{x=\"# y\"} 1\n# EOF\n";
        let wanted = "# HELP a_seconds What.\n# TYPE a_seconds gauge\na_seconds 1\n\
                      # HELP b_total Which.\n# TYPE b_total counter\nb_total 2\n\
                      # HELP c_info Who.\n# TYPE c_info gauge\nc_info{x=\"# y\"} 1\n";
        assert_eq!(Format::Plain.of(open.to_owned()), wanted);
        assert_eq!(Format::Open.of(open.to_owned()), open);
    }

    #[test]
    fn the_format_is_the_one_that_is_accepted() {
        let prometheus =
            b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::accepted(prometheus), Format::Open);
        for other in [&b""[..], b"*/*", b"text/plain", b"application/json"] {
            assert_eq!(Format::accepted(other), Format::Plain);
        }
    }
}
