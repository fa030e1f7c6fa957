//! The worker's promises, one test each, in virtual time.

mod acknowledgements;
mod admission;
mod drain;
mod ends;
mod happy_path;
mod held;
mod invariants;
mod jobs;
mod limits;
mod logs;
mod making_way;
mod offers;
mod orphans;
mod parked;
mod progress;
mod records;
mod registration;
mod revoked;
mod rig;
mod session;
mod settings;
mod taken;
mod time;
mod uploads;
