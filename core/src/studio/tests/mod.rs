//! How a studio behaves, rule by rule.

mod anything;
mod deliveries;
mod fingerprint;
mod jobs;
mod offers;
mod registration;
mod restart;
mod rig;
mod sessions;
mod together;
