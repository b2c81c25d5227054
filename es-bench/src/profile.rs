//! Where the time goes: the processor time of each group of threads while a workload ran, as Linux counts it.

use std::collections::BTreeMap;
use std::path::Path;

/// Clock ticks per second of `/proc`: fixed for programs on Linux, whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Seconds of processor time by name of thread, digits at its end left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Profile(pub(crate) BTreeMap<String, f64>);

impl Profile {
    /// Up to now, of the threads that live. Empty where there is no `/proc`.
    pub(crate) fn now() -> Self {
        let mut profile = Self::default();
        let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return profile };
        for task in tasks.flatten() {
            if let Some((name, seconds)) = of_thread(&task.path()) {
                *profile.0.entry(name).or_default() += seconds;
            }
        }
        profile
    }

    /// What was used since then, in descending order.
    pub(crate) fn since(&self, then: &Self) -> Vec<(String, f64)> {
        let used = |(name, seconds): (&String, &f64)| {
            let used = seconds - then.0.get(name).copied().unwrap_or(0.0);
            (used > 0.0).then(|| (name.clone(), used))
        };
        let mut used: Vec<_> = self.0.iter().filter_map(used).collect();
        used.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        used
    }
}

fn of_thread(task: &Path) -> Option<(String, f64)> {
    parse(&std::fs::read_to_string(task.join("stat")).ok()?)
}

/// `1234 (name of thread) S ...`: the name, and the fields utime and stime.
fn parse(stat: &str) -> Option<(String, f64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == ':');
    let mut fields = after.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some((name.to_owned(), ticks / TICKS))
}

/// Bytes of memory of this process that are in use: its resident set. `None` where there is no `/proc`.
pub(crate) fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_line_of_a_thread() {
        let stat = "42 (tokio-rt (x) 12) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(parse(stat), Some(("tokio-rt (x) 12".trim_end_matches([' ', '1', '2']).to_owned() + " ", 2.0)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn the_difference_of_two_moments_is_what_was_used_the_most_first() {
        let of = |entries: &[(&str, f64)]| {
            Profile(entries.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect())
        };
        let (then, now) = (of(&[("a", 1.0), ("b", 2.0)]), of(&[("a", 1.5), ("b", 2.0), ("c", 3.0)]));
        assert_eq!(now.since(&then), [("c".to_owned(), 3.0), ("a".to_owned(), 0.5)]);
    }
}
