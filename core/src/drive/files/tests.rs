#![allow(clippy::disallowed_methods, reason = "files of a test")]

use super::*;

fn wanted(folder: &std::path::Path) -> FileWanted {
    FileWanted {
        path: folder.join("models/model.gguf").to_str().unwrap().into(),
        copies: Vec::new(),
        origin: None,
        approx_bytes: None,
        sha256: None,
    }
}

#[test]
fn a_file_is_locked_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::of(&wanted(folder.path()));
    let held = place.lock().unwrap();
    assert!(held.is_some() && place.lock().unwrap().is_none());
    drop(held);
    assert!(place.lock().unwrap().is_some());
}

#[test]
fn what_is_remembered_survives_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = wanted(folder.path());
    let place = Place::of(&wanted);
    let path = [wanted.path.clone()];
    assert_eq!(place.look(&path), [None]);
    std::fs::create_dir_all(folder.path().join("models/.studio-worker")).unwrap();
    std::fs::write(&wanted.path, b"abc").unwrap();
    assert_eq!(place.look(&path)[0].as_ref().unwrap().sha256, None);
    let hash = place.hash(&wanted.path, &AtomicBool::new(false)).unwrap();
    assert_eq!(hash[..3], [0xba, 0x78, 0x16]);
    assert_eq!(place.look(&path)[0].as_ref().unwrap().sha256, Some(hash));
    for nonsense in ["", "{", "[]", r#"{"hashed":7}"#, r#"{"part":{"total":-1}}"#] {
        std::fs::write(folder.path().join("models/.studio-worker/model.gguf.json"), nonsense).unwrap();
        assert_eq!(place.look(&path)[0].as_ref().unwrap().sha256, None, "{nonsense}");
        assert!(place.open(&AtomicBool::new(false)).is_ok());
    }
    // A folder is no file.
    std::fs::remove_file(&wanted.path).unwrap();
    std::fs::create_dir(&wanted.path).unwrap();
    assert_eq!(place.look(&path), [None]);
}

#[test]
fn hashing_ends_when_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = wanted(folder.path());
    let place = Place::of(&wanted);
    place.lock().unwrap();
    std::fs::write(&wanted.path, b"abc").unwrap();
    assert!(place.hash(&wanted.path, &AtomicBool::new(true)).is_err());
    assert!(place.open(&AtomicBool::new(true)).is_err());
}

#[test]
fn a_part_goes_on_from_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::of(&wanted(folder.path()));
    place.lock().unwrap();
    let open = || place.open(&AtomicBool::new(false)).unwrap();
    let write = |from| Write { from, limit: 10, total: Some(6), validator: Some("\"a\"".into()) };
    let part = open().begin(&place, &write(0)).ok().unwrap().append(&place, b"abcdef").ok().unwrap();
    drop(part);
    let seen = open().seen();
    assert_eq!((seen.bytes, seen.total, seen.validator.as_deref()), (6, Some(6), Some("\"a\"")));
    // Back to the middle.
    let part = open().begin(&place, &write(2)).ok().unwrap().append(&place, b"c").ok().unwrap();
    assert_eq!(part.seen().sha256[..3], [0xba, 0x78, 0x16]);
    part.finish(&place).unwrap();
    let found = place.look(&[folder.path().join("models/model.gguf").to_str().unwrap().into()]);
    let found = found[0].as_ref().unwrap();
    assert_eq!((found.bytes, found.sha256.unwrap()[..3].to_vec()), (3, vec![0xba, 0x78, 0x16]));
    assert_eq!((open().seen().bytes, open().seen().validator), (0, None));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_from_other_trouble() {
    let place = Place::of(&wanted(std::path::Path::new("/nowhere")));
    let end = |file| *OpenPart::of(file).append(&place, b"abc").err().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let (part, why) = end(full);
    let words = "No space left on device (os error 28)";
    assert_eq!((part.seen().bytes, why), (0, End::DiskFull(words.into())));
    let read_only = std::fs::File::options().read(true).open("/dev/null").unwrap();
    let why = "/nowhere/models/model.gguf.part can't be written: Bad file descriptor (os error 9)";
    assert_eq!(end(read_only).1, End::Trouble(why.into()));
}

/// Whoever gives up is gone before the thread that is at work on the file: nobody else begins before that has ended.
#[cfg(all(feature = "transport", feature = "http"))]
mod given_up {
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
        task::{Context, Waker},
    };

    use futures::{FutureExt as _, channel::oneshot, io::Cursor};

    use super::*;
    use crate::{
        http::Reach,
        machine::Origin,
        time::{Now, Wall},
        transport::{Platform, Transport},
    };

    type Jobs = Arc<Mutex<VecDeque<Box<dyn FnOnce() + Send>>>>;

    /// Its threads do what they are asked when a test has them do it.
    #[derive(Clone, Default)]
    struct ByHand(Jobs);

    impl ByHand {
        fn job(&self) -> Option<Box<dyn FnOnce() + Send>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
        }
    }

    impl Platform for ByHand {
        type Stream = Cursor<Vec<u8>>;

        fn now(&self) -> Now {
            Now { mono: Mono::ZERO, wall: Wall::from_millis(0) }
        }

        fn sleep_until(&self, _: Mono) -> impl Future<Output = ()> + Send + 'static {
            std::future::pending()
        }

        fn dial(
            &self,
            _: &str,
            _: u16,
            _: Reach,
        ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
            std::future::pending()
        }

        fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
        where
            T: Send + 'static,
            F: FnOnce() -> T + Send + 'static,
        {
            let (tell, told) = oneshot::channel();
            let job = move || drop(tell.send(work()));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::new(job));
            told.map(|told| told.unwrap())
        }
    }

    #[test]
    fn a_file_is_locked_until_its_threads_end() {
        let folder = tempfile::tempdir().unwrap();
        let origin =
            Origin { url: "https://models.test/model.gguf".into(), reach: Reach::Public, host_alone: false };
        let wanted = FileWanted { origin: Some(origin), ..wanted(folder.path()) };
        let (place, platform) = (Place::of(&wanted), ByHand::default());
        let runtime = Transport::on(platform.clone());
        let mut having = Box::pin(have(runtime, "studio-worker/1".into(), wanted, Arc::new(|_| ())));
        let mut poll = || {
            assert!(having.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        // It looks, locks, and looks again.
        for _ in 0..3 {
            poll();
            platform.job().unwrap()();
        }
        poll();
        let opening = platform.job().unwrap();
        drop(having);
        assert!(place.lock().unwrap().is_none(), "somebody else could begin");
        opening();
        assert!(place.lock().unwrap().is_some());
    }
}
