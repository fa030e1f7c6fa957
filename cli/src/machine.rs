//! What this machine is.

/// Its host name.
pub fn host_name() -> String {
    named(whoami::hostname().ok(), "HOSTNAME")
}

/// The user that this program runs as.
pub fn user_name() -> String {
    named(whoami::username().ok(), "USER")
}

/// What the system says, else the environment, else that it is not known: a container may have no name for its user.
fn named(system: Option<String>, variable: &str) -> String {
    system
        .into_iter()
        .chain(std::env::var(variable).ok())
        .find(|name| !name.trim().is_empty())
        .unwrap_or_else(|| "unknown".into())
}
