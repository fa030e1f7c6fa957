//! The units as systemd itself reads them.

use std::{fs, process::Command};

use crate::{
    Case, cases,
    rig::{Home, UNIT},
};

pub(crate) const ALL: &[Case] = cases![missing; systemd_finds_nothing_wrong_with_the_units];

fn missing() -> Option<&'static str> {
    Command::new("systemd-analyze").arg("--version").output().is_err().then_some("systemd-analyze")
}

fn systemd_finds_nothing_wrong_with_the_units() {
    for folder in ["plain", "50% of $HOME \"quoted\" ä; it's"] {
        for system in [false, true] {
            let home = Home::with("");
            let place = home.path(folder);
            fs::create_dir(&place).unwrap();
            fs::rename(home.path("config.toml"), place.join("config.toml")).unwrap();
            let config = place.join("config.toml");
            fs::write(&config, "label = 'x'\n").unwrap();
            let mut args = vec!["--config", config.to_str().unwrap(), "install-service", "--print"];
            args.extend(system.then_some("--system"));
            let mut program = Command::new(env!("CARGO_BIN_EXE_studio-worker"));
            program.args(&args).env("HOME", home.dir.path()).env_remove("SUDO_USER");
            let output = program.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let unit = home.path(UNIT);
            fs::write(&unit, &output.stdout).unwrap();
            let whose = if system { "--system" } else { "--user" };
            let verified = Command::new("systemd-analyze")
                .args([whose, "--man=no", "verify"])
                .arg(&unit)
                .env("HOME", home.dir.path())
                .env("XDG_RUNTIME_DIR", home.dir.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            // Managers before 254 don't know a delay that grows, and say that they ignore it.
            let known =
                |line: &&str| !line.contains("'RestartSteps'") && !line.contains("'RestartMaxDelaySec'");
            let complaints: Vec<_> = said.lines().filter(|line| line.contains(UNIT)).filter(known).collect();
            assert!(verified.status.success() && complaints.is_empty(), "{folder} {whose}: {said}");
        }
    }
}
