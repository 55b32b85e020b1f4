//! From tries to verdicts: so many in a row must agree.

use portolan_table::Health;

/// The tries of one instance since they last changed sides, and the verdict in force.
#[derive(Debug, Default)]
pub(super) struct Streak {
    good: bool,
    len: u32,
    verdict: Option<Health>,
}

impl Streak {
    /// Takes a try in. The new verdict, if there is one.
    pub(super) fn note(&mut self, good: bool, rise: u32, fall: u32) -> Option<Health> {
        self.len = if self.good == good { self.len.saturating_add(1) } else { 1 };
        self.good = good;
        let (needed, verdict) = if good { (rise, Health::Healthy) } else { (fall, Health::Unhealthy) };
        if self.len < needed.max(1) || self.verdict == Some(verdict) {
            return None;
        }
        self.verdict = Some(verdict);
        Some(verdict)
    }

    /// The verdict in force.
    pub(super) fn verdict(&self) -> Option<Health> {
        self.verdict
    }

    /// No tries yet, the verdict stands.
    pub(super) fn anew(&self) -> Self {
        Self { verdict: self.verdict, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_row_make_a_verdict() {
        let said = |tries: &str, rise, fall| -> String {
            let mut streak = Streak::default();
            let word = |verdict| match verdict {
                Some(Health::Healthy) => 'H',
                Some(Health::Unhealthy) => 'U',
                _ => '.',
            };
            tries.chars().map(|good| word(streak.note(good == '+', rise, fall))).collect()
        };
        for (tries, rise, fall, want) in [
            ("+++", 2, 3, ".H."),
            ("---", 2, 3, "..U"),
            ("+-+-+-", 2, 2, "......"),
            ("++--+--++-", 2, 2, ".H.U....H."),
            ("++--+--++-", 1, 3, "H........."),
            ("+-", 1, 1, "HU"),
            ("+-", 0, 0, "HU"),
            ("-++", 2, 2, "..H"),
        ] {
            assert_eq!(said(tries, rise, fall), want, "{tries} with rise {rise}, fall {fall}");
        }
    }
}
