//! The program as a service: with stand-ins of a service manager, and with the real one where a test can start it. What
//! isn't here names its tests as skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(target_os = "linux")]
mod analyzed;
#[cfg(target_os = "linux")]
mod held;
#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "shared with the other tests of the program")]
#[path = "../program/home.rs"]
mod home;
#[cfg(target_os = "linux")]
mod install;
#[cfg(target_os = "linux")]
mod notified;
#[cfg(target_os = "linux")]
mod real;
#[cfg(target_os = "linux")]
mod release;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
#[path = "../program/script.rs"]
mod script;
#[cfg(target_os = "linux")]
mod signed;

#[cfg(target_os = "linux")]
fn main() {
    let trials =
        [install::ALL, notified::ALL, held::ALL, analyzed::ALL, real::ALL, release::ALL, signed::ALL]
            .concat();
    let trials = trials.into_iter().map(|Case { name, missing, test }| {
        let trial = libtest_mimic::Trial::test(name, move || {
            test();
            Ok(())
        });
        match missing() {
            None => trial,
            Some(what) => trial.with_kind(format!("SKIPPED, no {what}")).with_ignored_flag(true),
        }
    });
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Most of it waits.
    arguments.test_threads.get_or_insert(6);
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

/// A test, and what of its needs isn't here.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    missing: fn() -> Option<&'static str>,
    test: fn(),
}

/// The tests of a module, by their names.
#[cfg(target_os = "linux")]
macro_rules! cases {
    ($missing:expr; $($test:ident)*) => {
        &[$($crate::Case { name: stringify!($test), missing: $missing, test: $test },)*]
    };
}
#[cfg(target_os = "linux")]
use cases;
