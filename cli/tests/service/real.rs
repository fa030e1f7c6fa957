//! A real systemd of a user, in namespaces of its own, where a test may start one.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use studio_worker_core::conformance::TestStudio;

use crate::{
    Case, cases,
    rig::{Home, PATIENCE, UNIT},
};

pub(crate) const ALL: &[Case] = cases![missing; systemd_starts_keeps_up_and_removes_the_service];

/// Starts the manager and waits for it. Everything in here ends with its first process, and what it mounts with it.
const BEGIN: &str = r#"
mount -t tmpfs tmpfs /run || exit 1
mkdir -p /run/user/0 /run/systemd/system
export XDG_RUNTIME_DIR=/run/user/0 HOME="$1"
cd "$HOME" || exit 1
/usr/lib/systemd/systemd --user > systemd.log 2>&1 &
for _ in $(seq 600); do
    [ "$(systemctl --user is-system-running 2> /dev/null)" = running ] && break
    sleep 0.1
done
[ "$(systemctl --user is-system-running 2> /dev/null)" = running ] || exit 1
"#;

/// What is special to a shell, to systemd, or to a pattern.
const ODD: &str = "50% of $HOME \"q\" ä; 'it' [x]*";

const SCENE: &str = r#"
CONFIG="$3/config.toml"
mkdir -p "$HOME/.config/systemd/user/minis-studio-worker.service.d"
printf '[Service]\nWatchdogSec=10\nRestartSec=100ms\nLimitCORE=0\nExecStopPost=/bin/sh -c "echo ${SERVICE_RESULT} > /run/user/0/result"\n' > "$HOME/.config/systemd/user/minis-studio-worker.service.d/quick.conf"
worker() { "$2" --config "$CONFIG" "$3" > "$4.new" 2> "$4.err"; echo "exit $?" >> "$4.new"; mv "$4.new" "$4"; }
all_to() { cat > "$1.new"; mv "$1.new" "$1"; }
show() { systemctl --user show --property "$1" --value minis-studio-worker.service; }
until_is() { for _ in $(seq 300); do [ "$(show "$1")" = "$2" ] && return; sleep 0.1; done; }
worker "$1" "$2" install-service installed
until_is ActiveState active
systemctl --user show minis-studio-worker.service | all_to shown
systemctl --user is-enabled minis-studio-worker.service | all_to enabled
kill -STOP "$(show MainPID)"
until_is NRestarts 1
all_to hung < /run/user/0/result
until_is ActiveState active
tr "\\0" "\\n" < "/proc/$(show MainPID)/environ" > environment
show MainPID | all_to again
worker "$1" "$2" uninstall-service uninstalled
show LoadState | all_to left
"#;

/// The scene, or only its beginning, in namespaces of its own.
fn play(home: &Home, scene: &str) -> Command {
    // A group of its own, where the system has one for each of its two ways to count.
    let group = format!("studio-worker-test-{}", std::process::id());
    let join = format!(
        r#"for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
               [ -e "$tree/cgroup.procs" ] && mkdir -p "$tree/{group}" && echo $$ > "$tree/{group}/cgroup.procs"
           done
           timeout 100 unshare --cgroup --mount --pid --fork --kill-child --mount-proc bash -c "$0" bash "$@"
           code=$?
           for tree in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
               [ -e "$tree/{group}" ] || continue
               echo $$ > "$tree/cgroup.procs"
               find "$tree/{group}" -depth -type d -exec rmdir {{}} + 
           done
           exit $code"#
    );
    let mut command = Command::new("bash");
    command.args(["-c", &join, &format!("{BEGIN}{scene}")]);
    command.arg(home.dir.path()).arg(env!("CARGO_BIN_EXE_studio-worker")).arg(home.path(ODD));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn missing() -> Option<&'static str> {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = FOUND.get_or_init(|| play(&Home::with(""), "").status().is_ok_and(|status| status.success()));
    (!found).then_some("systemd that a test can start")
}

/// Waits until there is something in a file.
fn written(home: &Home, name: &str) -> String {
    let since = Instant::now();
    while home.text(name).is_empty() {
        assert!(since.elapsed() < PATIENCE, "nothing is written to {name}: {}", home.text("systemd.log"));
        thread::sleep(Duration::from_millis(20));
    }
    home.text(name)
}

/// It is waited for, so that it clears away behind itself.
struct Scene(Child);

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

fn systemd_starts_keeps_up_and_removes_the_service() {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    fs::create_dir(home.path(ODD)).unwrap();
    fs::rename(home.path("config.toml"), home.path(ODD).join("config.toml")).unwrap();
    fs::write(home.path(ODD).join("environment"), "FROM_A_FILE=yes\n").unwrap();
    let _scene = Scene(play(&home, SCENE).spawn().unwrap());
    // Nobody has welcomed it, and it is installed all the same.
    let upgrading = studio.upgrade();
    let said = written(&home, "installed");
    assert!(said.contains("it runs (") && said.ends_with("exit 0\n"), "{said}{}", home.text("installed.err"));
    assert!(home.text("shown").is_empty(), "it is not ready yet");
    let session = upgrading.accept().welcome();
    let shown = written(&home, "shown");
    let property = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    for (name, value) in [
        ("ActiveState", "active"),
        ("SubState", "running"),
        ("Type", "notify"),
        ("KillMode", "mixed"),
        ("NoNewPrivileges", "yes"),
        ("PrivateTmp", "yes"),
        ("ProtectSystem", "full"),
        ("Restart", "on-failure"),
        ("TimeoutStopUSec", "11min"),
        ("TimeoutStartUSec", "infinity"),
        ("WatchdogUSec", "10s"),
        ("MemoryMax", "34359738368"),
    ] {
        assert_eq!(property(name), Some(value), "{name}");
    }
    assert_eq!(written(&home, "enabled"), "enabled\n");
    // It was stopped: nobody feeds the watchdog, and it comes again.
    assert_eq!(written(&home, "hung"), "watchdog\n");
    drop(session);
    let mut session = studio.session();
    written(&home, "again");
    assert!(home.text("environment").contains("\nFROM_A_FILE=yes\n"), "its file of variables is read");
    assert_eq!(session.closed().0, 1000);
    let said = written(&home, "uninstalled");
    assert!(
        said.contains("removed ") && said.ends_with("exit 0\n"),
        "{said}{}",
        home.text("uninstalled.err")
    );
    assert_eq!(written(&home, "left"), "not-found\n");
    assert!(!fs::exists(home.unit()).unwrap(), "{UNIT}");
}
