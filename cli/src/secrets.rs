//! Credentials from elsewhere than the configuration.
//!
//! Each is looked for among systemd's credentials first (`LoadCredential=`, `$CREDENTIALS_DIRECTORY/<name>`), then in the
//! environment, where an `EnvironmentFile=` puts it too, and then in a file, if the configuration names one. An empty one is
//! none. Whatever is found stays out of logs and reports from then on.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use studio_worker_core::wire::Secret;

use crate::logging;

/// Where systemd puts a service's credentials.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// Longer ones, in bytes, are something else.
const MAX_BYTES: u64 = 64 * 1024;

/// A credential, by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Among systemd's credentials.
    pub credential: &'static str,
    /// In the environment, in the order in which they are looked at.
    pub variables: &'static [&'static str],
}

/// The key of the engine `openai`.
pub const OPENAI_API_KEY: Named =
    Named { credential: "openai_api_key", variables: &["STUDIO_WORKER_OPENAI_API_KEY", "OPENAI_API_KEY"] };
/// The token that a worker starts with whose configuration has none yet.
pub const AUTH_TOKEN: Named = Named { credential: "auth_token", variables: &["STUDIO_WORKER_AUTH_TOKEN"] };
/// Whose token that is. It is no secret, but comes with one.
pub const WORKER_ID: Named = Named { credential: "worker_id", variables: &["STUDIO_WORKER_ID"] };
/// Where failures are reported to.
pub const SENTRY_DSN: Named = Named { credential: "sentry_dsn", variables: &["SENTRY_DSN"] };

/// Why a credential that is there can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is nothing in the first line of a file that was named for it.
    #[error("{} has nothing in its first line", .0.display())]
    Empty(PathBuf),
}

impl Named {
    /// Looks for it; none: it is nowhere.
    pub fn find(&self) -> Result<Option<Secret>, SecretError> {
        Ok(self.find_text()?.map(learnt))
    }

    /// The same for what is no secret.
    pub fn find_text(&self) -> Result<Option<String>, SecretError> {
        self.find_by(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Looks for it, last in this file, which must have it then.
    pub fn find_or_in(&self, file: Option<&Path>) -> Result<Option<Secret>, SecretError> {
        match (self.find()?, file) {
            (None, Some(path)) => {
                let text = first_line(path)?.ok_or_else(|| SecretError::Empty(path.to_owned()))?;
                Ok(Some(learnt(text)))
            }
            (found, _) => Ok(found),
        }
    }

    fn find_by(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, SecretError> {
        if let Some(directory) = variable(DIRECTORY).filter(|directory| !directory.is_empty()) {
            match first_line(&Path::new(&directory).join(self.credential)) {
                Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(self.variables.iter().find_map(|name| filled(&variable(name)?)))
    }
}

/// What stands in a file's first line.
fn first_line(path: &Path) -> Result<Option<String>, SecretError> {
    let failed = |source| SecretError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    // Opening a pipe waits.
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    if is_open_to_others(&metadata) {
        log::warn!("{} can be read by every user of this machine: `chmod 600` it", path.display());
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)).map_err(failed)?;
    Ok(filled(text.lines().next().unwrap_or_default()))
}

fn filled(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Not to be seen from now on.
fn learnt(text: String) -> Secret {
    let secret = Secret::from(text);
    logging::learn(&secret);
    secret
}

#[cfg(unix)]
fn is_open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Named = Named { credential: "some_key", variables: &["FIRST", "SECOND"] };

    /// What is found when systemd has these files, and the environment these variables.
    fn found(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let value = |name: &str| match name {
            DIRECTORY => Some(directory.path().display().to_string()),
            name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        KEY.find_by(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_credential_of_systemd_comes_before_a_variable() {
        let both = [("FIRST", "1"), ("SECOND", "2")];
        assert_eq!(found(&[("some_key", " tok \nmore\n"), ("other", "x")], &both).unwrap().unwrap(), "tok");
        assert_eq!(found(&[("other", "x")], &both).unwrap().unwrap(), "1");
        assert_eq!(found(&[("some_key", " \n")], &[("FIRST", " "), ("SECOND", "2")]).unwrap().unwrap(), "2");
        assert_eq!(found(&[], &[]), Ok(None));
    }

    #[test]
    fn one_that_cannot_be_read_is_named_rather_than_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("some_key")).unwrap();
        let place = directory.path().display().to_string();
        let error = KEY.find_by(|name| (name == DIRECTORY).then(|| place.clone())).unwrap_err().to_string();
        assert!(error.contains("some_key can't be read: it is not a regular file"), "{error}");
        let missing = KEY.find_or_in(Some(Path::new("/nowhere/key"))).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/key can't be read"), "{missing}");
        let empty = directory.path().join("empty");
        fs::write(&empty, "\ntok").unwrap();
        let error = KEY.find_or_in(Some(&empty)).unwrap_err().to_string();
        assert!(error.ends_with("empty has nothing in its first line"), "{error}");
    }

    #[test]
    fn what_was_found_stays_out_of_logs() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        fs::write(&file, "tok-of-a-credential\n").unwrap();
        let none = Named { credential: "no_such", variables: &[] };
        assert_eq!(none.find_or_in(Some(&file)).unwrap().unwrap().reveal(), "tok-of-a-credential");
        assert_eq!(logging::scrub("with tok-of-a-credential".into()), "with …");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_anyone_can_read_is_known() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, false), (0o644, true), (0o666, true)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(&fs::metadata(file.path()).unwrap()), open, "{mode:o}");
        }
    }
}
