//! Prints the public surface of a crate, an item a line, from rustdoc's JSON.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args().nth(1).ok_or("usage: surface RUSTDOC-JSON")?;
    let surface = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    print!("{surface}");
    Ok(())
}
