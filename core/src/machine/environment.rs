//! Which variables of the worker's environment a program sees.

use super::Program;

/// What makes a name a credential's wherever it is in it.
const WITHIN: [&str; 8] =
    ["SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY", "ACCESSKEY", "PRIVATEKEY"];
/// What one of a name's words ends with.
const ENDINGS: [&str; 2] = ["TOKEN", "TOKENS"];
/// What one of a name's words is: longer words with these in them are something else, as `AUTHOR` and `KEYBOARD` are.
const WORDS: [&str; 18] = [
    "AUTH",
    "AUTHORIZATION",
    "BEARER",
    "COOKIE",
    "COOKIES",
    "CRED",
    "CREDS",
    "DSN",
    "JWT",
    "KEY",
    "KEYS",
    "OAUTH",
    "OAUTH2",
    "PASS",
    "PAT",
    "PWD",
    "SASL",
    "SSHPASS",
];
/// What stands before a credential in a text of settings, as databases and clouds have them.
const SETTINGS: [&str; 6] =
    ["password=", "passwd=", "pwd=", "accountkey=", "sharedaccesskey=", "private key-----"];

impl Program {
    /// Whether it gets this variable of the worker's environment: all but what looks like a credential, unless it is
    /// named among those that it [inherits](Program::inherits).
    pub fn sees(&self, name: &str, value: &str) -> bool {
        self.inherits.iter().any(|inherited| inherited == name) || !looks_like_credential(name, value)
    }
}

/// Whether a variable looks like something that gives access, by its name or its value. The worker's own settings are
/// nobody else's business, either.
pub fn looks_like_credential(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = || name.split(|c: char| !c.is_ascii_alphanumeric());
    // Where a shell is, and was.
    let is_folder = name == "PWD" || name == "OLDPWD";
    name.starts_with("STUDIO_WORKER_")
        || WITHIN.iter().any(|within| name.contains(within))
        || words().any(|word| ENDINGS.iter().any(|ending| word.ends_with(ending)))
        || !is_folder && words().any(|word| WORDS.contains(&word))
        || has_password(value)
        || name.ends_with("PROXY") && has_password_of_a_proxy(value)
}

/// Whether a value has a password in an address, or a setting that is one.
fn has_password(value: &str) -> bool {
    let in_address = |after: &str| {
        let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    };
    let lower = value.to_ascii_lowercase();
    value.split("://").skip(1).any(in_address) || SETTINGS.iter().any(|setting| lower.contains(setting))
}

/// The same for the address of a proxy, which needs no scheme. Whatever stands before the host counts, however it is written.
fn has_password_of_a_proxy(value: &str) -> bool {
    let before = value.rsplit_once('@').map_or("", |(before, _)| before);
    let user = before.split_once("://").map_or(before, |(_, user)| user);
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_access_is_kept_back() {
        for name in [
            "GITHUB_TOKEN",
            "HF_TOKEN",
            "GITHUBTOKEN",
            "githubToken",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "OPENAI_API_KEY",
            "OPENAI_APIKEY",
            "apiKey",
            "PGPASSWORD",
            "MYSQL_PWD",
            "GPG_PASSPHRASE",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SENTRY_DSN",
            "SSH_AUTH_SOCK",
            "npm_config__auth",
            "STUDIO_WORKER_API_BASE_URL",
            "DB-PASSWD",
            "SSHPASS",
            "Session.Cookie",
        ] {
            assert!(looks_like_credential(name, "x"), "{name}");
        }
        for value in [
            "postgres://user:pass@db/name",
            "see https://a.b/ and redis://:pass@c:1",
            "http://user:p@ss@proxy:3128",
            "Server=db;User=sa;Password=x",
            "DefaultEndpointsProtocol=https;AccountKey=x",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nx",
        ] {
            assert!(looks_like_credential("X", value), "{value}");
        }
        // A proxy's address needs no scheme.
        for (name, value) in [
            ("HTTPS_PROXY", "user:pass@proxy:3128"),
            ("http_proxy", "user:p@ss@proxy:3128/"),
            ("ALL_PROXY", " :pass@proxy "),
            ("npm_config_https_proxy", "user:pass@proxy"),
            ("npm_config_proxy", "user:pass@proxy"),
            ("NPM_CONFIG_PROXY", "http:user:pass@proxy"),
            ("Proxy", "user:pass@proxy"),
            // Read as anything may be: a password may have what ends a host.
            ("HTTP_PROXY", "user:p/ss@proxy"),
            ("HTTP_PROXY", "//user:pass@proxy"),
        ] {
            assert!(looks_like_credential(name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_programs_need_is_handed_on() {
        for (name, value) in [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/home/me"),
            ("PWD", "/home/me"),
            ("OLDPWD", "/"),
            ("LD_LIBRARY_PATH", "/opt/lib"),
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("GIT_AUTHOR_NAME", "A"),
            ("KEYBOARD", "de"),
            ("XAUTHORITY", "/home/me/.Xauthority"),
            ("HF_HUB_OFFLINE", "1"),
            ("HTTP_PROXY", "http://proxy:3128"),
            ("X", "http://user@proxy:3128/a:b@c"),
            ("HTTPS_PROXY", "http://user@proxy:3128"),
            ("HTTPS_PROXY", "proxy:3128"),
            ("https_proxy", "user@proxy:3128"),
            ("NO_PROXY", "localhost,10.0.0.0/8,[::1]:80"),
            ("GIT_PROXY_COMMAND", "connect -H proxy:3128"),
            ("REPOSITORY", "git@github.com:a/b"),
            ("PEER", "user:pass@proxy"),
            ("GIT_SSH_COMMAND", "ssh -i x"),
            ("LANG", "C.UTF-8"),
            ("", ""),
        ] {
            assert!(!looks_like_credential(name, value), "{name}={value}");
        }
    }

    #[test]
    fn what_is_named_is_handed_on() {
        let program = Program { inherits: ["HF_TOKEN".into()].into(), ..Program::default() };
        assert!(program.sees("HF_TOKEN", "x") && program.sees("LANG", "C"));
        assert!(!program.sees("hf_token", "x") && !program.sees("GITHUB_TOKEN", "x"));
    }
}
