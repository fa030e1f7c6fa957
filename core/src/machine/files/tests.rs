//! A download on a disk and from a server of a few lines, which do what disks and servers do.

use alloc::{borrow::ToOwned as _, string::ToString as _, vec};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    engine::EngineError,
    http::{FileHead, HttpFailure, Reach},
};

const PATH: &str = "/models/model.gguf";
const DISK: Room = Room { free: 1 << 40, total: 1 << 42 };

/// What a server does with one request.
#[derive(Debug, Clone)]
struct Turn {
    /// The file that it has by now.
    state: usize,
    /// How many bytes it sends of what it announced.
    sends: usize,
    knows_ranges: bool,
    knows_if_range: bool,
    says_length: bool,
    says_etag: bool,
    /// Instead of the file.
    status: Option<u16>,
    /// Begins elsewhere than it was asked to.
    shifts: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            state: 0,
            sends: usize::MAX,
            knows_ranges: true,
            knows_if_range: true,
            says_length: true,
            says_etag: true,
            status: None,
            shifts: false,
        }
    }
}

struct World {
    files: Vec<Vec<u8>>,
    turns: vec::IntoIter<Turn>,
    /// What is on the disk.
    part: Vec<u8>,
    note: (Option<String>, Option<u64>),
    /// Where the part came from.
    part_of: Option<String>,
    place: Option<Vec<u8>>,
    /// Where what is in the place came from.
    source: Option<String>,
    room: Room,
    /// What the server sends as its next body, and whether it breaks off.
    body: (Vec<u8>, bool),
    asked: Vec<u64>,
    paused: Vec<u64>,
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl World {
    fn new(files: &[&[u8]], turns: impl IntoIterator<Item = Turn>) -> Self {
        Self {
            files: files.iter().map(|file| file.to_vec()).collect(),
            turns: turns.into_iter().collect::<Vec<_>>().into_iter(),
            part: Vec::new(),
            note: (None, None),
            part_of: None,
            place: None,
            source: None,
            room: DISK,
            body: (Vec::new(), false),
            asked: Vec::new(),
            paused: Vec::new(),
        }
    }

    fn have(&mut self, wanted: FileWanted) -> Result<FileHad, EngineError> {
        let source = wanted.origin.as_ref().map(|origin| origin.source().to_owned());
        let mut download = Download::new(wanted);
        let mut seen = Seen::Started;
        for _ in 0..1_000 {
            seen = match download.next(seen) {
                Step::Look(paths) => {
                    let found = |bytes: &Vec<u8>| Found {
                        bytes: bytes.len() as u64,
                        modified_ns: 1,
                        // As on disk, where both are remembered of what was downloaded.
                        sha256: self.source.as_ref().map(|_| digest(bytes)),
                        source: self.source.clone(),
                    };
                    let at = |path: &String| if path == PATH { self.place.as_ref().map(found) } else { None };
                    Seen::Looked(paths.iter().map(at).collect())
                }
                Step::Hash(_) => Seen::Hashed(digest(self.place.as_ref().unwrap())),
                Step::Lock => Seen::Locked,
                Step::Open => Seen::Opened(Part {
                    bytes: self.part.len() as u64,
                    sha256: digest(&self.part),
                    validator: self.note.0.clone(),
                    total: self.note.1,
                    source: self.part_of.clone(),
                }),
                Step::Fetch(request) => Seen::Answered(self.answer(&request)),
                Step::Room => Seen::Room(Some(self.room)),
                Step::Write(write) => {
                    self.part_of.clone_from(&source);
                    Seen::Written(self.write(&write))
                }
                Step::Empty => {
                    self.part.clear();
                    self.note = (None, None);
                    self.part_of = None;
                    Seen::Emptied
                }
                Step::Finish => {
                    self.place = Some(core::mem::take(&mut self.part));
                    (self.source, self.part_of) = (source.clone(), None);
                    Seen::Finished
                }
                Step::Pause(span) => {
                    self.paused.push(span.as_secs());
                    Seen::Paused
                }
                Step::Done(outcome) => return outcome,
            };
        }
        panic!("it goes on and on");
    }

    fn answer(&mut self, request: &crate::http::FileRequest) -> Result<FileHead, HttpFailure> {
        self.asked.push(request.from);
        let turn = self.turns.next().unwrap_or_default();
        if let Some(status) = turn.status {
            return if status == 0 {
                Err(HttpFailure("refused".into()))
            } else {
                Ok(FileHead { status, retry_after: Some("3".into()), ..FileHead::default() })
            };
        }
        let file = &self.files[turn.state];
        let etag = alloc::format!("\"{}\"", turn.state);
        let is_same = request.if_range.as_ref().is_none_or(|tag| *tag == etag || !turn.knows_if_range);
        let from = if turn.knows_ranges && is_same { usize::try_from(request.from).unwrap() } else { 0 };
        let head = FileHead { etag: turn.says_etag.then_some(etag), ..FileHead::default() };
        let total = file.len();
        if from > 0 && from >= total {
            return Ok(FileHead {
                status: 416,
                content_range: Some(alloc::format!("bytes */{total}")),
                ..head
            });
        }
        let begin = if turn.shifts && from > 0 { from - 1 } else { from };
        let rest = &file[begin..];
        let sent = turn.sends.min(rest.len());
        self.body = (rest[..sent].to_vec(), sent < rest.len());
        let length = turn.says_length.then(|| rest.len().to_string());
        if from > 0 {
            let last = total - 1;
            let range = Some(alloc::format!("bytes {begin}-{last}/{total}"));
            return Ok(FileHead { status: 206, content_length: length, content_range: range, ..head });
        }
        Ok(FileHead { status: 200, content_length: length, ..head })
    }

    fn write(&mut self, write: &Write) -> Written {
        self.note = (write.validator.clone(), write.total);
        self.part.truncate(usize::try_from(write.from).unwrap());
        assert_eq!(self.part.len() as u64, write.from, "it goes on behind the end of the part");
        let (body, is_cut) = core::mem::take(&mut self.body);
        self.part.extend(body);
        let limit = usize::try_from(write.limit).unwrap_or(usize::MAX);
        let end = if self.part.len() > limit {
            self.part.truncate(limit);
            End::TooMuch
        } else if is_cut {
            End::Broke("it broke".into())
        } else {
            End::Ended
        };
        Written { bytes: self.part.len() as u64, sha256: digest(&self.part), end }
    }
}

fn wanted(sha256: Option<[u8; 32]>) -> FileWanted {
    let origin = Origin {
        url: "https://models.test/model.gguf?sig=abcdefgh".into(),
        reach: Reach::Public,
        host_alone: false,
    };
    FileWanted { path: PATH.into(), copies: Vec::new(), origin: Some(origin), approx_bytes: None, sha256 }
}

/// Where [`wanted`] comes from.
const SOURCE: &str = "https://models.test/model.gguf";

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let status =
        prop_oneof![5 => Just(None), 1 => proptest::sample::select(vec![Some(0), Some(500), Some(429)])];
    let turn =
        (0..2_usize, 0..40_usize, any::<[bool; 5]>(), status, proptest::bool::weighted(0.1)).prop_map(
            |(state, sends, [knows_ranges, knows_if_range, says_length, says_etag, _], status, shifts)| {
                Turn { state, sends, knows_ranges, knows_if_range, says_length, says_etag, status, shifts }
            },
        );
    proptest::collection::vec(turn, 0..8)
}

proptest! {
    /// Whatever a server does: what is said to be there, is; with a hash it is what was wanted; and what failed leaves
    /// a part with which the next attempt gets there.
    #[test]
    fn what_is_had_is_the_file(turns in turns(), part in 0..30_usize, knows in any::<bool>()) {
        let (old, new): (&[u8], &[u8]) = (b"0123456789abcdefghijklmnop", b"another file, of some length");
        let mut world = World::new(&[old, new], turns);
        world.part = old[..part.min(old.len())].to_vec();
        if knows {
            world.note = (Some("\"0\"".into()), Some(old.len() as u64));
            world.part_of = Some(SOURCE.into());
        }
        let wanted = wanted(Some(digest(old)));
        let outcome = world.have(wanted.clone());
        match outcome {
            Ok(had) => {
                prop_assert_eq!(world.place.as_deref(), Some(old));
                prop_assert_eq!(had.bytes, old.len() as u64);
            }
            Err(error) => {
                prop_assert!(!error.message.contains("abcdefgh"), "{}", error);
                prop_assert_eq!(&world.place, &None);
                world.turns = Vec::new().into_iter();
                world.have(wanted).unwrap();
                prop_assert_eq!(world.place.as_deref(), Some(old));
            }
        }
    }

    /// Without a hash, a server that names its files and doesn't lie about lengths is enough.
    #[test]
    fn what_is_had_without_a_hash_is_one_file(turns in turns()) {
        let files: [&[u8]; 2] = [b"0123456789abcdefghijklmnop", b"another file, of some length"];
        let honest = turns.into_iter().map(|turn| {
            Turn { says_etag: true, says_length: true, knows_if_range: true, ..turn }
        });
        let mut world = World::new(&files, honest);
        if world.have(wanted(None)).is_ok() {
            let place = world.place.unwrap();
            prop_assert!(files.contains(&place.as_slice()), "{:?}", place);
        }
    }
}

#[test]
fn a_server_that_fails_is_asked_a_few_times() {
    let failing = |status| vec![Turn { status: Some(status), ..Turn::default() }; 9];
    for (status, pauses, why) in [(0, [1, 2, 4, 8], "refused"), (503, [3, 3, 4, 8], "its server answers 503")]
    {
        let mut world = World::new(&[b"abc"], failing(status));
        let error = world.have(wanted(None)).unwrap_err();
        assert!(error.retryable && error.message.ends_with(why), "{error:?}");
        assert_eq!(world.paused, pauses);
    }
    // As long as it gets on, it goes on.
    let mut world = World::new(&[b"0123456789"], vec![Turn { sends: 1, ..Turn::default() }; 9]);
    assert_eq!(world.have(wanted(None)).unwrap().bytes, 10);
    assert_eq!(world.asked, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // Always the same beginning is no progress.
    let same = Turn { sends: 4, knows_ranges: false, ..Turn::default() };
    let mut world = World::new(&[b"0123456789"], vec![same; 20]);
    assert!(world.have(wanted(None)).is_err());
    assert_eq!(world.asked.len(), 5);
}

#[test]
fn what_the_disk_says_is_told() {
    let begun = || {
        let mut download = Download::new(wanted(None));
        let mut seen = Seen::Started;
        let mut world = World::new(&[b"0123456789"], []);
        loop {
            seen = match download.next(seen) {
                Step::Look(_) => Seen::Looked(vec![None]),
                Step::Lock => Seen::Locked,
                Step::Open => Seen::Opened(Part::default()),
                Step::Fetch(request) => Seen::Answered(world.answer(&request)),
                Step::Room => Seen::Room(None),
                Step::Write(_) => return download,
                step => panic!("{step:?}"),
            };
        }
    };
    let written = |end| Seen::Written(Written { bytes: 4, sha256: digest(b"0123"), end });
    let error = |step| match step {
        Step::Done(Err(error)) => error,
        step => panic!("{step:?}"),
    };
    let mut full = begun();
    assert_eq!(full.next(written(End::DiskFull("No space left on device (os error 28)".into()))), Step::Room);
    let room = Room { free: 2, total: 100 };
    let why = "model.gguf can't be downloaded from https://models.test/model.gguf: the disk of /models is too full (No \
               space left on device (os error 28)): it needs 6 bytes more; 2 bytes are free, of which 10 bytes are kept";
    assert_eq!(error(full.next(Seen::Room(Some(room)))), EngineError::transient(why));

    let stalled = error(begun().next(written(End::Stalled(core::time::Duration::from_secs(60)))));
    assert!(stalled.retryable && stalled.message.ends_with("nothing came for 60 s"), "{stalled:?}");
    let trouble = error(begun().next(Seen::Trouble("/models: read-only".into())));
    assert!(trouble.retryable && trouble.message.ends_with(": /models: read-only"), "{trouble:?}");
    // Whoever sends more than was announced is not asked again, and nothing of it is kept.
    let mut too_much = begun();
    assert_eq!(too_much.next(written(End::TooMuch)), Step::Empty);
    assert!(error(too_much.next(Seen::Emptied)).message.ends_with("its server sends more than it announced"));
    // Steps out of turn are a bug, and no reason to go on or to panic.
    assert!(error(begun().next(Seen::Locked)).retryable);
}

#[test]
fn how_far_it_is_is_never_more_than_all() {
    let download = Download::new(FileWanted { approx_bytes: Some(10), ..wanted(None) });
    let transfer = |bytes| download.transfer(bytes, 1);
    assert_eq!(transfer(4), Transfer { name: "model.gguf".into(), done: 4, total: Some(10), came: 1 });
    assert_eq!(transfer(11).total, None);
}

#[test]
fn what_has_the_name_is_not_the_file_for_that() {
    const FILE: &[u8] = b"0123456789";
    const OTHER: &[u8] = b"987654321O";
    /// It is used as it is.
    const USED: Option<&[u64]> = Some(&[]);
    /// Its server was asked, and it is used.
    const ASKED: Option<&[u64]> = Some(&[0]);
    let hash = Some(digest(FILE));
    let elsewhere = Some("https://models.test/other/model.gguf");
    for (place, source, approx_bytes, sha256, used) in [
        // What was downloaded here.
        (OTHER, Some(SOURCE), Some(7), None, USED),
        (OTHER, elsewhere, Some(10), None, None),
        (OTHER, elsewhere, None, None, None),
        (OTHER, Some(SOURCE), None, hash, None),
        (FILE, elsewhere, None, hash, USED),
        // What somebody put there.
        (OTHER, None, Some(10), None, USED),
        (OTHER, None, Some(7), None, ASKED),
        (OTHER, None, None, None, ASKED),
        (FILE, None, Some(7), hash, USED),
    ] {
        let case = alloc::format!("{source:?} {approx_bytes:?} {sha256:?}");
        let mut world = World::new(&[FILE], []);
        (world.place, world.source) = (Some(place.to_vec()), source.map(str::to_owned));
        let had = world.have(FileWanted { approx_bytes, sha256, ..wanted(None) }).unwrap();
        assert_eq!(had.bytes, 10);
        if let Some(asked) = used {
            assert_eq!((world.asked.as_slice(), world.place.as_deref()), (asked, Some(place)), "{case}");
        } else {
            assert_eq!(world.place.as_deref(), Some(FILE), "{case}");
            assert_eq!(world.source.as_deref(), Some(SOURCE), "{case}");
        }
    }
}

#[test]
fn what_somebody_put_there_is_never_overwritten() {
    let file: &[u8] = b"0123456789";
    let is = "model.gguf can't be downloaded from https://models.test/model.gguf: /models/model.gguf is another file than \
              the one wanted: ";
    let hashed =
        "its SHA-256 is ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad. Move it away";
    for (sha256, says_length, why) in [
        (None, true, "it has 3 bytes, not 10 bytes. Move it away"),
        (None, false, "it has 3 bytes, not an unknown size. Move it away"),
        (Some(digest(file)), true, hashed),
    ] {
        let mut world = World::new(&[file], [Turn { says_length, ..Turn::default() }]);
        world.place = Some(b"abc".to_vec());
        let error = world.have(FileWanted { approx_bytes: Some(10), ..wanted(sha256) }).unwrap_err();
        assert_eq!(error, EngineError::permanent(alloc::format!("{is}{why}")));
        assert_eq!(world.place.as_deref(), Some(b"abc".as_slice()));
    }
    // Nor is what nobody can read.
    let mut download = Download::new(wanted(Some([0; 32])));
    download.next(Seen::Started);
    let found = Found { bytes: 3, modified_ns: 1, sha256: None, source: None };
    assert_eq!(download.next(Seen::Looked(vec![Some(found)])), Step::Hash(PATH.into()));
    let Step::Done(Err(error)) = download.next(Seen::Trouble("no permission".into())) else { panic!() };
    assert!(error.retryable && error.message.ends_with("/models/model.gguf can't be read: no permission"));
}

#[test]
fn a_part_from_elsewhere_goes_on_only_with_a_hash() {
    let file: &[u8] = b"0123456789";
    for (sha256, part_of, from) in [
        (None, SOURCE, 4),
        (None, "https://models.test/other/model.gguf", 0),
        (Some(digest(file)), "https://models.test/other/model.gguf", 4),
    ] {
        let mut world = World::new(&[file], []);
        (world.part, world.part_of) = (file[..4].to_vec(), Some(part_of.into()));
        world.note = (Some("\"0\"".into()), Some(10));
        world.have(wanted(sha256)).unwrap();
        assert_eq!((world.asked.as_slice(), world.place.as_deref()), ([from].as_slice(), Some(file)));
    }
}

#[test]
fn what_nobody_knows_the_size_of_does_not_fill_the_disk() {
    let file: &[u8] = b"0123456789";
    let unsaid = Turn { says_length: false, ..Turn::default() };
    for (free, approx_bytes, fits) in
        [(19, None, false), (20, None, true), (19, Some(9), false), (20, Some(9), true)]
    {
        let mut world = World::new(&[file], [unsaid.clone()]);
        world.room = Room { free, total: 100 };
        match world.have(FileWanted { approx_bytes, ..wanted(Some(digest(file))) }) {
            Ok(_) => assert!(fits),
            Err(error) => {
                assert!(!fits && error.retryable && error.message.contains("is too full"), "{error:?}");
                assert_eq!(world.part, b"", "it takes room for nothing");
            }
        }
    }
}

#[test]
fn what_can_never_be_whole_takes_no_room() {
    for (says_length, total, is_kept) in [(true, 11, true), (true, 10, false), (false, 100, false)] {
        let mut download = Download::new(wanted(None));
        let mut world = World::new(&[b"0123456789"], [Turn { says_length, ..Turn::default() }]);
        let mut seen = Seen::Started;
        let step = loop {
            seen = match download.next(seen) {
                Step::Look(_) => Seen::Looked(vec![None]),
                Step::Lock => Seen::Locked,
                Step::Open => Seen::Opened(Part::default()),
                Step::Fetch(request) => Seen::Answered(world.answer(&request)),
                Step::Room => Seen::Room(None),
                Step::Write(_) => {
                    break download.next(Seen::Written(Written {
                        bytes: 4,
                        sha256: digest(b"0123"),
                        end: End::DiskFull("no space left".into()),
                    }));
                }
                step => panic!("{step:?}"),
            };
        };
        assert_eq!(step, Step::Room);
        let step = download.next(Seen::Room(Some(Room { free: 0, total })));
        assert_eq!(matches!(step, Step::Done(Err(_))), is_kept, "{step:?}");
        assert_eq!(step == Step::Empty, !is_kept, "{step:?}");
    }
}
