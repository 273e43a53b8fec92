//! A file of settings: whatever it says, an error names it and a place in it, and what loads, loads again.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use sundown_daemon::settings::{
    Accounts, KnownKinds, Places, ProfileError, Serves, SettingsError, Unlisted, load_profile,
    load_settings,
};
use tempfile::TempDir;

thread_local! {
    /// One directory for all runs.
    static ROOT: OnceCell<TempDir> = const { OnceCell::new() };
}

/// Bytes as a settings file and as a profile.
pub fn settings(bytes: &[u8]) {
    ROOT.with(|root| {
        let root = root.get_or_init(prepared);
        in_directory(root.path(), bytes);
    });
}

fn prepared() -> TempDir {
    let root = TempDir::new().expect("a directory");
    std::fs::write(root.path().join("passwd"), "root:x:0:0::/:\nanna:x:7:7::/:\n")
        .expect("written");
    std::fs::write(root.path().join("group"), "root:x:0:\nmail:x:8:anna\n").expect("written");
    root
}

fn in_directory(root: &Path, bytes: &[u8]) {
    let file = root.join("work.toml");
    std::fs::write(&file, bytes).expect("written");
    let (passwd, group) = (root.join("passwd"), root.join("group"));
    // Chance would ask the system for names of its own.
    let accounts = Accounts { passwd, group, unlisted: Unlisted::Refused };

    let files = [root.join("missing.toml"), file.clone()];
    match load_settings(&files, &accounts) {
        Err(error) => check(&error, &file, bytes),
        Ok(loaded) => {
            let again = load_settings(&files, &accounts);
            assert_eq!(again.as_ref(), Ok(&loaded), "the same file says the same");
            let twice = load_settings(&[file.clone(), file.clone()], &accounts).expect("it loads");
            assert_eq!(twice.settings, loaded.settings, "saying it twice changes nothing");
        }
    }

    let places = Places {
        folders: vec![root.to_owned()],
        data: PathBuf::from("/data"),
        home: Some(PathBuf::from("/home/anna")),
        user: "anna".into(),
        serves: Serves::User,
        hostname: "host.example".into(),
        mailname: "/nonexistent/mailname".into(),
        kinds: KnownKinds::default(),
        accounts,
    };
    match load_profile("work", &places) {
        Err(ProfileError::Invalid(error) | ProfileError::Unlisted(error)) => {
            check(&error, &file, bytes)
        }
        Err(other) => panic!("the file is there: {other}"),
        Ok(profile) => {
            assert_eq!(load_profile("work", &places).as_ref(), Ok(&profile));
            assert!(!profile.stores.is_empty(), "a profile has a store");
            let _ = format!("{profile:?}");
        }
    }
}

fn check(error: &SettingsError, file: &Path, bytes: &[u8]) {
    let shown = error.to_string();
    assert_eq!(error.file(), file);
    assert!(shown.contains(&*file.to_string_lossy()), "{shown} does not name the file");
    assert!(!error.message().is_empty(), "{shown} says nothing");
    let position = error.position().expect("the file can be read, so there is a place");
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(position.line >= 1 && position.column >= 1 && position.line <= lines, "{shown}");
}
