//! Engines on the real thing: programs and servers as people have them. `.ci/real` gets them; what isn't here names its
//! tests as skipped. What needs nothing real (a stand-in of a program, the program itself) always runs.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(target_os = "linux")]
mod chat;
#[cfg(target_os = "linux")]
mod children;
#[cfg(target_os = "linux")]
mod diffusion;
#[cfg(target_os = "linux")]
mod gradio;
#[cfg(target_os = "linux")]
#[path = "../studio/http.rs"]
#[allow(dead_code, reason = "shared with the tests of the studio")]
mod http;
#[cfg(target_os = "linux")]
mod large;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod real;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
#[path = "../program/script.rs"]
mod script;
#[cfg(target_os = "linux")]
mod speech;
#[cfg(target_os = "linux")]
#[path = "../faults/studio.rs"]
#[allow(dead_code, reason = "shared with the tests against faults")]
mod studio;
#[cfg(target_os = "linux")]
mod trial;

#[cfg(target_os = "linux")]
fn main() {
    let all = [
        large::ALL,
        speech::ALL,
        gradio::ALL,
        chat::ALL,
        diffusion::ALL,
        children::ALL,
        memory::ALL,
        trial::ALL,
    ];
    let mut trials = Vec::new();
    for Case { name, needs, test } in all.concat() {
        let missing: Vec<_> = needs.iter().filter(|need| !need.is_here()).map(|need| need.name()).collect();
        for on in ["async-std", "tokio"] {
            let trial = libtest_mimic::Trial::test(format!("{on}::{name}"), move || {
                test(on);
                Ok(())
            });
            trials.push(if missing.is_empty() {
                trial
            } else {
                trial.with_kind(format!("SKIPPED, no {}", missing.join(", no "))).with_ignored_flag(true)
            });
        }
    }
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Most of it waits.
    arguments.test_threads.get_or_insert(6);
    libtest_mimic::run(&arguments, trials).exit();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

/// A test on a runtime, and what it needs.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    needs: &'static [Need],
    test: fn(&'static str),
}

/// Something real.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy)]
enum Need {
    Program(&'static str),
    Python(&'static str),
    File(&'static str),
}

#[cfg(target_os = "linux")]
impl Need {
    fn is_here(self) -> bool {
        match self {
            Self::Program(name) => real::program(name).is_some(),
            Self::Python(name) => real::python(name).is_some(),
            Self::File(name) => real::file(name).is_some(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Program(name) | Self::Python(name) | Self::File(name) => name,
        }
    }
}

/// The tests of a module, by their names, with what all of them need.
#[cfg(target_os = "linux")]
macro_rules! cases {
    ($needs:expr; $($test:ident)*) => {
        &[$($crate::Case { name: stringify!($test), needs: $needs, test: $test },)*]
    };
}
#[cfg(target_os = "linux")]
use cases;
