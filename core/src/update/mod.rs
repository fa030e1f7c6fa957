//! From a release feed to a decision: whether there is a newer version of this program, and what it is made of.
//!
//! Everything about an update that can be decided without touching the world belongs here: reading the feed, choosing,
//! the steps of an installation and of the way back. Fetching, unpacking, replacing files and starting programs do not:
//! those are the runtime's and the program's, told by this room what to do and in which order.
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`feed`] | what releases there are, which one is the newest, and its files for a machine |

pub mod feed;

pub use feed::{Asset, Feed, FeedError, Package, PackageError, Release};
pub use semver::Version;
