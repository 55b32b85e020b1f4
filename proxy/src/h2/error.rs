//! Why a stream or a connection ends (RFC 9113 §7).

/// An error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Reason {
    No = 0x0,
    Protocol = 0x1,
    Internal = 0x2,
    FlowControl = 0x3,
    StreamClosed = 0x5,
    FrameSize = 0x6,
    Refused = 0x7,
    Cancel = 0x8,
    Compression = 0x9,
    EnhanceYourCalm = 0xb,
}

impl Reason {
    pub(crate) const fn octets(self) -> [u8; 4] {
        (self as u32).to_be_bytes()
    }
}

/// The connection can't go on: GOAWAY with this reason, and the end. The text is for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{1} ({0:?})")]
pub(crate) struct Broken(pub(crate) Reason, pub(crate) &'static str);
