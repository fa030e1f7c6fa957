//! What programs of the system say of who is at the machine: pure text.

use std::{collections::BTreeMap, time::Duration};

use studio_worker_core::{time::Wall, wire::UserPresence};

/// Without a key or a movement for that long, nobody is there.
const IDLE_AFTER: Duration = Duration::from_secs(300);

/// What `loginctl show-session` is asked for.
pub(super) const PROPERTIES: &str = "Id,Type,Class,State,Remote,Seat,LockedHint,IdleHint,IdleSinceHint";

/// The sessions that `loginctl list-sessions` lists. None of them is mistaken for an option.
pub(super) fn session_ids(listed: &str) -> impl Iterator<Item = &str> {
    let ids = listed.lines().filter_map(|line| line.split_whitespace().next());
    ids.filter(|id| id.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Whether somebody uses one of the sessions that `loginctl show-session` shows.
pub(super) fn logind(shown: &str, now: Wall) -> UserPresence {
    let (mut sessions, mut session) = (Vec::new(), BTreeMap::new());
    for line in shown.lines() {
        match line.split_once('=') {
            Some((key, value)) => {
                if session.contains_key(key) {
                    sessions.push(std::mem::take(&mut session));
                }
                session.insert(key, value.trim());
            }
            None => sessions.push(std::mem::take(&mut session)),
        }
    }
    sessions.push(session);
    let active = sessions.iter().any(|session| is_used(session, now));
    if active { UserPresence::Active } else { UserPresence::Idle }
}

/// Whether a session is one at this machine that somebody uses.
fn is_used(session: &BTreeMap<&str, &str>, now: Wall) -> bool {
    let value = |key| session.get(key).copied().unwrap_or_default();
    // Those of greeters and background jobs, those that are over, and those that another one is in front of.
    if !value("Class").starts_with("user") || value("State") != "active" || value("Remote") == "yes" {
        return false;
    }
    // A desktop that is looked at over a network, such as one of VNC, has no seat, and says it is not remote.
    if value("Seat").is_empty() {
        return false;
    }
    if value("LockedHint") == "yes" || value("IdleHint") == "yes" {
        return false;
    }
    match value("Type") {
        "x11" | "wayland" | "mir" => true,
        // Of a console, logind knows when the last key was pressed; the hint itself comes much later.
        "tty" => {
            let since = value("IdleSinceHint").parse::<i64>().ok().filter(|micros| *micros > 0);
            since.is_none_or(|micros| now.since(Wall::from_millis(micros / 1_000)) < IDLE_AFTER)
        }
        _ => false,
    }
}

/// The same of `ioreg -c IOHIDSystem`, which says how many nanoseconds ago the last input was.
pub(super) fn iokit(tree: &str) -> Option<UserPresence> {
    let after = tree.split("\"HIDIdleTime\"").nth(1)?;
    let number = after.trim_start_matches([' ', '=']);
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let idle = Duration::from_nanos(number[..end].parse().ok()?);
    Some(if idle < IDLE_AFTER { UserPresence::Active } else { UserPresence::Idle })
}

#[cfg(test)]
mod tests {
    use UserPresence::{Active, Idle};

    use super::*;

    /// As systemd 252 and 255 print them.
    const LISTED: &str =
        "     12 1000 ada  seat0 tty2\n      4  120 gdm  seat0 tty1\n     c3 1000 ada  -     pts/0\n";
    const NOW: Wall = Wall::from_millis(1_764_054_000_000);

    #[test]
    fn sessions_are_listed_by_their_first_word() {
        assert_eq!(session_ids(LISTED).collect::<Vec<_>>(), ["12", "4", "c3"]);
        assert_eq!(session_ids("--all 1\n\n  \n").count(), 0);
    }

    #[test]
    fn who_counts_as_being_there() {
        let since = |seconds: i64| format!("IdleSinceHint={}", (NOW.as_millis() - seconds * 1_000) * 1_000);
        let desktop =
            "Type=wayland\nClass=user\nState=active\nRemote=no\nSeat=seat0\nLockedHint=no\nIdleHint=no\n";
        let console = "Type=tty\nClass=user\nState=active\nRemote=no\nSeat=seat0\nIdleHint=no\n";
        for (shown, wanted) in [
            (String::new(), Idle),
            (desktop.to_owned(), Active),
            (desktop.replace("wayland", "x11"), Active),
            (desktop.replace("IdleHint=no", "IdleHint=yes"), Idle),
            (desktop.replace("LockedHint=no", "LockedHint=yes"), Idle),
            (desktop.replace("State=active", "State=online"), Idle),
            (desktop.replace("State=active", "State=closing"), Idle),
            (desktop.replace("Class=user", "Class=greeter"), Idle),
            (desktop.replace("Class=user", "Class=user-early"), Active),
            (desktop.replace("wayland", "unspecified"), Idle),
            (desktop.replace("Seat=seat0", "Seat="), Idle),
            (desktop.replace("Seat=seat0\n", "").replace("wayland", "x11"), Idle),
            (format!("{}{}\n", console.replace("Seat=seat0", "Seat="), since(1)), Idle),
            (format!("{console}{}\n", since(299)), Active),
            (format!("{console}{}\n", since(300)), Idle),
            (format!("{console}{}\n", since(-60)), Active),
            (format!("{console}IdleSinceHint=0\n"), Active),
            (console.to_owned(), Active),
            (format!("{}{}\n", console.replace("Remote=no", "Remote=yes"), since(1)), Idle),
            // Several of them, with an empty line between or without.
            (format!("Id=4\n{}\nId=12\n{desktop}", desktop.replace("user", "greeter")), Active),
            (format!("Id=4\n{}Id=12\n{desktop}", desktop.replace("user", "greeter")), Active),
            (format!("Id=1\n{desktop}\nId=2\n{console}{}\n", since(999)), Active),
            ("garbage\n=\n\n\u{0}".to_owned(), Idle),
        ] {
            assert_eq!(logind(&shown, NOW), wanted, "{shown}");
        }
    }

    #[test]
    fn what_macos_says() {
        let tree = |idle: &str| format!("    | |   \"HIDIdleTime\" = {idle}\n    | |   \"Other\" = 1\n");
        for (tree, wanted) in [
            (tree("1234567"), Some(Active)),
            (tree("299999999999"), Some(Active)),
            (tree("300000000000"), Some(Idle)),
            (tree("\"no\""), None),
            (tree("99999999999999999999999"), None),
            (String::new(), None),
        ] {
            assert_eq!(iokit(&tree), wanted, "{tree}");
        }
    }
}
