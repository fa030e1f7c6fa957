//! The text of a unit.

use std::{fmt::Write as _, path::Path};

use super::{NAME, WATCHDOG_SECS};
use crate::service::description::Service;

/// The unit of a service.
pub(in crate::service) fn unit(service: &Service) -> String {
    let Service { system, .. } = service;
    let whose = if *system { "" } else { " --user" };
    let option = if *system { " --system" } else { "" };
    let mut unit = format!(
        "# Made by `studio-worker install-service{option}`, which also replaces it; `studio-worker uninstall-service{option}`\n\
         # removes it. What you want otherwise belongs into `systemctl{whose} edit {NAME}`.\n\
         [Unit]\n\
         Description=Studio worker: takes jobs from a studio and runs them on this machine\n"
    );
    let mut line = |text: &str| {
        // Writing to a text can't fail.
        let _ = writeln!(unit, "{text}");
    };
    // A target waits for what it wants, unless that is behind it.
    line(
        "# It may wait for the network or for an operator's approval as long as it takes, and nothing waits for it.",
    );
    if *system {
        line("Wants=network-online.target");
        line("After=network-online.target multi-user.target");
    } else {
        line("After=default.target");
    }
    line("StartLimitIntervalSec=0");

    line("\n[Service]");
    line("# Ready when a studio has welcomed it. It says at every moment what it waits for.");
    line("Type=notify");
    line("NotifyAccess=main");
    line("TimeoutStartSec=infinity");
    line(&format!("ExecStart={}", command_line(service)));
    line(&format!("EnvironmentFile=-{}", file_name(&service.environment)));
    if let Some(path) = &service.path {
        line("# As it was when this was made: programs of engines are looked for there.");
        line(&format!("Environment={}", always_quoted(&format!("PATH={path}"))));
    }
    if *system {
        line(&format!("User={}", specifiers(&service.user)));
    }
    line("# Fed by the loop that drives the worker.");
    line(&format!("WatchdogSec={WATCHDOG_SECS}"));
    line("TimeoutAbortSec=30");
    line("# A running job has ten minutes to be finished and delivered, and its engine that long to live.");
    line(&format!("TimeoutStopSec={}", Service::stop_secs()));
    line("KillMode=mixed");
    line(
        "# After a refusal (of its token, of its registration, since its id is used elsewhere) the program itself waits",
    );
    line("# for five minutes before it ends.");
    line("Restart=on-failure");
    line("RestartSec=5");
    line("RestartSteps=6");
    line("RestartMaxDelaySec=60");
    if service.memory_max_gb > 0 {
        line(
            "# `memory_max_gb` of the configuration, as it was when this was made. What is killed for it is the engine's",
        );
        line("# process that is too large, not the worker.");
        line(&format!("MemoryMax={}G", service.memory_max_gb));
        line("OOMPolicy=continue");
    }

    line(
        "\n# Devices stay as they are, and memory may be written and executed: GPUs and their compilers need both.",
    );
    line("NoNewPrivileges=yes");
    line("PrivateTmp=yes");
    line("LockPersonality=yes");
    line("RestrictRealtime=yes");
    line("RestrictSUIDSGID=yes");
    line("SystemCallArchitectures=native");
    line("UMask=0077");
    if *system {
        line("ProtectSystem=strict");
        // Of homes, strict says nothing.
        line("ProtectHome=read-only");
        line("ProtectControlGroups=yes");
        line("ProtectHostname=yes");
        line("ProtectKernelLogs=yes");
        line("ProtectKernelModules=yes");
        line("ProtectKernelTunables=yes");
        line("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK");
        line("CapabilityBoundingSet=");
    } else {
        // Strict would keep engines from their own caches in the user's home, and what drops capabilities is refused to
        // a user's manager.
        line("ProtectSystem=full");
    }
    line(
        "# Its configuration, models and caches, and the folder of the program, if it is the user's, for updates.",
    );
    for folder in &service.writable {
        line(&format!("ReadWritePaths={}", quoted(&format!("-{folder}"))));
    }
    let hidden =
        |folder: &&str| Path::new(folder).starts_with("/tmp") || Path::new(folder).starts_with("/var/tmp");
    let kept: Vec<_> = service.writable.iter().map(String::as_str).filter(hidden).collect();
    let program = Path::new(&service.program).parent().and_then(Path::to_str);
    let program = program.filter(hidden).filter(|folder| !kept.contains(folder));
    if !kept.is_empty() || program.is_some() {
        line("# These would be hidden by a private folder for temporary files.");
    }
    for folder in kept {
        line(&format!("BindPaths={}", always_quoted(&format!("-{folder}"))));
    }
    if let Some(folder) = program {
        line(&format!("BindReadOnlyPaths={}", always_quoted(&format!("-{folder}"))));
    }

    line("\n[Install]");
    line(if *system { "WantedBy=multi-user.target" } else { "WantedBy=default.target" });
    unit
}

/// The program and its arguments.
fn command_line(service: &Service) -> String {
    let arguments = service.arguments();
    let words: Vec<_> = std::iter::once(&*service.program).chain(arguments).map(quoted).collect();
    // Variables are not replaced then. Managers before 244 don't know that, so it is asked for only where it matters.
    let plain = words.iter().all(|word| !word.contains('$'));
    let words = words.join(" ");
    if plain { words } else { format!(":{words}") }
}

/// A text without its specifiers.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word among others.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-+@:,%=".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        return specifiers(word);
    }
    always_quoted(word)
}

/// One with a colon in it, where that means something.
fn always_quoted(word: &str) -> String {
    format!("\"{}\"", specifiers(word).replace('\\', r"\\").replace('"', "\\\""))
}

/// A file's name on a line of its own, which is a pattern.
fn file_name(path: &str) -> String {
    let mut name = String::new();
    for character in specifiers(path).chars() {
        if "\\*?[]".contains(character) {
            name.push('\\');
        }
        name.push(character);
    }
    name
}
