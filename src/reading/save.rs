//! Attachments as files. Their names come from the message, and lead nowhere but into the directory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, unlinkat};
use rustix::io::Errno;
use sundown_client::{Code, Error, is_unseen};

use super::decode;
use super::text::Attachment;
use crate::output;

/// The most attachments of a message that become files.
const FILES: usize = 100;

/// How many names are tried for one of them.
const TRIES: usize = 1_000;

/// The longest name, in bytes. File systems take 255; this leaves room for a number.
const NAME: usize = 200;

/// The longest ending that a name keeps when it is cut.
const ENDING: usize = 16;

/// What was saved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// The files, in the order of the attachments.
    pub(crate) files: Vec<PathBuf>,
    /// How many attachments are beyond the limit, and were not saved.
    pub(crate) left_out: usize,
}

/// Saves attachments of a message into a directory that exists. No file that exists is changed, and no link is followed. Where one cannot be
/// written, the error names it, and those before it stay.
pub(crate) fn save(
    directory: &Path,
    message: &[u8],
    attachments: &[Attachment],
) -> Result<Saved, Error> {
    let opened = opened(directory)?;
    let mut files = Vec::new();
    for attachment in attachments.iter().take(FILES) {
        let name = file_name(attachment);
        let content = attachment.content(message);
        let written = write(&opened, &name, &content);
        let name =
            written.map_err(|error| cannot_write(&directory.join(&name), &error, files.len()))?;
        files.push(directory.join(name));
    }
    Ok(Saved { files, left_out: attachments.len().saturating_sub(FILES) })
}

fn opened(directory: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(directory, flags, Mode::empty()).map_err(|error| {
        let shown = directory.display();
        match error {
            Errno::NOENT => output::error(
                Code::E_NOT_FOUND,
                format!(
                    "there is no directory {shown}; make it first, then save the attachments again"
                ),
            ),
            Errno::NOTDIR => {
                output::invalid(format!("{shown} is no directory; name one for the attachments"))
            }
            error => output::error(
                Code::E_NO_ACCESS,
                format!("cannot open the directory {shown}: {}", io::Error::from(error)),
            ),
        }
    })
}

fn cannot_write(file: &Path, error: &io::Error, before: usize) -> Error {
    let saved = match before {
        0 => "nothing was saved".to_owned(),
        1 => "the attachment before it is saved".to_owned(),
        n => format!("the {n} attachments before it are saved"),
    };
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::E_NOT_ENOUGH_DISK,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::E_NO_ACCESS,
        _ => Code::E_CALL_FAILED,
    };
    output::error(code, format!("cannot write {}: {error}; {saved}", file.display()))
}

/// Writes a new file of this name, or of this name with a number. The name that it has.
fn write(directory: &OwnedFd, name: &str, content: &[u8]) -> io::Result<String> {
    for number in 1..=TRIES {
        let name = numbered(name, number);
        match create(directory, &name) {
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(file) => {
                let mut file = File::from(file);
                // Part of an attachment looks like all of it.
                return file.write_all(content).map(|()| name.clone()).inspect_err(|_| {
                    let _ = unlinkat(directory.as_fd(), &*name, AtFlags::empty());
                });
            }
        }
    }
    Err(io::Error::other(format!("{TRIES} files of this name are there already")))
}

/// A new file that its user alone can read.
fn create(directory: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory.as_fd(), name, flags, Mode::RUSR | Mode::WUSR)
}

/// `name (2).pdf`
fn numbered(name: &str, number: usize) -> String {
    if number == 1 {
        return name.to_owned();
    }
    let (stem, ending) = halves(name);
    format!("{stem} ({number}){ending}")
}

/// A name, and its ending with the dot.
fn halves(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= ENDING => name.split_at(at),
        _ => (name, ""),
    }
}

/// The name of an attachment's file: one that does no harm in a directory, in a shell's `*`, and on file systems of others.
fn file_name(attachment: &Attachment) -> String {
    // What programs of Windows put in front is a path, too.
    let last = attachment.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let harmless = |c: char| if is_unseen(c) || "\"*:<>?|".contains(c) { '_' } else { c };
    let name: String = last.trim().chars().map(harmless).collect();
    let name = name.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
    if name.chars().all(|c| c == '_') {
        let ending = if attachment.subject.is_some() { "eml" } else { "bin" };
        return format!("part-{}.{ending}", attachment.part);
    }
    // An option for programs that are given `*`, or a device on other systems.
    let needs_more = name.starts_with('-') || is_device(name);
    short(&format!("{}{name}", if needs_more { "_" } else { "" }))
}

/// Whether Windows takes a name for a device, with any ending.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']))
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

/// The name, cut before its ending if it is too long.
fn short(name: &str) -> String {
    if name.len() <= NAME {
        return name.to_owned();
    }
    let (stem, ending) = halves(name);
    format!("{}{ending}", decode::within(stem, NAME - ending.len()).trim_end())
}

/// The names of files for people, one in each line.
pub(crate) fn report(saved: &Saved) -> String {
    let names = saved.files.iter().map(|file| file.display().to_string());
    let mut text: String = names.map(|name| format!("saved {name}\n")).collect();
    if saved.left_out > 0 {
        text +=
            &format!("{} more attachments are not saved: at most {FILES} are\n", saved.left_out);
    }
    if saved.files.is_empty() {
        text += "the message has no attachments\n";
    }
    text
}

/// The names of the files, for programs.
pub(crate) fn names(saved: &Saved) -> Vec<String> {
    saved.files.iter().map(|file| file.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use proptest::prelude::*;

    use super::*;
    use crate::reading::text::Shown;

    /// A message with attachments of these names. Each contains its number.
    fn message(names: &[&str]) -> String {
        let mut message = "Content-Type: multipart/mixed; boundary=b\n\n".to_owned();
        for (number, name) in names.iter().enumerate() {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            message += &format!(
                "--b\nContent-Disposition: attachment; filename*=utf-8''{encoded}\n\n{number}\n"
            );
        }
        message + "--b--\n"
    }

    fn saved(directory: &Path, names: &[&str]) -> Vec<String> {
        let message = message(names);
        let shown = Shown::of(message.as_bytes());
        let saved = save(directory, message.as_bytes(), &shown.attachments).expect("saved");
        let name = |file: &PathBuf| {
            assert_eq!(file.parent(), Some(directory));
            file.file_name().expect("a name").to_str().expect("text").to_owned()
        };
        saved.files.iter().map(name).collect()
    }

    #[test]
    fn names_stay_in_the_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("inside");
        fs::create_dir(&directory).expect("made");
        let long = format!("{}.pdf", "é".repeat(150));
        let cut = format!("{}.pdf", "é".repeat(98));
        for (name, file) in [
            ("a.pdf", "a.pdf"),
            ("../../x", "x"),
            ("/etc/passwd", "passwd"),
            ("C:\\Users\\x.doc", "x.doc"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("COM1.pdf", "_COM1.pdf"),
            ("commerce.pdf", "commerce.pdf"),
            (".bashrc", "bashrc"),
            ("...", "part-2.bin"),
            ("..", "part-2 (2).bin"),
            ("", "part-2 (3).bin"),
            ("/", "part-2 (4).bin"),
            ("\u{200b}\n", "part-2 (5).bin"),
            ("-rf", "_-rf"),
            ("a\n\x1b[2J\u{202e}b.txt", "a__[2J_b.txt"),
            ("x\0y", "x_y"),
            ("a*?.t", "a__.t"),
            ("日本.txt", "日本.txt"),
            (" b . ", "b"),
            (&long, &cut),
        ] {
            assert_eq!(saved(&directory, &[name]), [file], "{name:?}");
            let content = fs::read_to_string(directory.join(file)).expect("it is there");
            assert_eq!(content, "0");
        }
        assert_eq!(fs::read_dir(place.path()).expect("listed").count(), 1);
    }

    #[test]
    fn no_file_is_written_over() {
        let place = tempfile::tempdir().expect("a directory");
        let outside = place.path().join("outside");
        let directory = place.path().join("inside");
        fs::create_dir(&directory).expect("made");
        fs::write(directory.join("a.tar.gz"), "mine").expect("written");
        symlink(&outside, directory.join("b")).expect("linked");
        let names = saved(&directory, &["a.tar.gz", "a.tar.gz", "b", "c", "c", ".c"]);
        assert_eq!(names, ["a.tar (2).gz", "a.tar (3).gz", "b (2)", "c", "c (2)", "c (3)"]);
        assert_eq!(fs::read_to_string(directory.join("a.tar.gz")).expect("read"), "mine");
        assert!(!outside.exists(), "the link was followed");
        for (number, name) in names.iter().enumerate() {
            let file = directory.join(name);
            assert_eq!(fs::read_to_string(&file).expect("read"), number.to_string());
            assert_eq!(fs::metadata(&file).expect("looked at").mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_said() {
        let place = tempfile::tempdir().expect("a directory");
        let message = message(&["a"]);
        let attachments = Shown::of(message.as_bytes()).attachments;
        let refused = |directory: &Path| {
            save(directory, message.as_bytes(), &attachments).expect_err("refused")
        };
        let missing = place.path().join("missing");
        let error = refused(&missing);
        assert_eq!(error.code(), Code::E_NOT_FOUND);
        assert!(error.to_string().contains("make it first"), "{error}");
        assert!(!missing.exists());
        let file = place.path().join("file");
        fs::write(&file, "x").expect("written");
        assert!(refused(&file).to_string().contains("is no directory"));
    }

    #[test]
    fn only_so_many_are_saved_and_the_rest_is_counted() {
        let place = tempfile::tempdir().expect("a directory");
        let message = message(&["a"; FILES + 3]);
        let attachments = Shown::of(message.as_bytes()).attachments;
        let saved = save(place.path(), message.as_bytes(), &attachments).expect("saved");
        assert_eq!((saved.files.len(), saved.left_out), (FILES, 3));
        assert!(report(&saved).ends_with("3 more attachments are not saved: at most 100 are\n"));
        assert_eq!(names(&saved)[1], place.path().join("a (2)").to_str().expect("text"));
        let none = Saved { files: Vec::new(), left_out: 0 };
        assert_eq!(report(&none), "the message has no attachments\n");
    }

    proptest! {
        #[test]
        fn any_name_is_that_of_a_file(name in r"([./\\ -]|CON|\x00|\n|\PC|.){0,300}") {
            let message = message(&[&name]);
            let attachments = Shown::of(message.as_bytes()).attachments;
            let file = file_name(&attachments[0]);
            prop_assert!((1..=NAME).contains(&file.len()), "{file:?}");
            prop_assert!(!file.starts_with(['.', '-', ' ']) && !file.contains(['/', '\0']), "{file:?}");
            prop_assert!(!file.contains(is_unseen) && !is_device(&file), "{file:?}");
            prop_assert!(halves(&numbered(&file, 2)).0.ends_with(" (2)"), "{file:?}");
        }
    }
}
