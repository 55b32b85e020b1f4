//! A judged request head, rewritten for its endpoint in one pass.

use core::net::{IpAddr, SocketAddr};
use std::io::Write as _;

use super::{Framing, RequestHead};
use crate::l7::head::{Field, LineCopier, fields_offset, members, push_number};

impl<'b> RequestHead<'b, '_> {
    /// Writes the head as the upstream gets it: for this hop's own fields ours, forwarding headers extended
    /// or replaced, everything else as it came.
    ///
    /// `own` is the address the client connected to: the host of a request of HTTP/1.0 that names none.
    pub(crate) fn rewrite(&self, client: &ClientFacts, own: Option<SocketAddr>, out: &mut Vec<u8>) {
        self.push_request_line(out);
        self.push_host(own, out);
        let mut copier = LineCopier::new(self.head, fields_offset(self.head));
        let mut kept = Kept::default();
        for (header, field) in self.headers.iter().zip(&self.fields) {
            if !self.passes(header, *field, client, &mut kept) {
                copier.skip(header, out);
            }
        }
        copier.finish(out);
        self.push_framing(kept.length, out);
        self.push_hop_fields(out);
        self.push_forwarding(client, &kept, out);
        out.extend_from_slice(b"\r\n");
    }

    fn push_request_line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        if !self.target.starts_with(['/', '*']) {
            // "http://host" and "http://host?query" ask for the root.
            out.extend_from_slice(if self.method == "OPTIONS" && self.target.is_empty() {
                b"*"
            } else {
                b"/"
            });
        }
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    /// The head is one of HTTP/1.1, which has a Host (RFC 9112 §3.2) even where the client's had none.
    fn push_host(&self, own: Option<SocketAddr>, out: &mut Vec<u8>) {
        match (self.authority, own) {
            (Some(authority), _) if self.is_absolute => push_field(out, b"Host", authority.as_bytes()),
            (Some(_), _) => {}
            (None, Some(own)) => {
                // Writing to memory does not fail.
                let _ = write!(out, "Host: {own}\r\n");
            }
            (None, None) => push_field(out, b"Host", b""),
        }
    }

    /// Whether a field goes on as it is.
    fn passes(
        &self,
        header: &httparse::Header<'b>,
        field: Field,
        client: &ClientFacts,
        kept: &mut Kept<'b>,
    ) -> bool {
        let trusted = client.is_trusted;
        match field {
            Field::Other | Field::UserAgent => !self.options.names(header.name),
            Field::Host => !self.is_absolute,
            Field::ContentLength => {
                kept.length = true;
                false
            }
            Field::TransferEncoding => false,
            Field::Expect => self.facts.expects_continue,
            Field::Connection | Field::Hop | Field::Upgrade | Field::Te => false,
            // Several fields are one list; it is written once, with our own member last.
            Field::XForwardedFor => {
                if trusted {
                    kept.forwarded_for.push(header.value);
                }
                false
            }
            Field::Forwarded if client.writes_forwarded => {
                if trusted {
                    kept.forwarded.push(header.value);
                }
                false
            }
            Field::Forwarded => trusted,
            Field::XForwardedProto => trusted && !core::mem::replace(&mut kept.proto, true),
            Field::XForwardedHost => trusted && !core::mem::replace(&mut kept.host, true),
            Field::XForwardedPort => trusted && !core::mem::replace(&mut kept.port, true),
            Field::OtherForwarding => trusted && !self.options.names(header.name),
        }
    }

    /// Says where the content ends in our own words, so that the endpoint reads what was judged and nothing else.
    fn push_framing(&self, had_length: bool, out: &mut Vec<u8>) {
        let length = match self.facts.framing {
            Framing::Chunked => return out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Framing::Length(length) => length,
            Framing::None if had_length => 0,
            Framing::None | Framing::UntilClose => return,
        };
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, length);
        out.extend_from_slice(b"\r\n");
    }

    fn push_hop_fields(&self, out: &mut Vec<u8>) {
        let wants_trailers = self.headers.iter().zip(&self.fields).any(|(header, field)| {
            *field == Field::Te && members(header.value).any(|m| m.eq_ignore_ascii_case(b"trailers"))
        }) && !self.facts.is_http10;
        if wants_trailers {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        if self.facts.upgrade {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            for (header, _) in
                self.headers.iter().zip(&self.fields).filter(|(_, field)| **field == Field::Upgrade)
            {
                push_field(out, b"Upgrade", header.value);
            }
        } else if wants_trailers {
            out.extend_from_slice(b"Connection: TE\r\n");
        }
    }

    fn push_forwarding(&self, client: &ClientFacts, kept: &Kept<'b>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"X-Forwarded-For: ");
        for value in &kept.forwarded_for {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(&client.address_line);
        if !kept.proto {
            out.extend_from_slice(client.proto_line);
        }
        if !kept.port {
            out.extend_from_slice(&client.port_line);
        }
        let authority = self.authority.filter(|authority| !authority.is_empty());
        if !kept.host
            && let Some(authority) = authority
        {
            push_field(out, b"X-Forwarded-Host", authority.as_bytes());
        }
        if client.writes_forwarded {
            out.extend_from_slice(b"Forwarded: ");
            for value in &kept.forwarded {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(&client.forwarded_member);
            if let Some(authority) = authority {
                out.extend_from_slice(b";host=\"");
                out.extend_from_slice(authority.as_bytes());
                out.push(b'"');
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What was seen of the fields that are written anew, and the forwarding fields of a trusted proxy that stay.
#[derive(Default)]
struct Kept<'b> {
    length: bool,
    proto: bool,
    host: bool,
    port: bool,
    forwarded_for: smallvec::SmallVec<[&'b [u8]; 2]>,
    forwarded: smallvec::SmallVec<[&'b [u8]; 2]>,
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What is the same for all requests of one connection, put into words once.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    is_trusted: bool,
    writes_forwarded: bool,
    /// Address and CRLF.
    address_line: Box<[u8]>,
    port_line: Box<[u8]>,
    proto_line: &'static [u8],
    /// `for=…;proto=http`
    forwarded_member: Box<[u8]>,
}

impl ClientFacts {
    /// `port` is the one the client connected to, with TLS or without.
    pub(crate) fn new(
        address: IpAddr,
        port: u16,
        is_tls: bool,
        is_trusted: bool,
        writes_forwarded: bool,
    ) -> Self {
        let (proto, proto_line) = match is_tls {
            true => ("https", b"X-Forwarded-Proto: https\r\n".as_slice()),
            false => ("http", b"X-Forwarded-Proto: http\r\n".as_slice()),
        };
        let mut member = Vec::new();
        if writes_forwarded {
            // Writing to memory does not fail.
            let _ = match address {
                IpAddr::V4(address) => write!(member, "for={address};proto={proto}"),
                IpAddr::V6(address) => write!(member, "for=\"[{address}]\";proto={proto}"),
            };
        }
        Self {
            is_trusted,
            writes_forwarded,
            proto_line,
            address_line: format!("{address}\r\n").into_bytes().into(),
            port_line: format!("X-Forwarded-Port: {port}\r\n").into_bytes().into(),
            forwarded_member: member.into(),
        }
    }
}
