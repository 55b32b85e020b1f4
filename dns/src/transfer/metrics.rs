//! What is counted of transfers and notifications.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Name, help (with the unit) and labels of every series.
pub const METRICS: &[(&str, &str, &[&str])] = &[
    ("portolan_dns_transfers_total", "Requests for zones, by what came of them", &["outcome"]),
    ("portolan_dns_transfer_octets_total", "Octets of transfers made", &[]),
    ("portolan_dns_transfers_open", "Transfers in progress", &[]),
    ("portolan_dns_journal_differences", "Differences between versions of zones that are kept", &[]),
    ("portolan_dns_journal_octets", "Octets that these take", &[]),
    ("portolan_dns_notify_total", "Notifications of secondaries, by what came of them", &["outcome"]),
];

/// What a transfer gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    Differences,
    Current,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Differences => "differences",
            Self::Current => "current",
        }
    }
}

/// What came of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notified {
    /// It went out.
    Sent,
    /// The secondary has heard.
    Answered,
    /// It answered with an error.
    Refused,
    /// It could not be sent.
    Failed,
    /// It was tried often enough.
    GivenUp,
}

impl Notified {
    const ALL: [Self; 5] = [Self::Sent, Self::Answered, Self::Refused, Self::Failed, Self::GivenUp];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    transfers: IntCounterVec,
    octets: IntCounter,
    open: IntGauge,
    differences: IntGauge,
    journal_octets: IntGauge,
    notified: IntCounterVec,
}

impl Metrics {
    /// Builds the series of [`METRICS`] and registers them.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |index: usize| Opts::new(METRICS[index].0, METRICS[index].1);
        let metrics = Self {
            transfers: IntCounterVec::new(opts(0), METRICS[0].2)?,
            octets: IntCounter::with_opts(opts(1))?,
            open: IntGauge::with_opts(opts(2))?,
            differences: IntGauge::with_opts(opts(3))?,
            journal_octets: IntGauge::with_opts(opts(4))?,
            notified: IntCounterVec::new(opts(5), METRICS[5].2)?,
        };
        // From the start, so that a rate of what never happened is 0 and not absent.
        for outcome in ["whole", "differences", "current", "refused", "overload", "broken"] {
            metrics.transfers.with_label_values(&[outcome]);
        }
        for outcome in Notified::ALL {
            metrics.notified.with_label_values(&[outcome.as_str()]);
        }
        registry.register(Box::new(metrics.transfers.clone()))?;
        registry.register(Box::new(metrics.octets.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        registry.register(Box::new(metrics.differences.clone()))?;
        registry.register(Box::new(metrics.journal_octets.clone()))?;
        registry.register(Box::new(metrics.notified.clone()))?;
        Ok(metrics)
    }

    pub(super) fn given(&self, kind: Kind) {
        self.transfers.with_label_values(&[kind.as_str()]).inc();
    }

    pub(super) fn refused(&self) {
        self.transfers.with_label_values(&["refused"]).inc();
    }

    pub(super) fn overload(&self) {
        self.transfers.with_label_values(&["overload"]).inc();
    }

    pub(super) fn broken(&self) {
        self.transfers.with_label_values(&["broken"]).inc();
    }

    pub(super) fn octets(&self, octets: u64) {
        self.octets.inc_by(octets);
    }

    pub(super) fn open(&self, more: i64) {
        self.open.add(more);
    }

    pub(super) fn journal(&self, differences: usize, octets: usize) {
        self.differences.set(differences as i64);
        self.journal_octets.set(octets as i64);
    }

    pub(super) fn notified(&self, outcome: Notified) {
        self.notified.with_label_values(&[outcome.as_str()]).inc();
    }
}
