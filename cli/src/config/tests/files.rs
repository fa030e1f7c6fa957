//! Where the configuration lies, and that nothing in it gets lost.

use std::{fs, thread};

use studio_worker_core::{
    drive::Store as _,
    wire::Secret,
    worker::{Change, Key},
};

use super::*;
use crate::config::{ConfigStore, Edit, masked};

#[test]
fn a_missing_file_is_made_with_its_directories_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = ConfigFile::locate(Some(&dir.path().join("a/b/config.toml"))).unwrap();
    assert!(file.load().unwrap_err().is_missing());
    assert_eq!(file.load_or_create().unwrap().engine, "multi");
    assert_eq!(file.load().unwrap(), file.load_or_create().unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a/b/config.toml"), mode("a/b"), mode("a")), (0o600, 0o700, 0o700));
        // Also one that the published programs left open to everybody.
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        file.edit(&[Edit::set("label", "x")]).unwrap();
        assert_eq!(mode("a/b/config.toml"), 0o600);
    }
}

#[test]
fn a_damaged_file_is_an_error_and_stays_as_it_is() {
    for (bytes, wanted) in [
        (&b""[..], "line 1: the file is empty"),
        (b" \r\n\n", "line 1: the file is empty"),
        (&[0; 64], "line 1: there are NUL bytes"),
        (b"label = 'x'\n\0\0", "line 2: there are NUL bytes"),
        (b"# x\nlabel = '\xff'\n", "line 2: it is not UTF-8"),
        (b"label = \n", "line 1, key `label`: "),
        (b"label = 1\n", "line 1, key `label`: "),
    ] {
        let place = Place::empty();
        fs::write(place.path(), bytes).unwrap();
        for error in [
            place.file.load().unwrap_err(),
            place.file.load_or_create().unwrap_err(),
            place.file.edit(&[Edit::set("auto_enabled", false)]).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(error.starts_with(&format!("{}, {wanted}", place.path().display())), "{error}");
        }
        assert_eq!(fs::read(place.path()).unwrap(), bytes);
    }
}

#[test]
fn what_is_not_a_file_is_an_error() {
    let place = Place::empty();
    fs::create_dir(place.path()).unwrap();
    assert!(place.file.load().unwrap_err().to_string().contains("is not a regular file"));
    fs::remove_dir(place.path()).unwrap();
    fs::write(place.path(), vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(place.file.load().unwrap_err().to_string().contains("larger than 1 MiB"));
}

#[test]
fn an_edit_can_mend_what_was_out_of_range() {
    let place = Place::with("vram_threshold_gb = -4 # oops\n");
    assert!(place.file.load().is_err());
    place.file.edit(&[Edit::set("vram_threshold_gb", 4.0)]).unwrap();
    assert_eq!(place.text(), "vram_threshold_gb = 4.0 # oops\n");
}

#[test]
fn an_edit_that_would_break_it_changes_nothing() {
    let place = Place::with("vram_threshold_gb = 4\n");
    let error = place.file.edit(&[Edit::set("api_base_url", "ftp://h")]).unwrap_err();
    assert!(error.to_string().contains("key `api_base_url`"), "{error}");
    assert_eq!(place.text(), "vram_threshold_gb = 4\n");
}

/// Keys whose values are texts.
const KEYS: [&str; 8] = [
    "label",
    "worker_id",
    "auth_token",
    "install_id",
    "models_root",
    "registration_secret",
    "registration_request_id",
    "gradio_endpoint_url",
];

/// How often each is changed. Every change waits for the disk, and for those of the others.
const ROUNDS: usize = 3;

#[test]
fn changes_made_at_the_same_time_all_last() {
    let place = Place::with("# mine\n[t]\nx = 1\n");
    thread::scope(|scope| {
        for key in KEYS {
            let file = &place.file;
            scope.spawn(move || {
                for n in 0..ROUNDS {
                    file.edit(&[Edit::set(key, format!("{key}-{n}"))]).unwrap();
                }
            });
        }
    });
    let (text, last) = (place.text(), ROUNDS - 1);
    for key in KEYS {
        assert_eq!(text.matches(&format!("{key} = \"{key}-{last}\"\n")).count(), 1, "{text}");
    }
    assert!(text.ends_with("# mine\n[t]\nx = 1\n"), "{text}");
    assert_eq!(
        fs::read_dir(place.dir.path()).unwrap().count(),
        2,
        "the file and its lock, nothing left over"
    );
}

#[test]
fn the_store_keeps_what_a_person_changed_meanwhile() {
    let place = Place::with("label = 'old' # mine\nengine = 'warp'\n");
    let store = ConfigStore::new(place.file.clone());
    let change = |key, value: Option<&str>| Change { key, value: value.map(Secret::from) };
    store
        .save(&[change(Key::InstallId, Some("i")), change(Key::RegistrationSecret, Some("s3cret-1"))])
        .unwrap();
    place.write(&place.text().replace("old", "new"));
    // An engine that nobody knows is the operator's to mend, and must not cost the worker its credentials.
    store
        .save(&[
            change(Key::RegistrationSecret, None),
            change(Key::WorkerId, Some("w")),
            change(Key::AuthToken, Some("s3cret-2")),
            change(Key::RegistrationRejected, Some("")),
        ])
        .unwrap();
    let wanted = "label = 'new' # mine\nengine = 'warp'\ninstall_id = \"i\"\nworker_id = \"w\"\n\
                  auth_token = \"s3cret-2\"\nregistration_rejected = \"\"\n";
    assert_eq!(place.text(), wanted);
    // Other tests of this process learn secrets meanwhile, and the oldest ones are forgotten for them.
    let is_known = (0..100).any(|_| {
        store.save(&[change(Key::RegistrationSecret, Some("s3cret-1"))]).unwrap();
        store
            .save(&[change(Key::RegistrationSecret, None), change(Key::AuthToken, Some("s3cret-2"))])
            .unwrap();
        crate::logging::scrub("s3cret-1 s3cret-2".into()) == "… …"
    });
    assert!(is_known, "what was stored is known as a secret");
}

#[test]
fn the_store_makes_no_new_file_and_quotes_nothing() {
    let place = Place::empty();
    let store = ConfigStore::new(place.file.clone());
    let change = Change { key: Key::AuthToken, value: Some("s3cret".into()) };
    let error = store.save(std::slice::from_ref(&change)).unwrap_err();
    assert!(error.contains("there is no such file") && !error.contains("s3cret"), "{error}");
    place.write("auth_token = 's3cret\n");
    let error = store.save(&[change]).unwrap_err();
    assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
}

#[test]
fn credentials_are_masked_wherever_they_are() {
    let place = Place::with(
        "label = 'my tok-111 box' # tok-111\nauth_token = 'tok-111'\nregistration_secret = \"tok-222\"\n\
         zebra = 1\n[openai]\napi_key = 'tok-333'\nmodel = 'm'\n[[hosts]]\npassword = 'tok-444'\nname = 'h'\n\
         [x]\nlist = [{ token = 'tok-555' }]\n",
    );
    let shown = masked(&place.file, &place.file.load().unwrap()).unwrap();
    assert!(!shown.contains("tok-"), "{shown}");
    for line in [
        "label = \"my … box\"",
        "auth_token = \"…\"",
        "zebra = 1",
        "model = \"m\"",
        "name = \"h\"",
        "engine = \"multi\"",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    parse(&shown).unwrap();
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_stays_a_link() {
        let place = Place::empty();
        fs::create_dir(place.dir.path().join("real")).unwrap();
        let real = place.dir.path().join("real/worker.toml");
        symlink("real/worker.toml", place.path()).unwrap();
        // To nothing, at first.
        place.file.load_or_create().unwrap();
        place.file.edit(&[Edit::set("label", "x")]).unwrap();
        assert!(fs::symlink_metadata(place.path()).unwrap().is_symlink());
        assert!(fs::read_to_string(real).unwrap().contains("label = \"x\""));
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_file() {
        let place = Place::with("label = 'old'\n");
        // Where the lock should be there is a directory, which even an administrator can't write to.
        fs::create_dir(place.dir.path().join(".config.toml.lock")).unwrap();
        let error = place.file.edit(&[Edit::set("label", "new")]).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(place.text(), "label = 'old'\n");
    }
}
