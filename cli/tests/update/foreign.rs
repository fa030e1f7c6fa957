//! A program in a folder that is not its worker's, and what root does to one that is.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use studio_worker::{VERSION, config::ConfigFile, runtimes::Runtime, update};

use crate::{
    beside::{at_studio, queue},
    home::{Home, NOBODY, Worker, give, is_root, wait},
    release::{AFTER_NEXT, Feed, NEXT, archive, broken, next_archive, program},
    rig::Rig,
};

/// A home whose program its worker can't replace: it is root's, or else in a folder that nobody may write.
struct Sealed<'a>(&'a Home);

impl<'a> Sealed<'a> {
    fn new(home: &'a Home) -> Self {
        if is_root() {
            home.give_to_nobody();
            give(&bin(home), 0);
        } else {
            fs::set_permissions(bin(home), fs::Permissions::from_mode(0o555)).unwrap();
        }
        Self(home)
    }

    fn start(&self) -> Worker {
        self.0.start_as_nobody()
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        // So that it can be deleted.
        let _ = fs::set_permissions(bin(self.0), fs::Permissions::from_mode(0o755));
    }
}

fn bin(home: &Home) -> PathBuf {
    home.program().parent().unwrap().to_owned()
}

/// Makes the version that the feed has ready for a worker that runs.
fn make_ready(home: &Home) {
    let config = ConfigFile::locate(Some(&home.config())).unwrap().load().unwrap();
    let on = Runtime::default();
    let checked = update::check(&config, on).unwrap();
    update::install(&config, on, &update::Place::at(home.program()), checked, true).unwrap();
}

/// A job that takes longer than two looks at what was made ready, in one session with the next one.
fn works_on_undisturbed(studio: &Rig, worker: &Worker) {
    for _ in 0..2 {
        let job = studio.job_is(&queue(studio), "completed");
        assert_eq!(job["attempts"].as_u64().unwrap_or_default(), 0, "{job}: {}", worker.log());
    }
    assert_eq!(worker.log().matches("session open").count(), 1, "{}", worker.log());
}

#[test]
fn a_worker_that_cannot_replace_its_program_does_not_make_way() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false\nsynthetic_delay_ms = 3000");
    make_ready(&home);
    let sealed = Sealed::new(&home);
    let worker = sealed.start();
    worker.logs(&format!("{} can't take over", *NEXT));
    works_on_undisturbed(&studio, &worker);
    let log = worker.log();
    assert_eq!(log.matches("can't take over").count(), 1, "it is said once: {log}");
    assert!(log.contains(&bin(&home).display().to_string()), "it is said where: {log}");
    assert!(!log.contains("is on trial"), "{log}");
    assert_eq!(at_studio(&studio), VERSION);
}

/// Somebody who may installed it while no worker ran: it is tried, though what comes of that can't be remembered.
#[test]
fn a_version_whose_trial_leaves_no_trace_is_tried_once() {
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false\nsynthetic_delay_ms = 3000");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let sealed = Sealed::new(&home);
    let worker = sealed.start();
    worker.logs("the trial is over");
    worker.logs_times("session open", 2);
    studio.job_is(&queue(&studio), "completed");
    studio.job_is(&queue(&studio), "completed");
    assert_eq!(at_studio(&studio), *NEXT);
    let log = worker.log();
    assert_eq!((log.matches("is on trial").count(), log.matches("session open").count()), (1, 2), "{log}");
    // Nor at its next start.
    worker.terminate();
    worker.ends();
    let worker = sealed.start();
    worker.logs("session open");
    assert!(!worker.log().contains("is on trial"), "{}", worker.log());
}

/// Needs to be root, as only root could make it ready.
#[test]
fn what_the_worker_that_runs_could_never_take_over_is_not_made_ready() {
    if !is_root() {
        return;
    }
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    let sealed = Sealed::new(&home);
    let worker = sealed.start();
    worker.logs("session open");
    let said = home.run(&["check-update", "--install"]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.err.contains("stop it, run this again, and start it"), "{}", said.err);
    assert!(home.is_clean(), "{:?}", home.files());
}

#[test]
fn a_version_that_cannot_be_put_back_is_tried_once_and_the_one_before_goes_on() {
    let does =
        "[ -n \"$STUDIO_WORKER_ON_TRIAL\" ] && exit 3\nSTUDIO_WORKER_SUPERVISES=$0 exec \"$0.old\" \"$@\"";
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, Arc::new(archive(&broken(&NEXT, does)))));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false\nsynthetic_delay_ms = 3000");
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    let sealed = Sealed::new(&home);
    let worker = sealed.start();
    worker.logs("is no good: it ended by itself twice");
    works_on_undisturbed(&studio, &worker);
    assert_eq!(worker.log().matches("is on trial").count(), 1, "{}", worker.log());
    assert_eq!(at_studio(&studio), VERSION);
}

/// Needs to be root, as it is about what root does.
#[test]
fn what_root_installs_belongs_to_the_owner_of_the_programs_folder() {
    if !is_root() {
        return;
    }
    let (studio, feed) = (Rig::new(), Feed::with(&NEXT, next_archive()));
    let home = Home::at(&studio, &feed, "auto_update_enabled = false");
    let are_nobodys = || {
        let paths = home.files().into_iter().map(|name| bin(&home).join(name));
        paths.for_each(|path| is_nobodys(&path));
    };
    // No worker runs, and then one does.
    home.give_to_nobody();
    assert_eq!(home.run(&["check-update", "--install"]).code, 0);
    are_nobodys();
    let worker = home.start_as_nobody();
    worker.logs(&format!("updated from {VERSION} to {}", *NEXT));
    feed.lists(&AFTER_NEXT, Arc::new(archive(&program(&AFTER_NEXT))));
    let said = home.run(&["check-update", "--install"]);
    assert!(said.out.contains("the worker that runs"), "{}{}", said.out, said.err);
    worker.logs(&format!("updated from {} to {}", *NEXT, *AFTER_NEXT));
    wait(|| at_studio(&studio) == *AFTER_NEXT, || worker.log());
    are_nobodys();
    assert!(!home.files().contains(&".studio-worker.update".into()), "nothing is left: {:?}", home.files());
}

fn is_nobodys(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{}", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            is_nobodys(&entry.unwrap().path());
        }
    }
}
