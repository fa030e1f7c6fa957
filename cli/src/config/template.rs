//! The file that a missing configuration becomes.

/// All keys with their defaults and what they mean. Those that the published programs insist on are written out,
/// so that they can still run on a file that this one made.
pub(super) const TEMPLATE: &str = r#"# The configuration of studio-worker. A running worker takes changes over within seconds; `studio-worker status`
# shows what counts. Comments, order and unknown keys are kept when the program changes something here.

# Where the studio is: http, https, ws or wss. At its first start a worker tells it this machine's host name and
# user name and waits until an operator approves.
api_base_url = "https://studio.minis.gg"

# A PEM file with the certificates of authorities to trust beside the system's, for a studio or an engine whose own it is.
# It may lie beside this file. A change counts from the next start.
# ca_file = "our-ca.pem"

# How this worker is called in the studio's list.
# label = "alice's machine"

# Whether jobs are taken. `studio-worker enable` and `disable` switch it.
auto_enabled = true

# The largest job that is taken, by the studio's estimate of GPU memory in GB.
vram_threshold_gb = 12.0

# What runs the jobs: one of the engines below, or "multi" for all of them that are set up or for those that `engines`
# lists. `studio-worker engines` shows what can be served now and what is missing for more; `studio-worker try` runs one
# job without a studio. "synthetic" makes up results and needs nothing.
engine = "multi"
# engines = ["openai", "llama-cpp"]

# Models to offer beside those that the engine knows by itself; for "gradio", those that the app draws with.
# supported_models_override = []

# "openai": any server that speaks that API (llama-server, vLLM, Ollama, LM Studio ...). A key is taken from systemd's
# credential openai_api_key, the variable STUDIO_WORKER_OPENAI_API_KEY or OPENAI_API_KEY, or the first line of a file.
# openai_base_url = "http://127.0.0.1:8080"
# openai_api_key_file = "~/.config/openai.key"

# "gradio": an app that draws.
# gradio_endpoint_url = "http://127.0.0.1:7860"

# "command": programs, each for a kind of job and its models. The README has the placeholders.
# commands = [{ kind = "audio_tts", models = ["espeak-ng"], program = "espeak-ng", args = ["-w", "{output}", "{text}"] }]

# "llama-cpp" and "sd-cpp" run these programs on models that offers name, whose files are downloaded to this folder. A
# language model stays loaded for so many seconds without a job.
# models_root = "~/models"
# llama_server = "llama-server"
# llama_idle_secs = 600
# sd_cli = "~/bin/sd-cli"

# How long an engine may take for one job, in seconds; downloads of models don't count. A change counts from the next start.
# job_limit_secs = 1800

# Whether inputs of jobs (pictures, sound) and files of models may come from private addresses: where the studio is in the
# same network as this machine.
# allow_private_inputs = false

# How long each job of the synthetic engine takes at least, in milliseconds: to see how a studio deals with jobs that
# take their time. A change counts for the running job, too.
# synthetic_delay_ms = 0

# After how many failures in a row to reach the studio the program ends; 0: never.
# ws_reconnect_attempts = 0

# Whether the worker starts with the machine.
auto_start = true

# Whether the program updates itself, how often it looks (in seconds), where (releases as GitHub's API lists them: https,
# or http on this machine), and whether it takes pre-releases. The feed that is written here has the releases of another
# program, so that nothing is looked for until there is one of this program's. With a key (minisign, the line that begins
# with RW), releases must be signed with it.
# auto_update_enabled = true
# auto_update_interval_secs = 1800
# auto_update_feed = "https://api.github.com/repos/webbertakken/studio-worker/releases"
# auto_update_prerelease = false
# auto_update_public_key = ""

# How long a new version has to be welcomed by the studio, and must live, in seconds; else the old one takes over again.
# auto_update_trial_secs = 300

# What follows was written by the program: who this worker is, which `studio-worker register --reset` forgets.
"#;
