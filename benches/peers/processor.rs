//! CPU time: of one process tree, of the load, of the whole machine; and who may use which CPU.

use std::fs;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Binds this process, and what it starts from now on, to some CPUs.
pub(crate) fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(|e| e.to_string())?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|e| format!("CPUs {cpus:?} cannot be used: {e}"))
}

/// User and system time of a process and its children, in seconds. The process's own clock, since the ticks of
/// `/proc/PID/stat` are too coarse for a server that is nearly idle.
pub(crate) fn cpu_of_tree(pid: u32) -> f64 {
    let own = clock_getcpuclockid(Pid::from_raw(pid as i32)).map_or(0.0, seconds);
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let below = children.flat_map(|text| {
        text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    own + below.map(cpu_of_tree).sum::<f64>()
}

/// User and system time of this process, its threads and the programs it has waited for.
pub(crate) fn own_cpu() -> f64 {
    let waited = getrusage(UsageWho::RUSAGE_CHILDREN)
        .map_or(0, |usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds());
    seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID) + waited as f64 / 1e6
}

fn seconds(clock: ClockId) -> f64 {
    clock_gettime(clock).map_or(0.0, |time| time.num_nanoseconds() as f64 / 1e9)
}

/// What CPUs 0 and 1 have done since some moment, whoever for.
#[derive(Debug)]
pub(crate) struct Busy(f64);

impl Busy {
    /// From now on.
    pub(crate) fn now() -> Self {
        Self(busy_ticks())
    }

    /// Seconds of CPU time since then; in ticks of 10 ms.
    pub(crate) fn since(&self) -> f64 {
        (busy_ticks() - self.0) / 100.0
    }
}

/// Everything but idle, waiting for disks, and what the hypervisor took.
fn busy_ticks() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of = |line: &str| -> f64 {
        let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        ticks.iter().take(8).sum::<f64>() - [3, 4, 7].iter().filter_map(|&n| ticks.get(n)).sum::<f64>()
    };
    text.lines().filter(|line| line.starts_with("cpu0 ") || line.starts_with("cpu1 ")).map(of).sum()
}
