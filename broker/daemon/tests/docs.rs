//! The examples of `docs/settings.md` and `deploy/profiles/` are loaded, so that they stay right.

use std::path::{Path, PathBuf};

use sundown_core::settings::{Limits, Profile, Shutdown};
use sundown_daemon::settings::{
    Accounts, KINDS, KnownKinds, Places, Serves, load_profile, load_settings,
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page() -> String {
    std::fs::read_to_string(repository().join("docs/settings.md")).expect("the page is there")
}

/// The blocks of a page that are marked so, each with its first line's number for the eye.
fn blocks(page: &str, mark: &str) -> Vec<String> {
    let opening = format!("\n```toml {mark}\n");
    let parts = page.split(opening.as_str()).skip(1);
    parts.map(|part| part.split_once("\n```").expect("a block ends").0.to_owned()).collect()
}

fn load(root: &Path, text: &str) -> Profile {
    std::fs::write(root.join("example.toml"), text).expect("written");
    let places = Places {
        folders: vec![root.to_owned()],
        data: PathBuf::from("/data"),
        home: Some(PathBuf::from("/home/anna")),
        user: "anna".into(),
        serves: Serves::User,
        hostname: "localhost".into(),
        mailname: "/nonexistent/mailname".into(),
        kinds: KnownKinds::default(),
        accounts: Accounts::system(),
    };
    load_profile("example", &places).unwrap_or_else(|error| panic!("{error}\n\n{text}"))
}

#[test]
fn the_settings_on_the_page_are_right() {
    let root = tempfile::tempdir().expect("a directory");
    let page = page();
    let blocks = blocks(&page, "settings");
    assert!(blocks.len() >= 3, "the page has examples");
    for (n, text) in blocks.iter().enumerate() {
        let file = root.path().join(format!("{n}.toml"));
        std::fs::write(&file, text).expect("written");
        let loaded = load_settings(&[file], &Accounts::system());
        let loaded = loaded.unwrap_or_else(|error| panic!("{error}\n\n{text}"));
        if n == 0 {
            assert_eq!(loaded.settings.shutdown, Shutdown::default(), "the defaults on the page");
            assert_eq!(loaded.settings.limits, Limits::default(), "the defaults on the page");
        }
    }
}

#[test]
fn the_profiles_on_the_page_are_right() {
    let root = tempfile::tempdir().expect("a directory");
    let page = page();
    let blocks = blocks(&page, "profile");
    assert!(blocks.len() >= 4, "the page has examples");
    for (n, text) in blocks.iter().enumerate() {
        let profile = load(root.path(), text);
        if n == 0 {
            let default = load(root.path(), "");
            assert_eq!(profile.stores, default.stores, "the defaults on the page");
            assert_eq!(profile.address_books, default.address_books, "the defaults on the page");
            assert_eq!(profile.queue, default.queue, "the defaults on the page");
            assert_eq!(profile.access, default.access, "the defaults on the page");
            assert_eq!(profile.mailboxes, default.mailboxes, "the defaults on the page");
            let provider = |p: &Profile| p.transports[0].provider.clone();
            assert_eq!(provider(&profile), provider(&default), "the defaults on the page");
        }
    }
}

#[test]
fn the_page_names_every_key() {
    let page = page();
    let error = |text: &str| {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("wrong.toml");
        std::fs::write(&file, text).expect("written");
        let error = load_settings(&[file], &Accounts::system()).expect_err("an unknown key");
        error.to_string()
    };
    for section in ["shutdown", "limits", "socket"] {
        // The error lists what is allowed; each of it must be on the page.
        let shown = error(&format!("[{section}]\nno_such_key = 1\n"));
        let allowed = shown.split_once("expected").expect("it says what is allowed").1;
        for key in allowed.split('`').skip(1).step_by(2) {
            assert!(page.contains(&format!("`{key}`")), "{section}.{key} is not on the page");
        }
    }
}

/// What the command says of kinds and keys, the page says in the same words.
#[test]
fn the_page_has_every_kind_with_its_keys() {
    let page = page();
    for kind in KINDS {
        let about = format!(
            "of kind `{}`: {}{}",
            kind.name,
            kind.about[..1].to_lowercase(),
            &kind.about[1..]
        );
        assert!(page.contains(&about), "not on the page: {about}");
        for key in kind.keys {
            let default =
                if key.default.is_empty() { " ".into() } else { format!(" {} ", key.default) };
            let row = format!("\n| `{}` |{default}| {} |\n", key.name, key.meaning);
            assert!(page.contains(&row), "not on the page: {row}");
        }
    }
}

#[test]
fn the_profiles_to_copy_are_right() {
    let root = tempfile::tempdir().expect("a directory");
    let folder = repository().join("deploy/profiles");
    let files: Vec<_> = std::fs::read_dir(&folder).expect("the folder is there").collect();
    assert!(files.len() >= 2, "there are profiles to copy");
    for file in files {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
        load(root.path(), &text);
    }
}
