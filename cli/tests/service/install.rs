//! Installing and removing, with a stand-in of systemd.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    Case, cases,
    rig::{Home, UNIT},
};

pub(crate) const ALL: &[Case] = cases![|| None;
    a_service_is_installed_started_enabled_and_seen_to_run
    a_service_that_does_not_stay_up_is_an_error_with_the_managers_words
    what_the_manager_refuses_is_said_in_its_words
    a_service_that_waits_for_the_network_is_installed
    without_a_manager_there_is_a_line_that_says_what_to_do
    a_service_is_stopped_disabled_removed_and_seen_to_be_gone
    what_somebody_else_installed_is_left_alone
    what_is_printed_changes_nothing
    a_service_of_the_machine_wants_an_administrator_and_a_user_that_there_is
];

/// systemd as far as it is asked here: a file for each thing that is so, and `refuses` with the word that it refuses.
const SYSTEMCTL: &str = r#"
[ "$1" = --user ] && shift
case " $* " in *" $(cat refuses 2>/dev/null || echo -) "*) echo "Failed: it is refused by the test." >&2; exit 1;; esac
unit="$HOME/.config/systemd/user/minis-studio-worker.service"
case "$1" in
  show)
    case "$3" in Version) echo Version=252; exit 0;; esac
    [ -e started ] || { echo ActiveState=inactive; echo SubState=dead; }
    [ -e started ] && cat state
    echo "FragmentPath=$(cat fragment 2>/dev/null)"
    ;;
  daemon-reload) if [ -e "$unit" ]; then echo "$unit" > fragment; else rm -f fragment; fi;;
  enable) touch enabled;;
  disable) rm -f enabled;;
  restart) touch started;;
  stop) rm -f started;;
  is-enabled) if [ -e enabled ]; then echo enabled; else echo disabled; exit 1; fi;;
  reset-failed) echo "Failed to reset failed state of unit: not loaded" >&2; exit 1;;
esac
"#;

const UP: &str =
    "ActiveState=activating\nSubState=start\nResult=success\nNRestarts=0\nStatusText=connecting\n";
const FAILING: &str =
    "ActiveState=activating\nSubState=auto-restart\nResult=exit-code\nExecMainStatus=1\nNRestarts=0\n";

fn home(state: &str) -> Home {
    let home = Home::with("");
    fs::write(home.path("config.toml"), "label = 'rig'\nmemory_max_gb = 3\n").unwrap();
    home.stand_in("systemctl", SYSTEMCTL);
    home.stand_in("loginctl", "[ \"$1\" = show-user ] && echo Linger=no; exit 0");
    home.stand_in("journalctl", "echo 'error: config.toml, line 1: no'; echo 'it failed'");
    fs::write(home.path("state"), state).unwrap();
    home
}

/// What was asked, by the verbs of systemctl.
fn verbs(home: &Home) -> Vec<String> {
    let asked = home.asked();
    let of_systemctl = asked.iter().filter_map(|line| line.strip_prefix("systemctl --user "));
    of_systemctl.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn a_service_is_installed_started_enabled_and_seen_to_run() {
    let home = home(UP);
    let said = home.prints(&["--runtime", "tokio", "install-service"]);
    assert!(said.contains(UNIT) && said.contains("it runs (connecting)"), "{said}");
    assert!(said.contains("loginctl enable-linger"), "{said}");
    let asked = home.asked();
    assert!(asked.contains(&format!("systemctl --user restart --no-block {UNIT}")), "{asked:?}");
    assert!(
        asked.iter().any(|line| line.starts_with("loginctl --no-ask-password enable-linger ")),
        "{asked:?}"
    );
    let verbs: Vec<_> = asked.iter().filter_map(|line| line.strip_prefix("systemctl --user ")).collect();
    let verbs: Vec<_> = verbs.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let order = ["show", "daemon-reload", "enable", "reset-failed", "restart", "show"];
    assert_eq!(verbs[..6], order, "{asked:?}");
    assert!(home.path("enabled").exists() && home.path("started").exists());
    let unit = fs::read_to_string(home.unit()).unwrap();
    let config = home.path("config.toml");
    let line = format!(
        "ExecStart={} --config {} --runtime tokio run --service\n",
        env!("CARGO_BIN_EXE_studio-worker"),
        config.display()
    );
    // The default is not named, so that it may change.
    assert!(unit.contains(&line) && unit.contains("MemoryMax=3G\n"), "{unit}");
    let path = format!("\nEnvironment=\"PATH={}:/usr/local/bin:", home.path("bin").display());
    assert!(unit.contains(&path), "engines are found where this user finds them: {unit}");
    assert_eq!(fs::metadata(home.unit()).unwrap().permissions().mode() & 0o777, 0o644);

    // A second time replaces it, and leaves nothing else behind.
    home.prints(&["install-service"]);
    let unit = fs::read_to_string(home.unit()).unwrap();
    assert!(unit.contains("config.toml run --service\n"), "{unit}");
    assert!(home.asked().contains(&format!("systemctl --user restart --no-block {UNIT}")));
    assert_eq!(fs::read_dir(home.unit().parent().unwrap()).unwrap().count(), 1);
}

fn a_service_that_does_not_stay_up_is_an_error_with_the_managers_words() {
    for state in [
        FAILING,
        "ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\n",
        // It was up for a moment, again.
        "ActiveState=activating\nSubState=start\nResult=success\nExecMainStatus=1\nNRestarts=3\n",
    ] {
        let home = home(state);
        let error = home.fails(&["install-service"]);
        assert!(error.contains(UNIT) && error.contains("does not run"), "{error}");
        assert!(error.contains("ExecMainStatus=1"), "{error}");
        assert!(
            error.contains("error: config.toml, line 1: no it failed"),
            "with the end of its log: {error}"
        );
        assert!(error.contains("uninstall-service"), "{error}");
    }
}

fn what_the_manager_refuses_is_said_in_its_words() {
    for verb in ["daemon-reload", "enable", "restart", "is-enabled"] {
        let home = home(UP);
        fs::write(home.path("refuses"), verb).unwrap();
        let error = home.fails(&["install-service"]);
        assert!(error.starts_with(&format!("`systemctl --user {verb}")), "{verb}: {error}");
        assert!(error.ends_with("Failed: it is refused by the test."), "{error}");
    }
    for verb in ["stop", "disable"] {
        let home = home(UP);
        home.prints(&["install-service"]);
        fs::write(home.path("refuses"), verb).unwrap();
        let error = home.fails(&["uninstall-service"]);
        assert!(error.starts_with(&format!("`systemctl --user {verb}")), "{verb}: {error}");
        assert!(home.unit().exists(), "what still runs keeps its unit");
    }
}

fn a_service_that_waits_for_the_network_is_installed() {
    let home = home("ActiveState=activating\nSubState=start\nNRestarts=0\nStatusText=waiting: no network\n");
    let said = home.prints(&["install-service"]);
    assert!(said.contains("it runs (waiting: no network)"), "{said}");
}

fn without_a_manager_there_is_a_line_that_says_what_to_do() {
    let home = home(UP);
    fs::write(home.path("refuses"), "Version").unwrap();
    for command in ["install-service", "uninstall-service"] {
        let error = home.fails(&[command]);
        assert!(
            error.contains("Failed: it is refused by the test.") && error.contains("--system"),
            "{error}"
        );
        assert_eq!(verbs(&home), ["show"], "nothing else is asked");
    }
    let unreachable = |command: &str| {
        let mut program = home.program(&[command]);
        program.env("PATH", home.path("nothing"));
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for command in ["install-service", "uninstall-service"] {
        let error = unreachable(command);
        assert!(error.contains("`systemctl` can't be run") && error.contains("studio-worker run"), "{error}");
    }
    assert!(!home.unit().exists(), "and nothing is written");
}

fn a_service_is_stopped_disabled_removed_and_seen_to_be_gone() {
    let home = home(UP);
    let said = home.prints(&["uninstall-service"]);
    assert_eq!(said, format!("there is no {UNIT} to remove\n"));
    home.prints(&["install-service"]);
    home.asked();
    let said = home.prints(&["uninstall-service"]);
    assert_eq!(said, format!("removed {}\n", home.unit().display()));
    assert_eq!(
        verbs(&home),
        ["show", "show", "stop", "disable", "daemon-reload", "reset-failed", "show", "show"]
    );
    for left in [home.path("enabled"), home.path("started"), home.unit()] {
        assert!(!left.exists(), "{}", left.display());
    }
    assert_eq!(home.prints(&["uninstall-service"]), format!("there is no {UNIT} to remove\n"));
}

fn what_somebody_else_installed_is_left_alone() {
    let home = home(UP);
    fs::write(home.path("fragment"), "/usr/lib/systemd/user/minis-studio-worker.service").unwrap();
    let error = home.fails(&["uninstall-service"]);
    assert!(error.contains("/usr/lib/systemd/user/") && error.contains("did not write"), "{error}");
    assert_eq!(verbs(&home), ["show", "show"]);
}

fn what_is_printed_changes_nothing() {
    let home = home(UP);
    fs::remove_file(home.path("config.toml")).unwrap();
    let unit = home.prints(&["install-service", "--print"]);
    assert!(unit.contains("[Unit]\n") && unit.contains("Type=notify\n"), "{unit}");
    assert!(home.asked().is_empty() && !home.unit().exists() && !home.path("config.toml").exists());
    home.prints(&["install-service"]);
    assert_eq!(fs::read_to_string(home.unit()).unwrap(), unit, "what is printed is what is installed");
    // What can't be installed can't be printed either.
    fs::write(home.path("config.toml"), "memory_max_gb = 'much'\n").unwrap();
    assert!(home.fails(&["install-service", "--print"]).contains("`memory_max_gb`"));
}

fn a_service_of_the_machine_wants_an_administrator_and_a_user_that_there_is() {
    let home = home(UP);
    let unit = home.prints(&["install-service", "--system", "--print", "--user", "daemon"]);
    assert!(unit.contains("\nUser=daemon\n") && unit.contains("\nProtectSystem=strict\n"), "{unit}");
    let error = home.fails(&["install-service", "--system", "--print", "--user", "nobody-of-that-name"]);
    assert!(error.contains("`nobody-of-that-name`"), "{error}");
    // A configuration of one's own is wanted then.
    let mut program = home.program(&["install-service", "--system", "--print", "--user", "daemon"]);
    let mut bare = std::process::Command::new(program.get_program());
    bare.args(program.get_args().skip(2)).env_clear().env("HOME", home.dir.path());
    bare.env("PATH", "/usr/bin:/bin");
    let output = bare.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("there is no configuration at") && error.contains("as daemon first"), "{error}");
    assert_eq!(home.run(&["install-service", "--user", "daemon"]).code, 2, "only together with --system");
    // As somebody who is no administrator, where this test may become one.
    let setpriv = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let mut lowly = std::process::Command::new("setpriv");
    lowly.args(setpriv).arg(program.get_program()).args(["install-service", "--system"]);
    program = lowly;
    if let Ok(output) = program.output()
        && let error = String::from_utf8_lossy(&output.stderr).into_owned()
        && error.starts_with("error: ")
    {
        assert!(error.contains("sudo"), "{error}");
    }
}
