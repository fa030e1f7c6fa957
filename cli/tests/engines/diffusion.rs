//! The engine `sd-cpp` with a stand-in of its program, which draws one pixel and remembers how it was called.

use std::fs;

use serde_json::json;

use crate::{
    Case, cases,
    rig::{Place, quoted},
    script::write_script,
};

pub(crate) const ALL: &[Case] = cases![&[]; a_picture_is_drawn_with_the_arguments_of_its_offer];

/// A picture of one pixel.
const PNG: [u8; 70] = *b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\xdac\x64\xf8\xcfP\x0f\0\x03\x86\x01\x80Z4}k\0\0\0\0IEND\xaeB`\x82";

fn a_picture_is_drawn_with_the_arguments_of_its_offer(on: &'static str) {
    let place = Place::new(on, "");
    let root = place.path("models");
    for folder in ["bin", "painter-1"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("pixel.png"), PNG).unwrap();
    let program = root.join("bin/sd-cli");
    let script = "folder=$(dirname \"$0\")/..\nprintf '%s\\n' \"$@\" > \"$folder/arguments\"\n\
                  while [ $# -gt 0 ]; do [ \"$1\" = -o ] && out=$2; shift; done\n\
                  [ -e \"$folder/refuse\" ] && { echo 'loading'; echo 'CUDA error: out of memory' >&2; exit 1; }\n\
                  cp \"$folder/pixel.png\" \"$out\"";
    write_script(&program, script);
    for file in ["painter.safetensors", "vae.safetensors"] {
        fs::write(root.join("painter-1").join(file), b"weights").unwrap();
    }
    fs::write(place.path("config.toml"), format!("engine = \"sd-cpp\"\nmodels_root = {}\n", quoted(&root)))
        .unwrap();
    let file = |role: &str, name: &str| json!({ "role": role, "filename": name, "url": format!("https://files.example/{name}"), "approxBytes": 7 });
    let source = json!({
        "engine": "sd-cpp",
        "files": [file("diffusion-model", "painter.safetensors"), file("vae", "vae.safetensors")],
        "cliDefaults": { "cfgScale": 3.5, "steps": 28, "width": 512, "height": 512, "samplingMethod": "euler",
            "offloadToCpu": true },
    });
    fs::write(place.path("source.json"), source.to_string()).unwrap();
    let draw =
        ["try", "image", "--model", "painter-1", "--model-source", "source.json", "--param", "prompt=a fox"];
    let draw = [&draw[..], &["--param", "width=640", "--param", "seed=7", "--out", "fox.png"]].concat();
    place.says(&draw);
    assert_eq!(fs::read(place.path("fox.png")).unwrap(), PNG);
    let called = fs::read_to_string(root.join("arguments")).unwrap();
    let called: Vec<_> = called.lines().collect();
    let value =
        |flag: &str| called.iter().position(|arg| *arg == flag).and_then(|at| called.get(at + 1)).copied();
    let model = root.join("painter-1/painter.safetensors");
    for (flag, wanted) in [
        ("--diffusion-model", model.to_str().unwrap()),
        ("-p", "a fox"),
        ("--cfg-scale", "3.5"),
        ("--steps", "28"),
        ("-W", "640"),
        ("-H", "512"),
        ("--seed", "7"),
        ("--sampling-method", "euler"),
    ] {
        assert_eq!(value(flag), Some(wanted), "{flag} in {called:?}");
    }
    assert!(called.contains(&"--offload-to-cpu") && called.contains(&"--diffusion-fa"), "{called:?}");

    fs::write(root.join("refuse"), b"").unwrap();
    let error = place.fails(&draw);
    assert!(error.contains("out of memory") && error.contains("exit code 1"), "{error}");
    assert!(place.leftovers().is_empty(), "{:?}", place.leftovers());
}
