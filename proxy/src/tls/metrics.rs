//! How handshakes end.

use rustls::{HandshakeKind, ProtocolVersion};

use crate::metrics::Cell;

/// Label values of a handshake that succeeded: version, resumed.
pub(crate) const KINDS: [(&str, &str); 4] =
    [("1.2", "false"), ("1.2", "true"), ("1.3", "false"), ("1.3", "true")];

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The other side closed, or its connection broke.
    Closed,
    /// It took too long.
    TimedOut,
    /// The other side does not speak TLS; it may speak HTTP.
    Plaintext,
    /// The other side's messages are wrong, or nothing it offers fits.
    Protocol,
    /// The other side refused the certificate or something else of ours.
    Refused,
    /// Too many handshakes at once.
    Overload,
    /// The endpoint's certificate is not to be believed.
    Certificate,
}

/// Label values of [`Failure`], in its order.
pub(crate) const REASONS: [&str; 7] =
    ["closed", "timeout", "plaintext", "protocol", "refused", "overload", "certificate"];

/// The counters of one listener on one worker, or of all endpoints.
#[derive(Debug, Default)]
pub(crate) struct HandshakeCells {
    pub(crate) done: [Cell; KINDS.len()],
    pub(crate) failed: [Cell; REASONS.len()],
}

impl HandshakeCells {
    pub(crate) fn succeeded(&self, version: Option<ProtocolVersion>, kind: Option<HandshakeKind>) {
        let newer = usize::from(version == Some(ProtocolVersion::TLSv1_3));
        let resumed = usize::from(kind == Some(HandshakeKind::Resumed));
        self.done[2 * newer + resumed].add(1);
    }

    pub(crate) fn failed(&self, failure: Failure) {
        self.failed[failure as usize].add(1);
    }
}
