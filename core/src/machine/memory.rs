//! How much memory a model can have: what tools and the system's files say of it.

use alloc::vec::Vec;

use super::Ended;

/// What was measured of this machine's memory, in bytes. What can't be measured is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// All memory of the largest GPU.
    pub gpu_total: Option<u64>,
    /// What is free on the GPU that has most.
    pub gpu_free: Option<u64>,
    /// What processes of the host can still have, without swapping.
    pub host_available: Option<u64>,
}

/// What `nvidia-smi` is asked.
pub const NVIDIA_SMI: [&str; 2] = ["--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"];

const MIB: u64 = 1024 * 1024;
/// More than any machine has: a larger number stands for something else.
const MOST: u64 = 1 << 50;
/// The part of its memory that an integrated GPU calls its own is smaller than this. It uses the host's as well, so that
/// its size says nothing.
const SMALLEST: u64 = 2 * 1024 * MIB;

/// The memory of one GPU, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gpu {
    /// All of it.
    pub total: Option<u64>,
    /// What is free.
    pub free: Option<u64>,
}

impl Memory {
    /// With what is known of the GPUs.
    #[must_use]
    pub fn with_gpus(self, gpus: &[Gpu]) -> Self {
        let largest = |bytes: fn(&Gpu) -> Option<u64>| gpus.iter().filter_map(bytes).max();
        Self { gpu_total: largest(|gpu| gpu.total), gpu_free: largest(|gpu| gpu.free), ..self }
    }
}

impl Gpu {
    /// A GPU of which a number may be missing or nonsense.
    fn plausible(total: Option<u64>, free: Option<u64>) -> Option<Self> {
        let plausible = |bytes: Option<u64>| bytes.filter(|bytes| *bytes < MOST);
        let total = plausible(total).filter(|total| *total > 0);
        let free = plausible(free).filter(|free| total.is_none_or(|total| *free <= total));
        (total.is_some() || free.is_some()).then_some(Self { total, free })
    }

    /// A GPU as AMD's driver shows it in `/sys/class/drm/card*/device`: `mem_info_vram_total` and `mem_info_vram_used`.
    pub fn of_amd(total: &str, used: Option<&str>) -> Option<Self> {
        let total = number(total).filter(|total| *total >= SMALLEST)?;
        Self::plausible(Some(total), used.and_then(number).and_then(|used| total.checked_sub(used)))
    }

    /// A GPU as Intel's driver shows it in `/sys/class/drm/card*`: `lmem_total_bytes` and `lmem_avail_bytes`.
    pub fn of_intel(total: &str, available: Option<&str>) -> Option<Self> {
        let total = number(total).filter(|total| *total >= SMALLEST)?;
        Self::plausible(Some(total), available.and_then(number))
    }

    /// The memory that an Apple chip shares with its GPU: `sysctl -n hw.memsize` and `vm_stat`. Metal gives a program
    /// about three quarters of it.
    pub fn of_apple(memsize: &str, vm_stat: &str) -> Option<Self> {
        let total = number(memsize)? / 4 * 3;
        Self::plausible(Some(total), apple_available(vm_stat).map(|available| available.min(total)))
    }
}

/// The GPUs that `nvidia-smi` tells of, asked for [`NVIDIA_SMI`]: a line for each, in MiB. `[N/A]` is what it says of
/// those that share the host's memory. One that failed tells of none.
pub fn nvidia(ended: &Ended, said: &[u8]) -> Vec<Gpu> {
    if !ended.is_success() {
        return Vec::new();
    }
    let mib = |text: &str| number(text.trim().trim_end_matches("MiB"))?.checked_mul(MIB);
    let gpu = |line: &[u8]| {
        let (total, free) = core::str::from_utf8(line).ok()?.split_once(',')?;
        Gpu::plausible(mib(total), mib(free))
    };
    said.split(|byte| *byte == b'\n').filter_map(gpu).collect()
}

/// What Linux says in `/proc/meminfo` of the memory that can be had without swapping.
pub fn host_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    number(line.trim().strip_suffix("kB")?)?.checked_mul(1024)
}

/// What a control group leaves of its limit: `memory.max`, `memory.current` and `memory.stat`. None where there is no
/// limit.
pub fn group_available(max: &str, current: &str, stat: &str) -> Option<u64> {
    let (max, current) = (number(max)?, number(current)?);
    // Files that were read are forgotten when memory is wanted.
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")).and_then(number);
    Some(max.saturating_sub(current.saturating_sub(cached.unwrap_or(0))))
}

/// What macOS can still give, as `vm_stat` counts pages.
pub fn apple_available(vm_stat: &str) -> Option<u64> {
    let size = vm_stat.split("page size of ").nth(1)?.split(' ').next().and_then(number)?;
    let pages = |name: &str| {
        let line = vm_stat.lines().find_map(|line| line.strip_prefix(name))?;
        number(line.trim().trim_end_matches('.'))
    };
    let free = pages("Pages free:")?;
    let more =
        ["Pages inactive:", "Pages speculative:", "Pages purgeable:"].map(|name| pages(name).unwrap_or(0));
    more.into_iter().fold(free, u64::saturating_add).checked_mul(size)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // A sign is no digit.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ended(code: i32) -> Ended {
        Ended { code: Some(code), ..Ended::default() }
    }

    fn said(text: &str) -> (Option<u64>, Option<u64>) {
        let memory = Memory::default().with_gpus(&nvidia(&ended(0), text.as_bytes()));
        (memory.gpu_total.map(|bytes| bytes / MIB), memory.gpu_free.map(|bytes| bytes / MIB))
    }

    #[test]
    fn nvidia_smi_tells_of_every_gpu() {
        for (text, wanted) in [
            ("24564, 23010\n", (Some(24_564), Some(23_010))),
            ("24564, 23010\r\n", (Some(24_564), Some(23_010))),
            ("24564 MiB, 23010 MiB\n", (Some(24_564), Some(23_010))),
            // The largest one may be the fullest.
            ("24564, 100\n8192, 8000\n", (Some(24_564), Some(8_000))),
            ("[N/A], [N/A]\n", (None, None)),
            ("[N/A], [N/A]\n8192, 8000\n", (Some(8_192), Some(8_000))),
            ("24564, [N/A]\n", (Some(24_564), None)),
            ("[Not Supported], 5\n", (None, Some(5))),
            ("100, 200\n", (Some(100), None)),
            ("0, 0\n", (None, Some(0))),
            ("", (None, None)),
            ("No devices were found\n", (None, None)),
            ("-1, -1\n", (None, None)),
            ("99999999999999999999, 1\n", (None, Some(1))),
            ("18446744073709551615, 18446744073709551615\n", (None, None)),
            ("24564\n", (None, None)),
        ] {
            assert_eq!(said(text), wanted, "{text:?}");
        }
        assert_eq!(nvidia(&ended(0), b"\xff\xfe, 1\n8192, 8000\n").len(), 1);
        assert_eq!(nvidia(&ended(9), b"24564, 23010\n"), []);
        assert_eq!(nvidia(&Ended::default(), b"24564, 23010\n"), []);
    }

    #[test]
    fn what_drivers_show_is_read() {
        let (total, used) = ("17163091968\n", "1163091968\n");
        let amd = Gpu { total: Some(17_163_091_968), free: Some(16_000_000_000) };
        assert_eq!(Gpu::of_amd(total, Some(used)), Some(amd));
        assert_eq!(Gpu::of_amd(total, None), Some(Gpu { free: None, ..amd }));
        assert_eq!(Gpu::of_amd(total, Some("99999999999999")), Some(Gpu { free: None, ..amd }));
        assert_eq!(Gpu::of_intel(total, Some("16000000000")), Some(amd));
        // An integrated one, and nonsense.
        for total in ["536870912", "", "x", "18446744073709551615"] {
            assert_eq!(Gpu::of_amd(total, None), None, "{total}");
            assert_eq!(Gpu::of_intel(total, None), None, "{total}");
        }
    }

    #[test]
    fn what_linux_leaves_is_read() {
        let meminfo =
            "MemTotal:       49336076 kB\nMemFree:  1 kB\nMemAvailable:   12345 kB\nBuffers: 0 kB\n";
        assert_eq!(host_available(meminfo), Some(12_345 * 1024));
        for meminfo in ["", "MemAvailable: 1", "MemAvailable: x kB", "MemAvailable: 99999999999999999999 kB"]
        {
            assert_eq!(host_available(meminfo), None, "{meminfo}");
        }
        assert_eq!(group_available("1000\n", "800\n", "anon 1\ninactive_file 300\nfile 9\n"), Some(500));
        assert_eq!(group_available("1000", "1200", ""), Some(0));
        assert_eq!(group_available("max\n", "800\n", ""), None);
    }

    #[test]
    fn what_apple_leaves_is_read() {
        let vm_stat = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n\
                       Pages free:                               10000.\n\
                       Pages active:                            500000.\n\
                       Pages inactive:                           20000.\n\
                       Pages speculative:                         3000.\n\
                       Pages purgeable:                            400.\n";
        assert_eq!(apple_available(vm_stat), Some(33_400 * 16_384));
        let gpu = Gpu { total: Some(12_884_901_888), free: Some(33_400 * 16_384) };
        assert_eq!(Gpu::of_apple("17179869184\n", vm_stat), Some(gpu));
        assert_eq!(Gpu::of_apple("1000000", vm_stat).unwrap().free, Some(750_000));
        assert_eq!((Gpu::of_apple("", vm_stat), apple_available("")), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_does_harm(said in any::<Vec<u8>>(), text in "[0-9A-Z/\\[\\], \n]{0,60}") {
            for said in [&*said, text.as_bytes()] {
                for gpu in nvidia(&ended(0), said) {
                    prop_assert!(gpu.total.is_some() || gpu.free.is_some());
                    prop_assert!(gpu.total.is_none_or(|total| gpu.free.is_none_or(|free| free <= total)));
                }
            }
            host_available(&text);
            apple_available(&text);
        }
    }
}
