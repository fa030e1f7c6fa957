//! A running worker sees what changes.

use std::{
    fs::{self, File},
    time::{Duration, SystemTime},
};

use super::*;
use crate::config::{Seen, Watcher};

/// Looks until nothing is new any more; what was seen.
fn looks(watcher: &mut Watcher) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..4 {
        match watcher.look() {
            Seen::Nothing => {}
            Seen::Mended => seen.push("mended".into()),
            Seen::Changed(config) => {
                seen.push(format!("label {:?}", config.label.as_deref().unwrap_or_default()));
            }
            Seen::Broken(error) => seen.push(error.to_string().replace(&*error_path(&error), "FILE")),
        }
    }
    seen
}

fn error_path(error: &ConfigError) -> String {
    error.to_string().split([',', ':']).next().unwrap_or_default().to_owned()
}

fn watch(place: &Place) -> Watcher {
    let config = place.file.load().unwrap();
    Watcher::new(place.file.clone(), config)
}

#[test]
fn a_change_is_seen_once_at_the_second_look() {
    let place = Place::with("label = 'a'\n");
    let mut watcher = watch(&place);
    assert_eq!(looks(&mut watcher), [""; 0]);
    place.write("label = 'b2'\n");
    assert!(matches!(watcher.look(), Seen::Nothing), "an editor may be in the middle of it");
    assert_eq!(looks(&mut watcher), ["label \"b2\""]);
    assert_eq!(watcher.config().label.as_deref(), Some("b2"));
    // A comment changes nothing.
    place.write("label = 'b2' # why\n");
    assert_eq!(looks(&mut watcher), [""; 0]);
}

#[test]
fn a_change_between_the_start_and_the_first_look_is_seen() {
    let place = Place::with("label = 'a'\n");
    let mut watcher = watch(&place);
    place.write("label = 'b'\n");
    assert_eq!(looks(&mut watcher), ["label \"b\""]);
}

#[test]
fn a_change_that_the_time_and_the_length_do_not_show_is_seen_while_it_is_young() {
    let place = Place::with("label = 'a'\n");
    let mut watcher = watch(&place);
    assert_eq!(looks(&mut watcher), [""; 0]);
    let now = SystemTime::now();
    let stamp = |at| File::options().write(true).open(place.path()).unwrap().set_modified(at).unwrap();
    stamp(now);
    assert_eq!(looks(&mut watcher), [""; 0]);
    place.write("label = 'b'\n");
    stamp(now);
    assert_eq!(looks(&mut watcher), ["label \"b\""]);
}

#[test]
fn an_old_file_is_read_once() {
    let place = Place::with("label = 'a'\n");
    let stamp = |at| File::options().write(true).open(place.path()).unwrap().set_modified(at).unwrap();
    let old = SystemTime::now() - Duration::from_secs(60);
    stamp(old);
    let mut watcher = watch(&place);
    assert_eq!(looks(&mut watcher), [""; 0]);
    place.write("label = 'b'\n");
    stamp(old);
    assert_eq!(looks(&mut watcher), [""; 0], "the stamp says that nothing changed, and it is believed");
}

#[test]
fn a_broken_edit_is_said_once_and_what_counts_stays() {
    let place = Place::with("label = 'a'\n");
    let mut watcher = watch(&place);
    looks(&mut watcher);
    place.write("label = \n");
    let seen = looks(&mut watcher);
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("FILE, line 1, key `label`: "), "{seen:?}");
    assert_eq!(watcher.config().label.as_deref(), Some("a"));
    place.write("# also broken in the same way\nlabel = \n");
    assert_eq!(looks(&mut watcher).len(), 1, "another line");
    place.write("label = 'a'\n");
    assert_eq!(looks(&mut watcher), ["mended"]);
    place.write("");
    assert_eq!(looks(&mut watcher).len(), 1);
    place.write("label = 'c'\n");
    assert_eq!(looks(&mut watcher), ["label \"c\""]);
}

#[test]
fn a_file_that_goes_away_is_said_once() {
    let place = Place::with("label = 'a'\n");
    let mut watcher = watch(&place);
    looks(&mut watcher);
    fs::remove_file(place.path()).unwrap();
    assert_eq!(looks(&mut watcher), ["FILE: there is no such file"]);
    place.write("label = 'a'\n");
    assert_eq!(looks(&mut watcher), ["mended"]);
}
