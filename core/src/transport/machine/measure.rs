//! Measures the memory of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use super::{
    LocalMachine,
    made::{Product, Unkept},
    pipes::lock,
    run,
};
use crate::{
    machine::{
        Ended, Keep, Process, Program, Source,
        memory::{Gpu, Memory, NVIDIA_SMI, group_available, host_available, nvidia},
    },
    time::Mono,
    transport::{Platform, within},
};

/// How long a tool has for its answer.
const BOUND: Duration = Duration::from_secs(3);
/// How long one that gave none is not asked again: a driver that hangs doesn't mend itself.
const SILENCE: Duration = Duration::from_secs(300);
/// More than a tool has to say, in bytes.
const MOST_SAID: u64 = 64 * 1024;

/// What is known of the tools.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// `nvidia-smi` gave no answer.
    silence: Mutex<Option<Silence>>,
}

/// A tool that gave no answer is not asked for a while.
#[derive(Debug)]
struct Silence {
    until: Mono,
    /// Held as long as it still runs: what is stuck in the system can't be killed, and the next one would be, too.
    asked: Weak<()>,
}

impl Silence {
    fn is_over(&self, now: Mono) -> bool {
        now >= self.until && self.asked.strong_count() == 0
    }
}

impl<P: Platform> LocalMachine<P> {
    pub(super) async fn memory(self) -> Memory {
        let mut gpus = self.nvidia().await;
        let root = self.surroundings.root().to_owned();
        let (seen, host) = self.platform.block(move || (shown(&root), host(&root))).await;
        if gpus.is_empty() {
            gpus = seen;
        }
        let memory = Memory { host_available: host, ..Memory::default() };
        if gpus.is_empty() && cfg!(target_vendor = "apple") {
            return self.apple(memory).await;
        }
        memory.with_gpus(&gpus)
    }

    async fn nvidia(&self) -> Vec<Gpu> {
        let now = self.platform.now().mono;
        if lock(&self.tools.silence).as_ref().is_some_and(|silence| !silence.is_over(now)) {
            return Vec::new();
        }
        match self.ask("nvidia-smi", &NVIDIA_SMI).await {
            Answer::Said(ended, said) => nvidia(&ended, &said),
            Answer::Nothing => Vec::new(),
            Answer::Silence(asked) => {
                log::warn!(
                    "nvidia-smi gives no answer within {} s: the memory of the GPU is not known",
                    BOUND.as_secs()
                );
                let until = self.platform.now().mono + SILENCE;
                *lock(&self.tools.silence) = Some(Silence { until, asked });
                Vec::new()
            }
        }
    }

    /// The memory is the host's and the GPU's.
    async fn apple(&self, memory: Memory) -> Memory {
        let (memsize, vm_stat) =
            (self.ask("sysctl", &["-n", "hw.memsize"]).await, self.ask("vm_stat", &[]).await);
        let (Answer::Said(_, memsize), Answer::Said(_, vm_stat)) = (memsize, vm_stat) else { return memory };
        let (memsize, vm_stat) = (String::from_utf8_lossy(&memsize), String::from_utf8_lossy(&vm_stat));
        let available = crate::machine::memory::apple_available(&vm_stat);
        let memory = Memory { host_available: memory.host_available.or(available), ..memory };
        memory.with_gpus(Gpu::of_apple(&memsize, &vm_stat).as_slice())
    }

    async fn ask(&self, tool: &str, arguments: &[&str]) -> Answer {
        let process = Process {
            program: Program {
                program: tool.into(),
                arguments: arguments.iter().map(|argument| (*argument).into()).collect(),
                // Its words are read.
                environment: vec![("LC_ALL".into(), "C".into())],
                ..Program::default()
            },
            inputs: Vec::new(),
            stdin: Vec::new(),
            source: Source::Stdout,
            keep: Keep::Memory,
            limit: MOST_SAID,
            wants_memory: false,
        };
        let running = Arc::new(());
        let asked = Arc::downgrade(&running);
        let run = self.ridden(move |surroundings, folder, reins| {
            let ran = run::to_end(process, surroundings, folder, reins);
            drop(running);
            ran
        });
        match within(&self.platform, BOUND, run).await {
            Some(Ok(Unkept { ended, made: Some(Product::Memory(said)) })) => Answer::Said(ended, said),
            Some(_) => Answer::Nothing,
            None => Answer::Silence(asked),
        }
    }
}

/// What a tool says.
enum Answer {
    Said(Ended, Vec<u8>),
    /// It is not there, or failed.
    Nothing,
    /// It hangs, as long as somebody holds this.
    Silence(Weak<()>),
}

/// What drivers show of their GPUs.
fn shown(root: &Path) -> Vec<Gpu> {
    let cards = fs::read_dir(root.join("sys/class/drm")).into_iter().flatten().flatten();
    let gpu = |card: PathBuf| {
        let read = |name: &str| fs::read_to_string(card.join(name)).ok();
        let amd = read("device/mem_info_vram_total")
            .and_then(|total| Gpu::of_amd(&total, read("device/mem_info_vram_used").as_deref()));
        let intel = || Gpu::of_intel(&read("lmem_total_bytes")?, read("lmem_avail_bytes").as_deref());
        amd.or_else(intel)
    };
    // `card0-HDMI-A-1` is what hangs on a card.
    let is_card = |name: &str| {
        name.strip_prefix("card").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    cards
        .filter(|card| card.file_name().to_str().is_some_and(is_card))
        .filter_map(|card| gpu(card.path()))
        .collect()
}

/// What the host can still give: no more than the control groups leave that this process is in.
fn host(root: &Path) -> Option<u64> {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let host = read(root.join("proc/meminfo")).and_then(|meminfo| host_available(&meminfo));
    let groups = root.join("sys/fs/cgroup");
    let own = read(root.join("proc/self/cgroup"))
        .and_then(|cgroup| cgroup.lines().find_map(|line| line.strip_prefix("0::/").map(str::to_owned)));
    // Within a container it is the root of what can be seen.
    let folder = groups.join(own.as_deref().unwrap_or_default().trim_end_matches('/'));
    let left = |group: &Path| {
        let read = |name: &str| read(group.join(name));
        group_available(
            &read("memory.max")?,
            &read("memory.current")?,
            &read("memory.stat").unwrap_or_default(),
        )
    };
    let left = folder.ancestors().take_while(|group| group.starts_with(&groups)).filter_map(left).min();
    host.into_iter().chain(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_runs_is_not_asked_again() {
        let running = Arc::new(());
        let silence = Silence { until: Mono::ZERO + SILENCE, asked: Arc::downgrade(&running) };
        assert!(!silence.is_over(Mono::ZERO + 2 * SILENCE));
        drop(running);
        assert!(!silence.is_over(Mono::ZERO) && silence.is_over(Mono::ZERO + SILENCE));
    }
}
