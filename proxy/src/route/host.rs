//! The host a request asks for, brought into the one form that rules are kept in.

/// Longest host that a rule can name, in octets (RFC 1035 §2.3.4 gives 253 to names).
pub(super) const HOST_LEN_MAX: usize = 255;

/// A host in lower case, without port and without a dot at the end. Lives on the stack.
pub(super) struct Host {
    octets: [u8; HOST_LEN_MAX],
    len: usize,
}

impl Host {
    /// Reads the value of a Host field or an authority. `None` for an empty host and for one that is longer than
    /// any rule's: only rules without a host can match it.
    pub(super) fn parse(authority: &[u8]) -> Option<Self> {
        let host = without_port(authority);
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.is_empty() || host.len() > HOST_LEN_MAX {
            return None;
        }
        let mut octets = [0; HOST_LEN_MAX];
        for (to, from) in octets.iter_mut().zip(host) {
            *to = from.to_ascii_lowercase();
        }
        Some(Self { octets, len: host.len() })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// An IPv6 literal keeps its brackets (RFC 3986 §3.2.2); elsewhere the port begins at the last colon.
fn without_port(authority: &[u8]) -> &[u8] {
    if authority.first() == Some(&b'[') {
        let end = memchr::memchr(b']', authority).map_or(authority.len(), |at| at + 1);
        return &authority[..end];
    }
    match memchr::memchr(b':', authority) {
        // More than one colon without brackets: an IPv6 literal as some clients write it.
        Some(at) if memchr::memchr(b':', &authority[at + 1..]).is_none() => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_loses_port_case_and_final_dot() {
        let read = |text: &str| Host::parse(text.as_bytes()).map(|host| host.as_bytes().to_vec());
        for (given, want) in [
            ("Shop.Example.COM:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("shop.example.com.:80", "shop.example.com"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(read(given).as_deref(), Some(want.as_bytes()), "{given}");
        }
        assert_eq!(read(""), None);
        assert_eq!(read(":80"), None);
        assert_eq!(read("."), None);
        assert_eq!(read(&"x".repeat(256)), None);
        assert!(read(&"x".repeat(255)).is_some());
    }
}
