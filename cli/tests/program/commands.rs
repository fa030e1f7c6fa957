//! The subcommands that read and change the configuration, and end.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{Home, said};

/// As a published worker leaves it after its approval.
const APPROVED: &str = r#"api_base_url = "http://127.0.0.1:9"
worker_id = "w-1"
auth_token = "tok-7f3a9c"
registration_secret = "0123456789abcdef"
vram_threshold_gb = 24.0
auto_start = false
auto_enabled = true
engine = "synthetic"
engines = []
supported_models_override = []
auto_update_enabled = false
auto_update_interval_secs = 600
label = "my machine"
"#;

#[test]
fn status_prints_what_scripts_read() {
    let home = Home::with(APPROVED);
    let wanted = format!(
        "config path:        {}
api_base_url:       http://127.0.0.1:9
registration:       approved as w-1
label:              my machine
engine:             synthetic
vram_threshold_gb:  24
auto_enabled:       true
auto_start:         false
auto_update:        false
update_interval:    600s

",
        home.config().display()
    );
    assert_eq!(home.prints(&["status"]), wanted);
}

#[test]
fn status_says_where_the_registration_stands() {
    for (config, wanted) in [
        ("#", "not registered (will auto-register on next launch)"),
        (
            "install_id = 'i'\nregistration_secret = 'f00dcafe'",
            "not registered (will auto-register on next launch)",
        ),
        ("registration_request_id = 'rr-7'", "pending operator approval (request rr-7)"),
        ("registration_rejected = 'not you'", "rejected (not you)"),
        ("registration_rejected = ''", "rejected (no reason given)"),
        ("worker_id = 'w-1'\nauth_token = 't0ken'\nregistration_request_id = 'rr-7'", "approved as w-1"),
        ("worker_id = 'w-1'", "not registered (will auto-register on next launch)"),
        ("registration_rejected = \"two\\nregistration: lines\"", "rejected (two registration: lines)"),
    ] {
        let status = Home::with(config).prints(&["status"]);
        let line = status.lines().find(|line| line.starts_with("registration:")).unwrap();
        assert_eq!(line, format!("registration:       {wanted}"), "{config}");
        assert!(!status.contains("label:") && !status.contains("t0ken"), "{status}");
    }
}

#[test]
fn status_as_json() {
    let home = Home::with(APPROVED);
    let status: Value = serde_json::from_str(&home.prints(&["status", "--json"])).unwrap();
    let wanted = json!({
        "version": studio_worker::VERSION,
        "configPath": home.config().display().to_string(),
        "running": false,
        "runningPid": null,
        "apiBaseUrl": "http://127.0.0.1:9",
        "registration": { "state": "approved", "workerId": "w-1" },
        "label": "my machine",
        "engine": "synthetic",
        "engines": [],
        "vramThresholdGb": 24,
        "autoEnabled": true,
        "autoStart": false,
        "autoUpdate": false,
        "updateIntervalSecs": 600,
    });
    assert_eq!(status, wanted);
}

#[test]
fn the_configuration_is_where_the_system_keeps_such_files() {
    let home = Home::new();
    let first = said(home.bare().arg("config"));
    let path = if cfg!(target_os = "macos") {
        "Library/Application Support/gg.minis.minis-studio-worker/config.toml"
    } else {
        ".config/minis-studio-worker/config.toml"
    };
    if !cfg!(windows) {
        let path = home.dir.path().join(path);
        assert_eq!(first.out.lines().next().unwrap(), format!("# {}", path.display()));
        assert!(path.is_file() && first.err.contains("made"), "{}", first.err);
    }
    #[cfg(target_os = "linux")]
    {
        let xdg = said(home.bare().env("XDG_CONFIG_HOME", home.dir.path().join("xdg")).arg("status"));
        let path = home.dir.path().join("xdg/minis-studio-worker/config.toml");
        assert_eq!(xdg.out.lines().next().unwrap(), format!("config path:        {}", path.display()));
    }
}

#[test]
fn config_prints_toml_without_secrets() {
    let home = Home::with(APPROVED);
    let shown = home.prints(&["config"]);
    let wanted = format!(
        "# {}
api_base_url = \"http://127.0.0.1:9\"
worker_id = \"w-1\"
auth_token = \"…\"
vram_threshold_gb = 24.0
auto_start = false
auto_enabled = true
engine = \"synthetic\"
engines = []
supported_models_override = []
auto_update_enabled = false
auto_update_interval_secs = 600
auto_update_feed = \"https://api.github.com/repos/webbertakken/studio-worker/releases\"
auto_update_prerelease = false
label = \"my machine\"
registration_secret = \"…\"
",
        home.config().display()
    );
    assert_eq!(shown, wanted);
}

#[test]
fn switches_and_threshold_are_stored_and_said() {
    let home = Home::with("# mine\nauto_enabled = true # why\n");
    assert_eq!(home.prints(&["disable"]), "auto_enabled = false\n");
    assert_eq!(home.text(), "# mine\nauto_enabled = false # why\n");
    assert_eq!(home.prints(&["enable"]), "auto_enabled = true\n");
    for (given, said) in [("12", "12"), ("12.5", "12.5"), ("0", "0"), ("0.1", "0.1"), ("1e2", "100")] {
        assert_eq!(home.prints(&["set-threshold", given]), format!("vram_threshold_gb = {said}\n"));
        let status = home.prints(&["status"]);
        assert!(status.contains(&format!("\nvram_threshold_gb:  {said}\n")), "{status}");
    }
    assert_eq!(home.text(), "# mine\nauto_enabled = true # why\nvram_threshold_gb = 100.0\n");
}

#[test]
fn register_stores_what_the_next_registration_says() {
    let home = Home::with("# mine\n");
    home.prints(&["register", "--api-base-url", " http://127.0.0.1:8700/ ", "--label", " alice's rig "]);
    assert_eq!(home.text(), "# mine\napi_base_url = \"http://127.0.0.1:8700/\"\nlabel = \"alice's rig\"\n");
    home.prints(&["register", "--label", " "]);
    assert_eq!(home.text(), "# mine\napi_base_url = \"http://127.0.0.1:8700/\"\n");
}

#[test]
fn register_reset_forgets_who_this_worker_is_and_nothing_else() {
    let home = Home::with(&format!(
        "{APPROVED}install_id = 'i'\nregistration_request_id = 'r'\nregistration_rejected = ''\n"
    ));
    let said = home.prints(&["register"]);
    assert!(said.contains("stays registered as w-1") && said.contains("--reset"), "{said}");
    let forgotten = ["worker_id", "auth_token", "registration_secret"];
    let kept =
        APPROVED.split_inclusive('\n').filter(|line| !forgotten.iter().any(|key| line.starts_with(key)));
    let kept: String = kept.collect();
    assert!(home.prints(&["register", "--reset"]).contains("http://127.0.0.1:9"));
    assert_eq!(home.text(), kept);
}

#[test]
fn a_wrong_address_is_refused_and_changes_nothing() {
    let home = Home::with("label = 'x'\n");
    for (url, wanted) in [
        ("ftp://h", "`api_base_url` has the scheme `ftp`"),
        ("studio.example", "`api_base_url` is not a URL"),
        ("http://", "`api_base_url` names no host"),
        ("https://me:hunter2@h", "`api_base_url` has a user name or password"),
    ] {
        let error = home.fails(&["register", "--api-base-url", url]);
        assert!(error.contains(wanted) && !error.contains("hunter2"), "{error}");
    }
    assert_eq!(home.text(), "label = 'x'\n");
}

#[test]
fn what_comes_later_says_so() {
    let home = Home::new();
    let error = home.fails(&["ui"]);
    assert!(error.starts_with("`ui` is not in this version") && error.contains("later"), "{error}");
    assert!(!home.config().exists());
}

#[test]
fn a_broken_configuration_fails_every_subcommand_and_stays_as_it_is() {
    for text in [
        "",
        "\0\0\0\0",
        "auth_token = \"tok-7f3a9c\nlabel = 'x'\n",
        "auto_start = 'tok-7f3a9c'\n",
        "engine = 'warp'\n",
    ] {
        let home = Home::with(text);
        for args in [
            &["status"][..],
            &["status", "--json"],
            &["config"],
            &["enable"],
            &["set-threshold", "4"],
            &["register", "--label", "x"],
            &["run"],
        ] {
            let error = home.fails(args);
            assert!(error.starts_with(&format!("{}, line 1", home.config().display())), "{args:?}: {error}");
            assert!(!error.contains("tok-7f3a9c"), "{error}");
            assert_eq!(home.text(), text);
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let home = Home::with("a file, no directory");
    let path = home.config().join("config.toml");
    for args in [&["status"][..], &["enable"], &["run"]] {
        let failed = said(home.bare().arg("--config").arg(&path).args(args));
        assert_eq!((failed.code, failed.out.as_str()), (1, ""));
        let last = failed.err.lines().last().unwrap();
        assert!(last.starts_with("error: cannot ") && last.contains("config.toml"), "{last}");
    }
}

/// A file system without room, as far as a program can tell: no file may grow.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_costs_nothing() {
    let home = Home::with(APPROVED);
    let program = home.program(&["set-threshold", "4"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(program.get_program());
    let failed = said(limited.args(program.get_args()));
    assert_eq!(failed.code, 1);
    assert!(
        failed.err.starts_with("error: cannot write ") && failed.err.lines().count() == 1,
        "{}",
        failed.err
    );
    assert_eq!(home.text(), APPROVED);
    let left: Vec<_> =
        fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "only the file and its lock: {left:?}");
}

#[test]
fn commands_at_the_same_time_lose_nothing() {
    let home = Home::with("# mine\n");
    let all = [
        &["disable"][..],
        &["set-threshold", "4.5"],
        &["register", "--label", "x"],
        &["register", "--api-base-url", "http://h"],
    ];
    let children: Vec<_> = all.iter().map(|args| home.program(args).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut lines: Vec<_> = home.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "# mine");
    lines.sort();
    assert_eq!(
        lines,
        ["api_base_url = \"http://h\"", "auto_enabled = false", "label = \"x\"", "vram_threshold_gb = 4.5"]
    );
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::with("#\n");
    let mut command = home.program(&["completions", "bash"]);
    let mut child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
}
