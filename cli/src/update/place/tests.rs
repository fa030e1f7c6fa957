use super::*;

fn place(text: &str) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    fs::write(&program, text).unwrap();
    (folder, Place::at(program))
}

fn files(folder: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_program_takes_the_place_of_another_and_goes_back() {
    let (folder, place) = place("one");
    let new = folder.path().join("new");
    for (text, old) in [("two", "one"), ("three", "two")] {
        fs::write(&new, text).unwrap();
        place.put(&new, true).unwrap();
        assert_eq!(fs::read_to_string(place.program()).unwrap(), text);
        assert_eq!(fs::read_to_string(place.old()).unwrap(), old);
    }
    place.put_back().unwrap();
    assert_eq!(fs::read_to_string(place.program()).unwrap(), "two");
    assert_eq!(files(&folder), ["worker"]);
    assert!(place.put_back().unwrap_err().to_string().contains("worker.old"), "there is none any more");
}

#[test]
fn what_cannot_be_put_in_place_leaves_the_program() {
    let (folder, place) = place("one");
    fs::write(place.old(), "the one before").unwrap();
    assert!(place.put(&folder.path().join("nothing"), true).is_err());
    assert_eq!(fs::read_to_string(place.program()).unwrap(), "one");
    assert_eq!(fs::read_to_string(place.old()).unwrap(), "the one before");
}

#[test]
fn what_had_to_leave_its_place_comes_back_if_nothing_takes_it() {
    let (folder, place) = place("one");
    assert!(replace_aside(&folder.path().join("nothing"), place.program()).is_err());
    assert_eq!(fs::read_to_string(place.program()).unwrap(), "one");
    assert_eq!(files(&folder), ["worker"]);
    fs::write(folder.path().join("new"), "two").unwrap();
    replace_aside(&folder.path().join("new"), place.program()).unwrap();
    assert_eq!(fs::read_to_string(place.program()).unwrap(), "two");
    assert_eq!(files(&folder).len(), 2, "the one that may run is there yet");
    place.clear_away(&place.lock().unwrap());
    assert_eq!(files(&folder), [".worker.update.lock", "worker"]);
}

#[test]
fn no_change_of_what_is_remembered_is_lost() {
    let (_folder, place) = place("one");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let place = place.clone();
            scope.spawn(move || {
                for round in 0..4 {
                    let version = Version::new(1, writer, round);
                    place
                        .note(|record| record.go_back(version, &Version::new(1, 0, 0), "why", false))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(place.record().refused.len(), 16);
}

#[cfg(unix)]
#[test]
fn nobody_else_can_hold_up_an_update() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, place) = place("one");
    drop(place.lock().unwrap());
    place.note(|record| record.make_ready(Version::new(1, 1, 0))).unwrap();
    for path in ["update.lock", "update.json.lock"].map(|name| place.beside(name)) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    }
    // Nor does a link lead anybody elsewhere, whether something is there or not.
    for _ in 0..2 {
        assert!(place.lock().is_err() && place.note(|record| *record = Record::default()).is_err());
        assert_eq!(place.record().pending, Some(Version::new(1, 1, 0)));
        fs::write(folder.path().join("elsewhere"), "").unwrap();
    }
}

#[test]
fn what_cannot_be_remembered_is_known_before_a_trial() {
    let (_folder, place) = place("one");
    let locked = place.lock().unwrap();
    place.check_all(&locked).unwrap();
    place.note(|record| record.make_ready(Version::new(1, 1, 0))).unwrap();
    let record = place.record();
    place.check_all(&locked).unwrap();
    assert_eq!(place.record(), record);
    fs::remove_file(place.record_path()).unwrap();
    fs::create_dir(place.record_path()).unwrap();
    assert!(place.check_all(&locked).is_err());
}

#[test]
fn the_one_before_is_of_the_same_place() {
    let (folder, place) = place("one");
    let old = Place::at(folder.path().join(format!("worker.old{}", env::consts::EXE_SUFFIX)));
    assert_eq!((old.program(), old.old()), (place.program(), place.old()));
}

#[test]
fn what_is_remembered_is_there_again() {
    let (_folder, place) = place("one");
    place.note(|_| ()).unwrap();
    assert!(!place.record_path().exists(), "nothing to remember is no file");
    place.note(|record| record.put_in_place(Version::new(1, 1, 0), Version::new(1, 0, 0))).unwrap();
    assert_eq!(place.record().on_trial, Some(Version::new(1, 1, 0)));
    fs::write(place.record_path(), "garbage").unwrap();
    assert_eq!(place.record(), Record::default());
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, place) = place("one");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    // Whoever may write everywhere is not kept from it.
    let checked = place.check();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if let Err(error) = checked {
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    }
}
