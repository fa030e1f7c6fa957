//! How a file is had: looked for, fetched, checked, and put in its place.
//!
//! A [`Download`] is told what happened and says what to do next. What is fetched goes to `<path>.part`, which stays when
//! something fails, so that the next attempt has only the rest to fetch: of this job or the next one, by this process or
//! another. One at a time downloads a file, under a lock; the others wait, and then find it.

use alloc::{
    borrow::ToOwned as _,
    format,
    string::{String, ToString},
    vec::{self, Vec},
};
use core::time::Duration;

use super::{
    FileHad, FileWanted, Origin, Transfer,
    offered::{Offered, Untaken},
    other::{Is, Other},
    size::{Hex, Size, at_most},
    step::{End, Found, Part, Room, Seen, Step, Write, Written},
};
use crate::{
    engine::{
        EngineError,
        input::{Astray, Route},
    },
    http::{FileHead, FileRequest, HttpFailure, Reach},
};

/// How often in a row it is tried without a byte more.
const ATTEMPTS: u32 = 5;
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a server may ask for: a job waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A file that is to be had. Feed it what happened ([`Download::next`]), beginning with [`Seen::Started`], until it says
/// [`Step::Done`].
#[derive(Debug)]
pub struct Download {
    wanted: FileWanted,
    route: Option<Route>,
    state: State,
    /// What was found where, and not yet considered.
    places: vec::IntoIter<(String, Option<Found>)>,
    /// What lies in the place of the file, and is none that serves.
    other: Option<Other>,
    is_locked: bool,
    part: Part,
    /// What the server's last answer announced.
    offered: Offered,
    /// The most that was ever there, in bytes.
    furthest: u64,
    attempts: u32,
    /// The room on the disk, where that is what bounds the file.
    bound: Option<Room>,
    /// A whole file that had the wrong hash.
    spoiled: Option<[u8; 32]>,
}

#[derive(Debug)]
enum State {
    Beginning,
    Looking,
    Hashing(FileHad),
    Locking,
    Opening,
    Asking,
    Measuring,
    Writing,
    Filled(String),
    Emptying(Option<EngineError>),
    Finishing,
    Pausing,
    Over,
}

impl Download {
    /// Of this file nothing is known yet.
    pub fn new(wanted: FileWanted) -> Self {
        Self {
            wanted,
            route: None,
            state: State::Beginning,
            places: Vec::new().into_iter(),
            other: None,
            is_locked: false,
            part: Part::default(),
            offered: Offered::default(),
            furthest: 0,
            attempts: 0,
            bound: None,
            spoiled: None,
        }
    }

    /// What to do next.
    pub fn next(&mut self, seen: Seen) -> Step {
        let state = core::mem::replace(&mut self.state, State::Over);
        match (state, seen) {
            (State::Beginning, Seen::Started) => self.begin(),
            (State::Looking, Seen::Looked(found)) => {
                let places: Vec<_> = self.paths().into_iter().zip(found).collect();
                self.places = places.into_iter();
                self.consider()
            }
            (State::Hashing(had), Seen::Hashed(sha256)) if self.wanted.sha256 == Some(sha256) => {
                Step::Done(Ok(FileHad { content: Hex(&sha256).to_string(), ..had }))
            }
            (State::Hashing(had), Seen::Hashed(sha256)) => self.passed_over(had, Is::Hashed(sha256)),
            (State::Hashing(had), Seen::Trouble(why)) => self.passed_over(had, Is::Unread(why)),
            (State::Locking, Seen::Locked) => {
                self.is_locked = true;
                self.look()
            }
            (State::Opening, Seen::Opened(part)) => {
                self.furthest = part.bytes;
                self.part = part;
                self.ask()
            }
            (State::Asking, Seen::Answered(Ok(head))) => self.answered(&head),
            (State::Asking, Seen::Answered(Err(failure))) => {
                let why = self.route.as_ref().map(|route| route.presentable(&failure)).unwrap_or_default();
                self.again(&why, None)
            }
            (State::Measuring, Seen::Room(room)) => self.measured(room),
            (State::Writing, Seen::Written(written)) => self.written(written),
            (State::Filled(why), Seen::Room(room)) => {
                let all = self.offered.total.or(self.wanted.approx_bytes);
                self.full(all, self.part.bytes, room, Some(&why))
            }
            (State::Emptying(error), Seen::Emptied) => {
                self.part = Part::default();
                match error {
                    Some(error) => self.over(error),
                    None => self.ask(),
                }
            }
            (State::Finishing, Seen::Finished) => {
                let content = Hex(&self.part.sha256).to_string();
                Step::Done(Ok(FileHad { path: self.wanted.path.clone(), bytes: self.part.bytes, content }))
            }
            (State::Pausing, Seen::Paused) => self.ask(),
            (_, Seen::Trouble(why)) => self.over(self.transient(&why)),
            (state, seen) => self.over(self.transient(&format!("{seen:?} came while {state:?}"))),
        }
    }

    /// How far it is, with `bytes` of the file here, after `came` of them came now.
    pub fn transfer(&self, bytes: u64, came: u64) -> Transfer {
        let total = self.offered.total.or(self.part.total).or(self.wanted.approx_bytes);
        let total = total.filter(|total| *total >= bytes);
        Transfer { name: self.name().to_owned(), done: bytes, total, came }
    }

    fn begin(&mut self) -> Step {
        match self.wanted.origin.as_ref().map(route).transpose() {
            Ok(route) => self.route = route,
            Err(why) => return self.over(self.permanent(&format!("its address {why}"))),
        }
        self.look()
    }

    fn paths(&self) -> Vec<String> {
        core::iter::once(&self.wanted.path).chain(&self.wanted.copies).cloned().collect()
    }

    fn look(&mut self) -> Step {
        self.other = None;
        self.state = State::Looking;
        Step::Look(self.paths())
    }

    /// Takes the first file that serves.
    fn consider(&mut self) -> Step {
        let wanted_source = self.wanted.origin.as_ref().map(Origin::source);
        for (path, found) in self.places.by_ref() {
            let Some(found) = found else { continue };
            let content = match &found.sha256 {
                Some(sha256) => Hex(sha256).to_string(),
                None => format!("{} bytes of {} ns", found.bytes, found.modified_ns),
            };
            let had = FileHad { path, bytes: found.bytes, content };
            let is_copy = had.path != self.wanted.path;
            let approx = self.wanted.approx_bytes;
            let is_ours = found.source.is_some();
            let is = match (self.wanted.sha256, found.sha256) {
                // What is only said to be about as large is hashed as well where it lies in the right place.
                (Some(_), _) if is_copy && approx.is_some_and(|approx| approx != found.bytes) => continue,
                (Some(wanted), Some(remembered)) if wanted == remembered => return Step::Done(Ok(had)),
                (Some(_), Some(remembered)) => Is::Hashed(remembered),
                (Some(_), None) => {
                    let path = had.path.clone();
                    self.state = State::Hashing(had);
                    return Step::Hash(path);
                }
                (None, _) => {
                    let is_it = match (wanted_source, &found.source) {
                        // There is nothing better.
                        (None, _) => !is_copy || approx.is_none_or(|approx| approx == found.bytes),
                        (Some(wanted), Some(source)) => wanted == source,
                        (Some(_), None) => approx == Some(found.bytes),
                    };
                    if is_it {
                        return Step::Done(Ok(had));
                    }
                    Is::Unproven
                }
            };
            if !is_copy {
                self.other = Some(Other { had, is_ours, is });
            }
        }
        match (&self.route, &self.other) {
            (None, _) => self.over(EngineError::transient(self.not_here())),
            (Some(_), Some(other @ Other { is_ours: false, is, .. })) => match is {
                Is::Hashed(_) => self.over(self.permanent(&format!("{other}. Move it away"))),
                Is::Unread(_) => self.over(self.transient(&other.to_string())),
                // Its server may know that it is the one.
                Is::Unproven => self.ask(),
            },
            (Some(_), _) if self.is_locked => {
                self.state = State::Opening;
                Step::Open
            }
            (Some(_), _) => {
                self.state = State::Locking;
                Step::Lock
            }
        }
    }

    /// Another file lies there, which was not remembered. A copy that is none doesn't matter.
    fn passed_over(&mut self, had: FileHad, is: Is) -> Step {
        if had.path == self.wanted.path {
            self.other = Some(Other { had, is_ours: false, is });
        }
        self.consider()
    }

    /// Why nothing that is here serves.
    fn not_here(&self) -> String {
        let path = &self.wanted.path;
        match &self.other {
            Some(other) => other.to_string(),
            None => format!("{path} is not there, and nothing says where to get it"),
        }
    }

    /// Where the file comes from, as it is remembered.
    fn source(&self) -> Option<&str> {
        self.wanted.origin.as_ref().map(Origin::source)
    }

    fn ask(&mut self) -> Step {
        let Some(route) = &self.route else { return self.over(self.transient("it has no address")) };
        // A part of nobody knows what goes on only where the hash will tell.
        let is_same = self.part.validator.is_some() && self.part.source.as_deref() == self.source();
        let is_known = is_same || self.wanted.sha256.is_some();
        let is_too_large = self.part.total.is_some_and(|total| self.part.bytes > total);
        let from = if is_known && !is_too_large { self.part.bytes } else { 0 };
        let request = FileRequest {
            url: route.url().to_string(),
            from,
            if_range: self.part.validator.clone().filter(|_| from > 0),
            reach: route.reach(),
        };
        self.part.bytes = from;
        self.state = State::Asking;
        Step::Fetch(request)
    }

    fn answered(&mut self, head: &FileHead) -> Step {
        if Route::is_redirect(head.status) {
            return self.follow(head);
        }
        let offered = match Offered::read(head, &self.part) {
            Ok(offered) => offered,
            Err(Untaken::Complete) => {
                self.offered =
                    Offered { from: self.part.bytes, total: Some(self.part.bytes), validator: None };
                return self.complete();
            }
            Err(Untaken::Other) => {
                self.part = Part::default();
                return self.again("what is there now is another file", None);
            }
            Err(Untaken::Gone(status)) => {
                return self.over(self.permanent(&format!("its server answers {status}")));
            }
            Err(Untaken::Refused(why)) => return self.over(self.transient(&why)),
            Err(Untaken::Later(status, pause)) => {
                return self.again(&format!("its server answers {status}"), pause);
            }
        };
        if let Some(other) = self.other.take_if(|other| !other.is_ours) {
            return match offered.total {
                Some(total) if total == other.had.bytes => Step::Done(Ok(other.had)),
                total => {
                    let wanted = total.map_or("an unknown size".to_owned(), |total| format!("{total} bytes"));
                    let why =
                        format!("{other}: it has {} bytes, not {wanted}. Move it away", other.had.bytes);
                    self.over(self.permanent(&why))
                }
            };
        }
        if let (Some(total), Some(approx)) = (offered.total, self.wanted.approx_bytes)
            && total > at_most(approx)
        {
            let why = format!("it has {}, and only about {} are wanted", Size(total), Size(approx));
            return self.over(self.permanent(&why));
        }
        self.offered = offered;
        self.state = State::Measuring;
        Step::Room
    }

    fn follow(&mut self, head: &FileHead) -> Step {
        // A redirect may hold for one request only, as signatures do: the next attempt begins where this one did.
        let Some(route) = &mut self.route else { return self.ask() };
        let whence = route.shown();
        let followed = route.follow(head.location.as_deref());
        match followed.and_then(|()| checked(route).map_err(Astray::Refused)) {
            Ok(()) => self.ask(),
            Err(Astray::Refused(why)) => {
                self.over(self.permanent(&format!("{whence} leads to an address that {why}")))
            }
            Err(Astray::Lost(why)) => self.over(self.transient(&format!("{whence} {why}"))),
        }
    }

    fn measured(&mut self, room: Option<Room>) -> Step {
        let Offered { from, total, validator } = self.offered.clone();
        let all = total.or(self.wanted.approx_bytes);
        let missing = all.map(|all| all.saturating_sub(from));
        if let Some(room) = room
            && room.free.saturating_sub(missing.unwrap_or(0)) < room.kept()
        {
            return self.full(all, from, Some(room), None);
        }
        // Of what nobody knows how large it is, no more than there is room for.
        let spare = room.map(|room| room.free.saturating_sub(room.kept()));
        let most = spare.map_or(u64::MAX, |spare| from.saturating_add(spare));
        let limit = total.unwrap_or_else(|| most.min(self.wanted.approx_bytes.map_or(u64::MAX, at_most)));
        self.bound = room.filter(|_| total.is_none() && limit == most);
        let source = self.source().map(str::to_owned);
        self.part = Part { bytes: from, total, validator: validator.clone(), source, ..Part::default() };
        self.state = State::Writing;
        Step::Write(Write { from, limit, total, validator })
    }

    fn written(&mut self, Written { bytes, sha256, end }: Written) -> Step {
        self.part.bytes = bytes;
        self.part.sha256 = sha256;
        let total = self.offered.total;
        match end {
            End::Ended if total.is_none_or(|total| bytes >= total) => self.complete(),
            End::Ended => {
                let rest = total.unwrap_or(0).saturating_sub(bytes);
                self.again(&format!("its server ended {} too early", Size(rest)), None)
            }
            End::Broke(why) => {
                let why =
                    self.route.as_ref().map(|route| route.presentable(&HttpFailure(why))).unwrap_or_default();
                self.again(&why, None)
            }
            End::Stalled(span) => {
                self.over(self.transient(&format!("nothing came for {} s", span.as_secs())))
            }
            End::TooMuch if self.bound.is_some() => self.full(None, bytes, self.bound, None),
            End::TooMuch => self.empty(Some(self.transient("its server sends more than it announced"))),
            End::DiskFull(why) => {
                self.state = State::Filled(why);
                Step::Room
            }
            End::Trouble(why) => self.over(self.transient(&why)),
        }
    }

    /// All that the server has is here.
    fn complete(&mut self) -> Step {
        let Part { bytes, sha256, .. } = self.part;
        match (self.wanted.sha256, self.offered.total, self.wanted.approx_bytes) {
            (Some(wanted), ..) if wanted == sha256 => {}
            (Some(wanted), ..) => return self.spoiled(wanted, sha256),
            (None, None, Some(approx)) if bytes != approx => {
                let why = format!("it has {bytes} bytes, and {approx} are wanted");
                return self.empty(Some(self.transient(&why)));
            }
            (None, ..) => {}
        }
        self.state = State::Finishing;
        Step::Finish
    }

    /// Once it may have been the way, or a part of what was there before. Twice the same is what the address stands for,
    /// and fetching it again for another attempt would only cost its price.
    fn spoiled(&mut self, wanted: [u8; 32], sha256: [u8; 32]) -> Step {
        let why = format!("its SHA-256 is {}, and {} is wanted", Hex(&sha256), Hex(&wanted));
        match self.spoiled.replace(sha256) {
            None => self.empty(None),
            Some(before) if before == sha256 => self.empty(Some(self.permanent(&why))),
            Some(_) => self.empty(Some(self.transient(&why))),
        }
    }

    fn empty(&mut self, error: Option<EngineError>) -> Step {
        self.furthest = 0;
        self.attempts = 0;
        self.state = State::Emptying(error);
        Step::Empty
    }

    /// Tries again, unless that has been of no use too often.
    fn again(&mut self, why: &str, asked: Option<Duration>) -> Step {
        if self.part.bytes > self.furthest {
            self.furthest = self.part.bytes;
            self.attempts = 0;
        }
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return self.over(self.transient(why));
        }
        // From the address that was given: what it led to may have been for one request.
        self.route = self.wanted.origin.as_ref().and_then(|origin| route(origin).ok());
        let pause = FIRST_PAUSE * 2_u32.pow(self.attempts - 1);
        self.state = State::Pausing;
        Step::Pause(asked.map_or(pause, |asked| asked.clamp(pause, LONGEST_PAUSE)))
    }

    fn over(&mut self, error: EngineError) -> Step {
        self.state = State::Over;
        Step::Done(Err(error))
    }

    /// The disk is full, with `bytes` of `all` on it. What can never be whole only takes room.
    fn full(&mut self, all: Option<u64>, bytes: u64, room: Option<Room>, why: Option<&str>) -> Step {
        let error = self.is_full(all.map(|all| all.saturating_sub(bytes)), room, why);
        let most = room.map_or(u64::MAX, |room| room.total.saturating_sub(room.kept()));
        if all.is_some_and(|all| all <= most) { self.over(error) } else { self.empty(Some(error)) }
    }

    fn is_full(&self, missing: Option<u64>, room: Option<Room>, why: Option<&str>) -> EngineError {
        let folder = self.wanted.path.rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder);
        let missing = missing.map_or("more".to_owned(), |missing| format!("{} more", Size(missing)));
        let room = room.map_or(String::new(), |room| {
            format!("; {} are free, of which {} are kept", Size(room.free), Size(room.kept()))
        });
        // A quota may be what is full, whatever is free.
        let why = why.map_or(String::new(), |why| format!(" ({why})"));
        self.transient(&format!("the disk of {folder} is too full{why}: it needs {missing}{room}"))
    }

    fn name(&self) -> &str {
        self.wanted.path.rsplit(['/', '\\']).next().unwrap_or_default()
    }

    fn what(&self, why: &str) -> String {
        let whence = self.route.as_ref().map(|route| format!(" from {}", route.shown())).unwrap_or_default();
        format!("{} can't be downloaded{whence}: {why}", self.name())
    }

    fn transient(&self, why: &str) -> EngineError {
        EngineError::transient(self.what(why))
    }

    fn permanent(&self, why: &str) -> EngineError {
        EngineError::permanent(self.what(why))
    }
}

/// The way to a file.
fn route(origin: &Origin) -> Result<Route, String> {
    let route = if origin.host_alone {
        Route::from_home(&origin.url, &origin.url)?
    } else {
        Route::parse(&origin.url, origin.reach)?
    };
    checked(&route)?;
    Ok(route)
}

/// What is run later is fetched over what nobody can change on the way.
fn checked(route: &Route) -> Result<(), &'static str> {
    match route.url().scheme() {
        "https" => Ok(()),
        "http" if route.reach() == Reach::Loopback => Ok(()),
        _ => Err("is not encrypted: https is wanted"),
    }
}
