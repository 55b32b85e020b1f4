//! How much the lists of a cluster held, and when that is to be doubted.

/// What a list held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) apps: usize,
    /// `None`: the cluster says that it knows no pods.
    pub(super) pods: Option<usize>,
}

/// What there was before.
#[derive(Debug, Default)]
pub(super) struct Before {
    apps: bool,
    pods: bool,
    /// The catalog holds something that was told before this source was made: whether pods is not known.
    resumed: bool,
}

impl Before {
    /// What was told before is in the catalog, and not known here.
    pub(super) fn resumed() -> Self {
        Self { apps: true, pods: false, resumed: true }
    }

    /// True if the list lacks a whole kind that was there: a leader that was just elected may not have read its
    /// state yet, so it is to be asked again.
    pub(super) fn doubts(&self, counts: &Counts) -> bool {
        (self.apps && counts.apps == 0)
            || (self.pods && counts.pods == Some(0))
            || (self.resumed && counts.pods.is_none())
    }

    /// A list that is believed.
    pub(super) fn note(&mut self, counts: &Counts) {
        let pods = counts.pods.is_some_and(|pods| pods > 0);
        *self = Self { apps: counts.apps > 0, pods, resumed: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_gone_as_a_whole_is_doubted() {
        let counts = |apps, pods| Counts { apps, pods };
        let mut both = Before::default();
        both.note(&counts(2, Some(3)));
        let mut apps = Before::default();
        apps.note(&counts(2, None));
        let table = [
            (&Before::default(), counts(0, None), false),
            (&Before::default(), counts(0, Some(0)), false),
            (&both, counts(1, Some(1)), false),
            (&both, counts(0, Some(3)), true),
            (&both, counts(2, Some(0)), true),
            (&apps, counts(2, Some(0)), false),
            (&apps, counts(0, None), true),
            (&Before::resumed(), counts(0, Some(0)), true),
            (&Before::resumed(), counts(0, Some(5)), true),
            (&Before::resumed(), counts(2, Some(0)), false),
            (&Before::resumed(), counts(2, None), true),
        ];
        for (before, now, doubted) in table {
            assert_eq!(before.doubts(&now), doubted, "{before:?} {now:?}");
        }
    }
}
