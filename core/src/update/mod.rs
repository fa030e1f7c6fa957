//! From a release feed to another version of this program, and back if that one is no good.
//!
//! Everything about an update that can be decided without touching the world belongs here: reading the feed, choosing, the
//! steps of getting a release ready, the trial of a new version, and the way back. Fetching, unpacking, replacing files and
//! starting programs do not: those are the runtime's and the program's, told by this room what to do and in which order.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`feed`] | what releases there are, which one is the newest, and its files for a machine |
//! | [`check`] | asking the feed |
//! | [`schedule`] | when to look, and when to have the worker make way |
//! | [`stage`] | getting a release ready: hash, signature, archive, its own word on its version |
//! | [`trial`] | whether the new version is kept |
//! | [`record`] | what is remembered between starts |
//! | `found` | what others have made ready or put in place meanwhile |

pub mod check;
pub mod feed;
mod found;
pub mod record;
pub mod schedule;
pub mod stage;
pub mod trial;

pub use check::{Asked, Check, CheckFailure};
pub use feed::{Asset, Feed, FeedError, Package, PackageError, Release};
pub use found::Found;
pub use record::{Record, Refused};
pub use schedule::{
    AUTO_UPDATE_TICK, AutoUpdateDecision, AutoUpdater, LoopSchedule, Order, Policy, Situation, choose,
    format_check_outcome,
};
pub use semver::Version;
pub use stage::{Bench, Stage, Wanted};
pub use trial::{SIGN_INTERVAL, TRIAL_TIME, Trial, Verdict};
