mod files;
mod merge;
mod reading;
mod watching;

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use super::{Config, ConfigError, ConfigFile};

/// What 0.2.0 writes after its approval.
const PUBLISHED_0_2: &str = r#"api_base_url = "https://studio.minis.gg"
worker_id = "w-0123"
auth_token = "tok-of-generation-0.2"
vram_threshold_gb = 0.10000000149011612
auto_start = true
auto_enabled = false
engine = "synthetic"
engines = []
supported_models_override = ["my-model"]
auto_update_enabled = true
auto_update_interval_secs = 1800
auto_update_feed = "https://api.github.com/repos/webbertakken/studio-worker/releases"
auto_update_prerelease = false
install_id = "11111111-2222-4333-8444-555555555555"
label = "x"
"#;

/// What 0.4.35 writes after its approval.
const PUBLISHED_0_4: &str = r#"api_base_url = "http://127.0.0.1:8700/"
worker_id = "w-0456"
auth_token = "tok-of-generation-0.4"
vram_threshold_gb = 7.5
memory_max_gb = 24
auto_start = false
start_minimised = false
only_when_idle = true
auto_update_enabled = false
auto_update_interval_secs = 600
auto_update_feed = "https://api.github.com/repos/webbertakken/studio-worker/releases"
auto_update_prerelease = true
models_root = "/srv/models"
local_api_port = 4815
local_api_token = "tok-of-the-local-api"
install_id = "11111111-2222-4333-8444-555555555555"
"#;

/// A configuration in a directory of its own.
struct Place {
    dir: TempDir,
    file: ConfigFile,
}

impl Place {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::locate(Some(&dir.path().join("config.toml"))).unwrap();
        Self { dir, file }
    }

    fn with(text: &str) -> Self {
        let place = Self::empty();
        place.write(text);
        place
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "/etc/config.toml".as_ref())
}
