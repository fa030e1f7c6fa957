//! What a configuration means, and what is said of one that means nothing.

use std::path::Path;

use proptest::prelude::*;
use studio_worker_core::wire::Finite;

use super::{super::template::TEMPLATE, *};
use crate::config::{DEFAULT_API_BASE_URL, DEFAULT_UPDATE_FEED, gigabytes};

#[test]
fn missing_keys_have_the_defaults_of_the_protocol() {
    let config = parse("# nothing\n").unwrap();
    assert_eq!(config.api_base_url(), DEFAULT_API_BASE_URL);
    assert_eq!(config.api_base.to_string(), "https://studio.minis.gg/graphics/api");
    assert_eq!(config.vram_threshold_gb, Finite::from(12));
    assert_eq!((config.auto_start, config.auto_enabled, config.auto_update_enabled), (true, true, true));
    assert_eq!(config.engine, "multi", "as in every file of 0.4");
    assert!(config.engines.is_empty() && config.supported_models_override.is_empty());
    assert_eq!((config.auto_update_interval_secs, config.auto_update_prerelease), (1_800, false));
    assert_eq!(config.auto_update_feed, DEFAULT_UPDATE_FEED);
    assert_eq!((config.ws_reconnect_attempts, config.memory_max_gb), (None, 32));
    assert_eq!(config.identity, studio_worker_core::worker::Identity::default());
}

#[test]
fn the_file_that_is_made_says_the_defaults() {
    let made = parse(TEMPLATE).unwrap();
    let defaults = parse("# nothing\n").unwrap();
    assert_eq!(made, Config { api_base_url: Some(DEFAULT_API_BASE_URL.into()), ..defaults.clone() });
    // Each key that is only mentioned can be switched on as it stands.
    let wakened: String = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(mentioned) if mentioned.contains(" = ") => format!("{mentioned}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let wakened = parse(&wakened).unwrap();
    assert_eq!(wakened.label.as_deref(), Some("alice's machine"));
    assert_eq!(wakened.auto_update_feed, DEFAULT_UPDATE_FEED);
    assert_eq!((wakened.commands.len(), wakened.engines.len()), (1, 2));
    assert_eq!(
        (wakened.job_limit_secs, wakened.llama_idle_secs),
        (defaults.job_limit_secs, defaults.llama_idle_secs)
    );
}

#[test]
fn what_the_published_programs_left_is_read() {
    let config = parse(PUBLISHED_0_2).unwrap();
    assert_eq!(config.identity.worker_id.as_deref(), Some("w-0123"));
    assert_eq!(config.identity.auth_token.as_ref().unwrap().reveal(), "tok-of-generation-0.2");
    assert_eq!((config.engine.as_str(), config.auto_enabled), ("synthetic", false));
    assert_eq!(gigabytes(config.vram_threshold_gb), "0.1", "as 0.2 prints it");
    assert_eq!(config.supported_models_override, ["my-model"]);

    let config = parse(PUBLISHED_0_4).unwrap();
    assert_eq!(config.engine, "multi");
    assert_eq!(config.api_base.to_string(), "http://127.0.0.1:8700/graphics/api");
    assert_eq!((config.memory_max_gb, config.local_api_port), (24, Some(4815)));
    assert_eq!(
        (config.start_minimised, config.only_when_idle, config.auto_update_enabled),
        (false, true, false)
    );
    assert_eq!(config.models_root.as_deref(), Some(Path::new("/srv/models")));
    assert_eq!(config.secrets().count(), 2);
}

#[test]
fn an_empty_text_means_that_nothing_is_there() {
    let config = parse("worker_id = ''\nauth_token = ' '\nlabel = ''\nregistration_rejected = ''\n").unwrap();
    assert_eq!((config.identity.worker_id, config.identity.auth_token, config.label), (None, None, None));
    assert_eq!(config.identity.registration_rejected.as_deref(), Some(""), "rejected without a reason");
}

#[test]
fn what_cannot_be_used_is_named_with_file_line_and_key() {
    for (text, wanted) in [
        ("\nauto_start = 1\n", "line 2, key `auto_start`: must be true or false, not a whole number"),
        ("auto_enabled = 'yes'", "line 1, key `auto_enabled`: must be true or false, not a text"),
        ("label = true", "line 1, key `label`: must be a text in quotes, not true or false"),
        ("[engine]", "line 1, key `engine`: must be a text in quotes, not a table"),
        (
            "vram_threshold_gb = -1",
            "line 1, key `vram_threshold_gb`: -1 is out of range: a finite number of GB, at least 0",
        ),
        (
            "vram_threshold_gb = inf",
            "line 1, key `vram_threshold_gb`: inf is out of range: a finite number of GB, at least 0",
        ),
        (
            "vram_threshold_gb = nan",
            "line 1, key `vram_threshold_gb`: NaN is out of range: a finite number of GB, at least 0",
        ),
        ("vram_threshold_gb = '12'", "line 1, key `vram_threshold_gb`: must be a number of GB, not a text"),
        (
            "# x\n\nws_reconnect_attempts = -1",
            "line 3, key `ws_reconnect_attempts`: -1 is out of range: 0 to 4294967295",
        ),
        ("local_api_port = 70000", "line 1, key `local_api_port`: 70000 is out of range: 0 to 65535"),
        (
            "auto_update_interval_secs = 1.5",
            "line 1, key `auto_update_interval_secs`: must be a whole number, not a number with a fraction",
        ),
        ("engines = 'synthetic'", "line 1, key `engines`: must be a list of texts in quotes, not a text"),
        (
            "engines = ['synthetic', 1]",
            "line 1, key `engines`: must be a list of texts in quotes, and has something else in it",
        ),
        (
            "engines = ['multi']",
            "line 1, key `engines`: \"multi\" combines the engines that are listed here, and can't be one of them",
        ),
        ("engine = 'warp'", "line 1, key `engine`: \"warp\" is not an engine: there are"),
        ("openai_base_url = 'box'", "line 1, key `openai_base_url`: this is not a URL"),
        (
            "openai_base_url = 'http://a:b@box'",
            "line 1, key `openai_base_url`: there is a user name or password",
        ),
        ("job_limit_secs = 0", "line 1, key `job_limit_secs`: no job can be done in 0 seconds"),
        (
            "commands = 1",
            "line 1, key `commands`: must be a list of tables: each begins with [[commands]], not a whole number",
        ),
        ("commands = ['x']", "line 1, key `commands`: must be a list of tables"),
        (
            "[[commands]]\nkind = 'image'\nmodels = ['m']",
            "line 1, key `commands`: command 1: missing field `program`",
        ),
        ("[[commands]]\nkind = 'song'\nmodels = ['m']\nprogram = 'p'", "line 1, key `commands`: command 1: "),
        (
            "[[commands]]\nkind = 'image'\nmodels = ['m']\nprogram = 'p'\n[[commands]]\nkind = 'image'\nmodels = ['m']\nprogram = 'p'\nargs = ['{text}']",
            "line 1, key `commands`: command 2: `args[0]` of the command p: there is no {text} for image: there are {prompt}",
        ),
        (
            "[[commands]]\nkind = 'image'\nmodels = ['m']\nprogram = 'p'\narguments = []",
            "line 1, key `commands`: command 1: unknown field `arguments`",
        ),
        ("api_base_url = 'ftp://h'", "line 1, key `api_base_url`: `api_base_url` has the scheme `ftp`"),
        ("api_base_url = ''", "line 1, key `api_base_url`: `api_base_url` is not a URL"),
        ("label = 'a'\nlabel = 'b'", "line 2, key `label`: duplicate key"),
        ("auto_start = maybe", "line 1, key `auto_start`: "),
        ("x = 1\nlabel = \"no end\n", "line 2, key `label`: "),
        ("x y\n", "line 1: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("/etc/config.toml, {wanted}")), "{text:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_secret_of_the_wrong_type_is_not_quoted() {
    for text in
        ["auth_token = 4242424242", "auth_token = ['4242424242']", "auth_token = { x = '4242424242' }"]
    {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains("line 1, key `auth_token`: must be a text in quotes"), "{error}");
        assert!(!error.contains("4242424242"), "{error}");
    }
}

proptest! {
    /// However a file is damaged, what is said of it shows no credential, nor a good part of one.
    #[test]
    fn no_error_quotes_a_secret(
        at in 0_usize..400,
        junk in "[\\x00-\\x7f]{0,3}|ü",
        cut in any::<bool>(),
        secret in "[a-zA-Z0-9+/=]{24}",
    ) {
        let text = format!(
            "api_base_url = \"http://h\"\nauth_token = \"{secret}\"\nlabel = \"x\"\nregistration_secret = \"\"\"\n{secret}\"\"\"\n\
             [other]\nlocal_api_token = '{secret}'\n"
        );
        let at = at.min(text.len());
        let rest = if cut { "" } else { &text[at..] };
        let place = Place::with(&format!("{}{junk}{rest}", &text[..at]));
        if let Err(error) = place.file.load() {
            for text in [error.to_string(), format!("{error:?}")] {
                for part in secret.as_bytes().windows(8) {
                    prop_assert!(!text.contains(std::str::from_utf8(part).unwrap()), "{}", text);
                }
            }
        }
    }
}

#[test]
fn files_that_are_named_lie_beside_the_configuration() {
    let named = |text: &str| {
        let config = parse(text).unwrap();
        (config.ca_file, config.openai_api_key_file)
    };
    let path = |path: &str| Some(Path::new(path).to_owned());
    assert_eq!(
        named("ca_file = 'ca.pem'\nopenai_api_key_file = '../keys/openai'\n"),
        (path("/etc/ca.pem"), path("/etc/../keys/openai"))
    );
    assert_eq!(named("ca_file = '/ca.pem'\nopenai_api_key_file = '/key'\n"), (path("/ca.pem"), path("/key")));
    let home = directories::BaseDirs::new().unwrap().home_dir().join("ca.pem");
    assert_eq!(named("ca_file = '~/ca.pem'\n"), (Some(home), None));
    // One that has no folder lies in the one that counts.
    let config = Config::parse("ca_file = 'ca.pem'", "config.toml".as_ref()).unwrap();
    assert_eq!(config.ca_file, path("ca.pem"));
}
