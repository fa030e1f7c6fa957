//! Tells the program which target it is built for: its updates are archives for that one.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=STUDIO_WORKER_TARGET={target}");
}
