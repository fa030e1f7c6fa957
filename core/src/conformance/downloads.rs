//! What every runtime must do with files that recipes want, over real sockets: against a server of threads that says what
//! a test has it say, and hangs up.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use sha2::{Digest as _, Sha256};

use super::file_server::{Asked, Server, file};
use crate::{
    engine::{Effect, EngineError, Happened, Recipe},
    http::Reach,
    machine::{FileHad, FileWanted, Origin, Transfer, files::Room},
};

/// Has a file on the runtime under test, with that much room on the disk: carries [`wanting`] out, and shows how far it
/// is.
pub type Have =
    dyn Fn(FileWanted, Room, Box<dyn Fn(Transfer) + Send + Sync>) -> Result<FileHad, EngineError> + Sync;

/// A test of downloads.
pub type DownloadTest = fn(&Have);

/// Every test of downloads, by its name.
pub const ALL: &[(&str, DownloadTest)] = &[
    ("a_file_is_downloaded_once", a_file_is_downloaded_once),
    ("a_file_goes_on_wherever_it_was_cut", a_file_goes_on_wherever_it_was_cut),
    ("a_part_of_an_earlier_day_is_used", a_part_of_an_earlier_day_is_used),
    ("a_server_that_knows_no_ranges_sends_all_again", a_server_that_knows_no_ranges_sends_all_again),
    ("a_file_that_changed_is_downloaded_anew", a_file_that_changed_is_downloaded_anew),
    ("a_wrong_file_is_deleted", a_wrong_file_is_deleted),
    ("a_file_that_is_too_large_is_not_begun", a_file_that_is_too_large_is_not_begun),
    ("a_file_that_has_no_room_is_not_begun", a_file_that_has_no_room_is_not_begun),
    ("two_jobs_download_a_file_once", two_jobs_download_a_file_once),
    ("redirects_lead_where_they_may", redirects_lead_where_they_may),
    (
        "a_host_that_is_trusted_alone_leads_to_no_other_one_here",
        a_host_that_is_trusted_alone_leads_to_no_other_one_here,
    ),
    ("what_gives_access_is_not_shown", what_gives_access_is_not_shown),
    ("a_file_of_unknown_length_is_downloaded", a_file_of_unknown_length_is_downloaded),
    ("what_lies_there_is_used", what_lies_there_is_used),
    ("two_files_of_a_name_are_two_files", two_files_of_a_name_are_two_files),
];

/// A recipe that wants a file, and nothing else.
pub fn wanting(wanted: FileWanted) -> Box<dyn Recipe<FileHad>> {
    struct Wanting(Option<FileWanted>);

    impl Recipe<FileHad> for Wanting {
        fn next(&mut self, happened: Happened) -> Effect<FileHad> {
            match (happened, self.0.take()) {
                (Happened::Started, Some(wanted)) => Effect::Have(wanted),
                (Happened::Had(had), _) => Effect::Done(had),
                (happened, _) => panic!("{happened:?}"),
            }
        }
    }

    Box::new(Wanting(Some(wanted)))
}

/// Room enough.
const ROOM: Room = Room { free: 1_000_000_000, total: 5_000_000_000 };

/// A folder with files in it that are to be had.
struct Models(tempfile::TempDir);

impl Models {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("llm/model.gguf")
    }

    fn part(&self) -> PathBuf {
        self.0.path().join("llm/model.gguf.part")
    }

    fn wanted(&self, url: String) -> FileWanted {
        FileWanted {
            path: self.path().to_str().unwrap().into(),
            copies: Vec::new(),
            origin: Some(Origin { url, reach: Reach::Loopback, host_alone: false }),
            approx_bytes: None,
            sha256: None,
        }
    }

    fn has(&self, bytes: &[u8]) {
        assert_eq!(fs::read(self.path()).unwrap(), bytes);
        assert!(!self.part().exists());
    }
}

fn had(have: &Have, wanted: FileWanted) -> Result<FileHad, EngineError> {
    have(wanted, ROOM, Box::new(|_| ()))
}

fn hash_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Large enough for several pieces.
fn large() -> &'static [u8] {
    static LARGE: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..1_000_003_u32).flat_map(u32::to_le_bytes).collect());
    &LARGE
}

fn a_file_is_downloaded_once(have: &Have) {
    for hash in [None, Some(hash_of(large()))] {
        let (models, server) = (Models::new(), Server::of(large(), "\"a\""));
        let wanted = FileWanted { sha256: hash, ..models.wanted(server.url("/model?sig=1")) };
        let told = Arc::<Mutex<Vec<Transfer>>>::default();
        let tell = Arc::clone(&told);
        let tell = move |transfer| tell.lock().unwrap().push(transfer);
        let here = have(wanted.clone(), ROOM, Box::new(tell)).unwrap();
        let content = hash_of(large()).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(here, FileHad { path: wanted.path.clone(), bytes: large().len() as u64, content });
        models.has(large());
        let told = told.lock().unwrap();
        let total = large().len() as u64;
        assert!(told.is_sorted_by_key(|transfer| transfer.done), "{told:?}");
        assert_eq!(
            told.last(),
            Some(&Transfer { name: "model.gguf".into(), done: total, total: Some(total), came: total })
        );
        for _ in 0..2 {
            assert_eq!(had(have, wanted.clone()).unwrap(), here);
        }
        assert_eq!(server.asked(), [None]);
    }
}

fn a_file_goes_on_wherever_it_was_cut(have: &Have) {
    const FILE: &[u8] = b"0123456789abcdef";
    // Each waits before it tries again.
    thread::scope(|scope| {
        for cut in 0..FILE.len() {
            scope.spawn(move || {
                let models = Models::new();
                let server = Server::new(move |asked, number| {
                    let mut answer = file(asked, FILE, "\"a\"");
                    if number == 1 {
                        answer.truncate(answer.len() - FILE.len() + cut);
                    }
                    answer
                });
                // With the hash or without: the server's word for the file is enough to go on.
                let hash = if cut % 2 == 0 { Some(hash_of(FILE)) } else { None };
                had(have, FileWanted { sha256: hash, ..models.wanted(server.url("/")) }).unwrap();
                models.has(FILE);
                let rest = (cut > 0).then_some(cut as u64);
                assert_eq!(server.asked(), [None, rest]);
                let if_range = server.asked.lock().unwrap()[1].if_range.clone();
                assert_eq!(if_range, rest.map(|_| "\"a\"".into()));
            });
        }
    });
}

fn a_part_of_an_earlier_day_is_used(have: &Have) {
    const FILE: &[u8] = b"0123456789";
    for part in 0..=FILE.len() {
        let (models, server) = (Models::new(), Server::of(FILE, "\"a\""));
        put(&models.part(), &FILE[..part]);
        let wanted = FileWanted { sha256: Some(hash_of(FILE)), ..models.wanted(server.url("/")) };
        let came = Arc::<Mutex<u64>>::default();
        let tell = Arc::clone(&came);
        have(wanted, ROOM, Box::new(move |transfer| *tell.lock().unwrap() = transfer.came)).unwrap();
        assert_eq!(*came.lock().unwrap(), (FILE.len() - part) as u64, "only what was missing came");
        models.has(FILE);
        assert_eq!(server.asked(), [(part > 0).then_some(part as u64)]);
    }
    // Without a hash nobody knows whether it is the same file.
    let (models, server) = (Models::new(), Server::of(FILE, "\"a\""));
    put(&models.part(), b"0");
    had(have, models.wanted(server.url("/"))).unwrap();
    models.has(FILE);
    assert_eq!(server.asked(), [None]);
    // More than there is: that was another one.
    let (models, server) = (Models::new(), Server::of(FILE, "\"a\""));
    put(&models.part(), b"0123456789 and more");
    had(have, FileWanted { sha256: Some(hash_of(FILE)), ..models.wanted(server.url("/")) }).unwrap();
    models.has(FILE);
    assert_eq!(server.asked(), [Some(19), None]);
}

fn a_server_that_knows_no_ranges_sends_all_again(have: &Have) {
    let models = Models::new();
    let server = Server::new(|asked, _| file(&Asked { from: None, ..asked.clone() }, b"0123456789", "x"));
    put(&models.part(), b"01234");
    had(have, FileWanted { sha256: Some(hash_of(b"0123456789")), ..models.wanted(server.url("/")) }).unwrap();
    models.has(b"0123456789");
    assert_eq!(server.asked(), [Some(5)]);
}

fn a_file_that_changed_is_downloaded_anew(have: &Have) {
    let models = Models::new();
    let server = Server::new(|asked, number| {
        if number == 1 {
            let mut cut = file(asked, b"0123456789", "\"a\"");
            cut.truncate(cut.len() - 3);
            return cut;
        }
        file(asked, b"another file", "\"b\"")
    });
    had(have, models.wanted(server.url("/"))).unwrap();
    models.has(b"another file");
    assert_eq!(server.asked(), [None, Some(7)]);
}

fn a_wrong_file_is_deleted(have: &Have) {
    let (models, server) = (Models::new(), Server::of(b"wrong", "\"a\""));
    let wanted = FileWanted { sha256: Some(hash_of(b"right")), ..models.wanted(server.url("/")) };
    let error = had(have, wanted.clone()).unwrap_err();
    assert!(!error.retryable && error.message.contains("its SHA-256 is 8810ad58"), "{error:?}");
    assert_eq!(server.asked(), [None, None]);
    assert!(!models.part().exists() && !models.path().exists());

    // The way there may have been at fault.
    let server =
        Server::new(|asked, number| file(asked, if number == 1 { b"wrong" } else { b"right" }, "\"a\""));
    had(have, FileWanted { origin: models.wanted(server.url("/")).origin, ..wanted }).unwrap();
    models.has(b"right");
}

fn a_file_that_is_too_large_is_not_begun(have: &Have) {
    for (approx, fits) in [(1_000_000, false), (4_000_000, true), (50_000_000, true)] {
        let (models, server) = (Models::new(), Server::of(large(), "\"a\""));
        let outcome = had(have, FileWanted { approx_bytes: Some(approx), ..models.wanted(server.url("/")) });
        match outcome {
            Ok(_) => models.has(large()),
            Err(error) => {
                assert!(!fits && !error.retryable, "{error:?}");
                let why = "it has 4.0 MB, and only about 1.0 MB are wanted";
                assert!(error.message.ends_with(why), "{error}");
                assert!(!models.part().exists());
            }
        }
    }
}

fn a_file_that_has_no_room_is_not_begun(have: &Have) {
    let (models, server) = (Models::new(), Server::of(large(), "\"a\""));
    let bytes = large().len() as u64;
    let room = |free| Room { free, total: 200_000_000 };
    let wanted = models.wanted(server.url("/"));
    let error = have(wanted.clone(), room(20_000_000 + bytes - 1), Box::new(|_| ())).unwrap_err();
    let folder = models.path().parent().unwrap().display().to_string();
    let why = format!(
        "the disk of {folder} is too full: it needs 4.0 MB more; 24.0 MB are free, of which 20.0 MB are kept"
    );
    assert!(error.retryable && error.message.ends_with(&why), "{error:?}");
    assert!(!models.part().exists());
    // What is there already needs no room.
    put(&models.part(), &large()[..1000]);
    let wanted = FileWanted { sha256: Some(hash_of(large())), ..wanted };
    have(wanted, room(20_000_000 + bytes - 1000), Box::new(|_| ())).unwrap();
    models.has(large());
}

fn two_jobs_download_a_file_once(have: &Have) {
    let (models, server) = (Models::new(), Server::of(large(), "\"a\""));
    let wanted = models.wanted(server.url("/"));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| had(have, wanted.clone()).unwrap());
        }
    });
    models.has(large());
    assert_eq!(server.asked(), [None]);
}

fn redirects_lead_where_they_may(have: &Have) {
    let to = |location: &str| {
        format!("HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    let server = Server::new(move |asked, _| match asked.path.as_str() {
        "/round" => to("/round"),
        "/relative" => to("file?a=b"),
        "/file?a=b" => file(asked, b"file", "\"a\""),
        "/plain" => to("http://8.8.8.8/"),
        "/private" => to("https://10.0.0.1/"),
        "/data" => to("data:,x"),
        _ => b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let models = Models::new();
    had(have, models.wanted(server.url("/relative"))).unwrap();
    models.has(b"file");
    for (path, retryable, why) in [
        ("/round", true, "leads on and on"),
        ("/plain", false, "leads to an address that is not encrypted: https is wanted"),
        ("/private", false, "leads to a private address"),
        ("/data", false, "is neither https nor data"),
        ("/missing", false, "its server answers 404"),
    ] {
        let models = Models::new();
        let error = had(have, models.wanted(server.url(path))).unwrap_err();
        assert!(error.message.contains(why) && error.retryable == retryable, "{path}: {error:?}");
        assert!(
            error.message.starts_with("model.gguf can't be downloaded from http://127.0.0.1:"),
            "{error}"
        );
        assert!(!models.part().exists());
    }
    for url in ["http://192.0.2.1/", "ftp://a.b/", "nonsense", "https://user:pass@a.b/"] {
        let error = had(have, Models::new().wanted(url.into())).unwrap_err();
        assert!(!error.retryable && error.message.contains("its address"), "{url}: {error:?}");
        assert!(!error.message.contains("pass@"), "{error}");
    }
}

fn a_host_that_is_trusted_alone_leads_to_no_other_one_here(have: &Have) {
    let other = Server::of(b"file", "\"a\"");
    let to = |location: &str| {
        format!("HTTP/1.1 302 x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    };
    let elsewhere = other.url("/file");
    let server = Server::new(move |asked, _| match asked.path.as_str() {
        "/own" => to("/file"),
        "/file" => file(asked, b"file", "\"a\""),
        _ => to(&elsewhere),
    });
    let wanted = |models: &Models, path: &str, host_alone| FileWanted {
        origin: Some(Origin { url: server.url(path), reach: Reach::Loopback, host_alone }),
        ..models.wanted(String::new())
    };
    let models = Models::new();
    let error = had(have, wanted(&models, "/other", true)).unwrap_err();
    assert!(!error.retryable && error.message.contains("leads to this machine"), "{error:?}");
    assert!(other.asked().is_empty());
    had(have, wanted(&models, "/own", true)).unwrap();
    models.has(b"file");
    // Where this machine is trusted, it is trusted.
    had(have, wanted(&Models::new(), "/other", false)).unwrap();
    assert_eq!(other.asked(), [None]);
}

fn what_gives_access_is_not_shown(have: &Have) {
    let refused = b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n";
    let server = Server::new(move |asked, _| match asked.path.as_str() {
        "/a?token=sesame-open-1" => {
            b"HTTP/1.1 307 x\r\nLocation: /b?signature=sesame-open-2\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        _ => refused.to_vec(),
    });
    let error = had(have, Models::new().wanted(server.url("/a?token=sesame-open-1"))).unwrap_err();
    assert!(error.retryable && error.message.ends_with("/b: its server answers 403"), "{error:?}");
    assert!(!error.message.contains("sesame"), "{error}");
}

fn a_file_of_unknown_length_is_downloaded(have: &Have) {
    let chunked =
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n";
    let closed = b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n0123456789";
    for answer in [chunked.as_slice(), closed.as_slice()] {
        for (approx, hash, fits) in [
            (None, None, true),
            (Some(10), None, true),
            (Some(11), None, false),
            (Some(11), Some(hash_of(b"0123456789")), true),
        ] {
            let models = Models::new();
            let server = Server::new(move |_, _| answer.to_vec());
            let wanted = FileWanted { approx_bytes: approx, sha256: hash, ..models.wanted(server.url("/")) };
            match had(have, wanted) {
                Ok(_) => {
                    assert!(fits);
                    models.has(b"0123456789");
                }
                Err(error) => {
                    assert!(!fits && error.retryable, "{error:?}");
                    assert!(error.message.ends_with("it has 10 bytes, and 11 are wanted"), "{error}");
                    assert!(!models.part().exists());
                }
            }
        }
    }
}

fn what_lies_there_is_used(have: &Have) {
    let server = Server::of(b"from afar", "\"a\"");
    let models = Models::new();
    let copy = models.0.path().join("model.gguf");
    put(&copy, b"a copy");
    let with_copy = FileWanted {
        copies: vec![copy.to_str().unwrap().into()],
        approx_bytes: Some(6),
        ..models.wanted(server.url("/"))
    };
    for hash in [None, Some(hash_of(b"a copy")), Some(hash_of(b"a copy"))] {
        let here = had(have, FileWanted { sha256: hash, ..with_copy.clone() }).unwrap();
        assert_eq!((here.path.as_str(), here.bytes), (copy.to_str().unwrap(), 6));
    }
    // No copy of it: it has another size, or another hash.
    for other in [
        FileWanted { approx_bytes: Some(9), ..with_copy.clone() },
        FileWanted { approx_bytes: None, sha256: Some(hash_of(b"from afar")), ..with_copy.clone() },
    ] {
        assert_eq!(had(have, other).unwrap().path, with_copy.path);
        models.has(b"from afar");
        fs::remove_file(models.path()).unwrap();
    }
    assert_eq!(server.asked(), [None, None]);

    // What is changed afterwards is another file.
    let wanted = FileWanted { sha256: Some(hash_of(b"from afar")), ..models.wanted(server.url("/")) };
    had(have, wanted.clone()).unwrap();
    put(&models.path(), b"changed by somebody");
    let error = had(have, wanted.clone()).unwrap_err();
    assert!(!error.retryable && error.message.ends_with(". Move it away"), "{error:?}");
    models.has(b"changed by somebody");
    fs::remove_file(models.path()).unwrap();
    had(have, wanted.clone()).unwrap();
    models.has(b"from afar");
    assert_eq!(server.asked().len(), 4);

    let nowhere = FileWanted { origin: None, ..wanted };
    assert_eq!(had(have, nowhere.clone()).unwrap().bytes, 9);
    let unhashed = FileWanted { sha256: None, ..nowhere.clone() };
    put(&models.path(), b"unhashed!");
    let contents = [(); 2].map(|()| had(have, unhashed.clone()).unwrap().content);
    assert_eq!(contents[0], contents[1]);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(models.path()).unwrap().set_modified(later).unwrap();
    assert_ne!(had(have, unhashed.clone()).unwrap().content, contents[0]);
    put(&models.path(), b"changed by somebody");
    let error = had(have, nowhere.clone()).unwrap_err();
    assert!(error.message.contains("is another file than the one wanted"), "{error}");
    assert_eq!(had(have, unhashed).unwrap().bytes, 19);
    fs::remove_file(models.path()).unwrap();
    let error = had(have, nowhere).unwrap_err();
    assert!(error.message.ends_with("model.gguf is not there, and nothing says where to get it"), "{error}");
}

fn two_files_of_a_name_are_two_files(have: &Have) {
    let server = Server::new(|asked, _| {
        let bytes: &[u8] = if asked.path.starts_with("/a/") { b"of model a" } else { b"of model b" };
        file(asked, bytes, "\"x\"")
    });
    let models = Models::new();
    let wanted = |path| FileWanted { approx_bytes: Some(10), ..models.wanted(server.url(path)) };
    for (path, bytes, asked) in [
        ("/a/file?token=1", b"of model a", 1),
        ("/a/file?token=2", b"of model a", 1),
        ("/b/file", b"of model b", 2),
        ("/a/file", b"of model a", 3),
    ] {
        had(have, wanted(path)).unwrap();
        models.has(bytes);
        assert_eq!(server.asked().len(), asked, "{path}");
    }
    // What gives access is not remembered.
    let remembered = models.path().with_file_name(".studio-worker/model.gguf.json");
    assert!(!fs::read_to_string(remembered).unwrap().contains("token"));
    // A part is of one of them alone, even where the server calls all by the same name.
    put(&models.part(), b"of mo");
    let note = br#"{"part":{"validator":"\"x\"","total":10,"source":"http://127.0.0.1/a/file"}}"#;
    put(&models.path().with_file_name(".studio-worker/model.gguf.json"), note);
    fs::remove_file(models.path()).unwrap();
    had(have, wanted("/b/file")).unwrap();
    models.has(b"of model b");
    assert_eq!(server.asked().last(), Some(&None));
}
