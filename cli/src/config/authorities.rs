//! The authorities that a configuration trusts beside the system's.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use studio_worker_core::transport::{CertificateDer, read_authorities};

use super::{ConfigError, ConfigFile, document::Document};

const KEY: &str = "ca_file";
/// Larger files, in bytes, are no certificates: a system's own are half of that.
const MAX_BYTES: u64 = 1024 * 1024;

impl ConfigFile {
    /// The certificates in the file that `ca_file` names; none without the key. A configuration that is missing is made with
    /// the defaults.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let Some(path) = self.load_or_create()?.ca_file else { return Ok(Vec::new()) };
        let authorities = read(&path).map_err(|problem| problem.to_string());
        authorities.and_then(|pem| read_authorities(&pem)).or_else(|problem| {
            let document = Document::parse(&self.read()?).map_err(|syntax| syntax.at(self.path()))?;
            let problem = format!("{}: {problem}", path.display());
            Err(ConfigError::Value {
                path: self.path().to_owned(),
                line: document.line_of(KEY),
                key: KEY,
                problem,
            })
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at before it is opened, since opening a pipe waits.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(pem)
}
