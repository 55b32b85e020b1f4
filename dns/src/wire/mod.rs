//! The DNS message as octets: what a query says, and the few constants that answers are made of.
//!
//! ```text
//!  packet ──► Request::read ──┬─ Question(Query)  header, lower-cased name, type, EDNS
//!                             ├─ Malformed(rcode) FORMERR, NOTIMP: a bare header answers it
//!                             └─ Ignore           not a query at all: no answer may be sent
//! ```
//!
//! Reading copies nothing but the name (lower-cased, RFC 4343) and allocates nothing. Whole messages for
//! other purposes (forwarding, tests) are hickory-proto's business, not this module's.

mod name;
mod query;
mod reply;

pub use name::{NAME_LEN_MAX, address_of, name_to_text, push_label, reverse_name, text_to_name};
pub use query::{Edns, Query, QueryName, Request};
pub(crate) use reply::Section;
pub use reply::{OPT_LEN, Reply, error_reply};

/// Octets of a message's header (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;
/// Largest UDP message without EDNS (RFC 1035 §4.2.1).
pub const UDP_SIZE_PLAIN: usize = 512;
/// Class IN.
pub const CLASS_IN: u16 = 1;

/// Record types that are answered by name. All others exist for us as numbers only.
pub mod rtype {
    /// RFC 1035 §3.4.1.
    pub const A: u16 = 1;
    /// RFC 1035 §3.3.11.
    pub const NS: u16 = 2;
    /// RFC 1035 §3.3.13.
    pub const SOA: u16 = 6;
    /// RFC 1035 §3.3.12.
    pub const PTR: u16 = 12;
    /// RFC 1035 §3.3.2; the answer to ANY (RFC 8482 §4.2).
    pub const HINFO: u16 = 13;
    /// RFC 1035 §3.3.14.
    pub const TXT: u16 = 16;
    /// RFC 3596 §2.1.
    pub const AAAA: u16 = 28;
    /// RFC 2782.
    pub const SRV: u16 = 33;
    /// RFC 6891 §6.1.
    pub const OPT: u16 = 41;
    /// RFC 8945.
    pub const TSIG: u16 = 250;
    /// RFC 1995.
    pub const IXFR: u16 = 251;
    /// RFC 5936.
    pub const AXFR: u16 = 252;
    /// RFC 8482.
    pub const ANY: u16 = 255;
}

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §6.1.3), the extended ones in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Rcode {
    /// The name exists; there may be no data of the type.
    NoError = 0,
    /// The query cannot be understood.
    FormErr = 1,
    /// It cannot be answered now.
    ServFail = 2,
    /// The name does not exist.
    NxDomain = 3,
    /// The opcode is not known here.
    NotImp = 4,
    /// It is not answered by policy.
    Refused = 5,
    /// Not ours to give, or not signed as it must be (RFC 8945 §5.2).
    NotAuth = 9,
    /// The EDNS version is not known here (RFC 6891 §6.1.3).
    BadVers = 16,
    /// A server cookie is wanted, and the client has it now (RFC 7873 §5.2.3).
    BadCookie = 23,
}

impl Rcode {
    /// All of them, in the order of [`Rcode::index`].
    pub const ALL: [Self; 9] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::NotAuth,
        Self::BadVers,
        Self::BadCookie,
    ];

    /// Its place in [`Rcode::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::NotAuth => 6,
            Self::BadVers => 7,
            Self::BadCookie => 8,
            other => other as usize,
        }
    }

    /// The mnemonic of the registry, as in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "NOERROR",
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::NotAuth => "NOTAUTH",
            Self::BadVers => "BADVERS",
            Self::BadCookie => "BADCOOKIE",
        }
    }
}
