//! The file that a missing configuration becomes.

/// All keys with their defaults and what they mean. Those that the published programs insist on are written out,
/// so that they can still run on a file that this one made.
pub(super) const TEMPLATE: &str = r#"# The configuration of studio-worker. A running worker takes changes over within seconds; `studio-worker status`
# shows what counts. Comments, order and unknown keys are kept when the program changes something here.

# Where the studio is: http, https, ws or wss. At its first start a worker tells it this machine's host name and
# user name and waits until an operator approves.
api_base_url = "https://studio.minis.gg"

# How this worker is called in the studio's list.
# label = "alice's machine"

# Whether jobs are taken. `studio-worker enable` and `disable` switch it.
auto_enabled = true

# The largest job that is taken, by the studio's estimate of GPU memory in GB.
vram_threshold_gb = 12.0

# What runs the jobs: "synthetic" makes up results and needs nothing, "multi" combines all engines that this
# machine can serve, or those that `engines` lists.
engine = "multi"
# engines = ["synthetic"]

# Models to offer beside those that the engine knows by itself.
# supported_models_override = []

# How long each job of the synthetic engine takes at least, in milliseconds: to see how a studio deals with jobs that
# take their time. A change counts for the running job, too.
# synthetic_delay_ms = 0

# The address of a Gradio app, for the engine "gradio".
# gradio_endpoint_url = "http://127.0.0.1:7860"

# Where model files are kept.
# models_root = "~/models"

# After how many failures in a row to reach the studio the program ends; 0: never.
# ws_reconnect_attempts = 0

# Whether the worker starts with the machine.
auto_start = true

# Whether the program updates itself, how often it looks (in seconds), where, and whether it takes pre-releases.
# auto_update_enabled = true
# auto_update_interval_secs = 1800
# auto_update_feed = "https://api.github.com/repos/webbertakken/studio-worker/releases"
# auto_update_prerelease = false

# What follows was written by the program: who this worker is, which `studio-worker register --reset` forgets.
"#;
