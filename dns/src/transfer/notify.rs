//! Tells secondaries of changes (RFC 1996), each until it answers.
//!
//! ```text
//!  notice ─► due ─send─► waiting ─┬─ answered ─► done
//!             ▲                   ├─ silent or refused: later, 1 s doubled to 60 s ─┐
//!             └───────────────────┴───────────────── after TRIES_MAX: given up ◄────┘
//! ```
//!
//! A newer notice takes the place of an older one: there is one per secondary and zone.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follow::unix_seconds;
use super::journal::Notice;
use super::metrics::Notified;
use super::records::Record;
use super::{Rules, Transfers};
use crate::tsig::Signer;
use crate::wire::{CLASS_IN, name_to_text, rtype};

const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// About four minutes. Who slept through them asks by itself after the SOA's refresh time.
const TRIES_MAX: u32 = 10;
/// Answers are short.
const ANSWER_LEN_MAX: usize = 1500;
/// Opcode NOTIFY in the octet of a header that has it.
const OPCODE: u8 = 4 << 3;

/// Runs until `notices` ends or `stop`.
pub(super) async fn run(
    transfers: Arc<Transfers>,
    mut notices: mpsc::Receiver<Vec<Notice>>,
    stop: CancellationToken,
) {
    let mut notifier = Notifier { transfers, pending: BTreeMap::new(), v4: None, v6: None };
    let mut answer = [0; ANSWER_LEN_MAX];
    loop {
        let due = notifier.pending.values().map(|pending| pending.due).min();
        let timer = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
        // All arms are cancel-safe: a token, a channel, a timer, a datagram that stays in its socket.
        tokio::select! {
            () = stop.cancelled() => return,
            news = notices.recv() => match news {
                Some(news) => notifier.take(news),
                None => return,
            },
            () = timer, if due.is_some() => notifier.send_due().await,
            (len, from) = receive(notifier.v4.as_ref(), notifier.v6.as_ref(), &mut answer) => {
                notifier.answered(&answer[..len], from);
            }
        }
    }
}

/// The next datagram on either socket; never ends without one.
async fn receive(v4: Option<&UdpSocket>, v6: Option<&UdpSocket>, answer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        let ready = tokio::select! {
            ready = readable(v4) => ready,
            ready = readable(v6) => ready,
        };
        if let Ok(received) = ready.try_recv_from(answer) {
            return received;
        }
    }
}

async fn readable(socket: Option<&UdpSocket>) -> &UdpSocket {
    if let Some(socket) = socket
        && socket.readable().await.is_ok()
    {
        return socket;
    }
    core::future::pending().await
}

struct Notifier {
    transfers: Arc<Transfers>,
    /// By secondary and zone.
    pending: BTreeMap<(SocketAddr, Box<[u8]>), Pending>,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

struct Pending {
    soa: Record,
    tries: u32,
    due: Instant,
    /// What the answer must have; there is none before the first try.
    id: u16,
    signer: Option<Signer>,
}

impl Notifier {
    fn take(&mut self, news: Vec<Notice>) {
        let rules = self.transfers.rules.load_full();
        // Secondaries that were taken off the list are told no more.
        self.pending.retain(|(secondary, _), _| rules.config.notify.contains(secondary));
        for notice in news {
            for secondary in &rules.config.notify {
                let pending =
                    Pending { soa: notice.soa.clone(), tries: 0, due: Instant::now(), id: 0, signer: None };
                self.pending.insert((*secondary, notice.apex.clone()), pending);
            }
        }
    }

    async fn send_due(&mut self) {
        let (now, rules) = (Instant::now(), self.transfers.rules.load_full());
        let due: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.due <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.send(&key, &rules).await;
        }
    }

    async fn send(&mut self, key: &(SocketAddr, Box<[u8]>), rules: &Rules) {
        let (secondary, apex) = key;
        let Some(pending) = self.pending.get_mut(key) else { return };
        if pending.tries >= TRIES_MAX {
            tracing::warn!(%secondary, zone = name_to_text(apex), "secondary does not answer; told no more of this change");
            self.transfers.metrics.notified(Notified::GivenUp);
            self.pending.remove(key);
            return;
        }
        let packet = pending.packet(apex, rules);
        pending.due = Instant::now() + WAIT_MAX.min(WAIT_MIN * (1 << pending.tries.min(6)));
        pending.tries += 1;
        let sent = match self.socket(*secondary) {
            Ok(socket) => socket.send_to(&packet, *secondary).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let outcome = match sent {
            Ok(()) => Notified::Sent,
            Err(error) => {
                tracing::debug!(%secondary, %error, "notification not sent");
                Notified::Failed
            }
        };
        self.transfers.metrics.notified(outcome);
    }

    /// One socket per family, made when it is first needed.
    fn socket(&mut self, secondary: SocketAddr) -> io::Result<&UdpSocket> {
        let (place, any) = match secondary.ip() {
            IpAddr::V4(_) => (&mut self.v4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            IpAddr::V6(_) => (&mut self.v6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        if place.is_none() {
            let socket = std::net::UdpSocket::bind((any, 0))?;
            socket.set_nonblocking(true)?;
            *place = Some(UdpSocket::from_std(socket)?);
        }
        place.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn answered(&mut self, packet: &[u8], from: SocketAddr) {
        let Some(&[id0, id1, flags, codes]) = packet.first_chunk::<4>() else { return };
        let id = u16::from_be_bytes([id0, id1]);
        let waiting = self.pending.iter().find(|((secondary, _), pending)| {
            let asked = pending.tries > 0 && pending.id == id && is_same(*secondary, from);
            let signed = pending.signer.as_ref().is_none_or(|signer| signer.is_reply(packet, unix_seconds()));
            asked && flags & 0xf8 == 0x80 | OPCODE && signed
        });
        let Some((key, _)) = waiting else { return };
        let key = key.clone();
        if codes & 15 == 0 {
            self.transfers.metrics.notified(Notified::Answered);
            self.pending.remove(&key);
        } else {
            // It may be in the middle of a reload: it is told again, later.
            self.transfers.metrics.notified(Notified::Refused);
            tracing::debug!(secondary = %key.0, rcode = codes & 15, "notification refused");
        }
    }
}

/// The scope of a link-local address need not be the same on the way back.
fn is_same(asked: SocketAddr, from: SocketAddr) -> bool {
    (asked.ip(), asked.port()) == (from.ip(), from.port())
}

impl Pending {
    /// The message of the next try: the zone's SOA in question and, as a hint, in answer (RFC 1996 §3.7).
    fn packet(&mut self, apex: &[u8], rules: &Rules) -> Vec<u8> {
        self.id = fastrand::u16(..);
        let mut packet = self.id.to_be_bytes().to_vec();
        // Authoritative; one question, one answer.
        packet.extend_from_slice(&[OPCODE | 4, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        packet.extend_from_slice(apex);
        packet.extend(rtype::SOA.to_be_bytes());
        packet.extend(CLASS_IN.to_be_bytes());
        packet.extend([0xc0, 12]);
        packet.extend(rtype::SOA.to_be_bytes());
        packet.extend(CLASS_IN.to_be_bytes());
        packet.extend(self.soa.ttl.to_be_bytes());
        packet.extend((self.soa.data.len() as u16).to_be_bytes());
        packet.extend_from_slice(&self.soa.data);
        self.signer = rules.key.as_ref().map(|key| Signer::request(key, &mut packet, unix_seconds()));
        packet
    }
}
