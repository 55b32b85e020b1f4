//! `resolve NAME [TYPE]`: one question to the daemon's DNS, over UDP and, when the answer is cut short, TCP.

use core::time::Duration;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{Daemon, ResolveArgs, client, print, reachable};

/// Where the daemon's DNS is without being told.
const DNS_DEFAULT: ([u8; 4], u16) = ([127, 0, 0, 1], 8053);
/// Wait for one datagram, and how often it is asked.
const WAIT: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
/// Size of a UDP answer we take (RFC 6891 §6.2.3; 1232 octets pass everywhere).
const PAYLOAD: u16 = 1232;

/// Prints the daemon's answer to one DNS question, in the manner of dig.
///
/// # Errors
/// The question is malformed, no server answers, or the answer is not a good one (any code but "no error", or no record of that type).
pub async fn resolve(arguments: &ResolveArgs) -> Result<()> {
    let name =
        Name::from_utf8(&arguments.name).with_context(|| format!("{} is not a name", arguments.name))?;
    let mut name = name;
    name.set_fqdn(true);
    let kind: RecordType = arguments
        .kind
        .to_ascii_uppercase()
        .parse()
        .ok()
        .with_context(|| format!("{} is no type", arguments.kind))?;
    let server = match arguments.dns {
        Some(address) => address,
        None => server_of(&arguments.daemon).await?,
    };
    let answer = ask(server, &name, kind).await?;
    print(&render(&answer, server))?;
    match (answer.metadata.response_code, answer.answers.is_empty()) {
        (ResponseCode::NoError, false) => Ok(()),
        (ResponseCode::NoError, true) => bail!("{name} has no {kind}"),
        (code, _) => bail!("{name} {kind}: {code}"),
    }
}

/// The DNS address of the daemon: as configured, else as it says itself, else the default.
pub(super) async fn server_of(daemon: &Daemon) -> Result<SocketAddr> {
    if let Some(config) = daemon.load()? {
        let dns = config.dns.as_ref().and_then(|dns| dns.listen.first());
        return dns
            .copied()
            .map(reachable)
            .context("the configuration has no [dns] listener; name one with --dns");
    }
    let told = client::get(&daemon.url()?, "/api/v1/listeners").await;
    match told {
        Ok(body) => Ok(dns_of(&body).map_or(DNS_DEFAULT.into(), reachable)),
        // Without being told of a daemon, its DNS may answer although its admin API does not.
        Err(_) if daemon.admin.is_none() => Ok(DNS_DEFAULT.into()),
        Err(error) => Err(error),
    }
}

/// The first DNS listener of the daemon's own list.
pub(super) fn dns_of(body: &[u8]) -> Option<SocketAddr> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let is_dns = |listener: &&Value| {
        let says =
            |name: &str| listener.get(name).and_then(Value::as_str).is_some_and(|own| own.starts_with("dns"));
        says("protocol") || says("name")
    };
    let listener = answer.get("listeners")?.as_array()?.iter().find(is_dns)?;
    ["address", "bind"].iter().find_map(|name| listener.get(name)?.as_str()?.parse().ok())
}

/// One question, with fallback to TCP.
pub(super) async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    let wire = question.to_vec().context("the question cannot be written")?;
    let answer = over_udp(server, &wire, question.metadata.id).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let asking = over_tcp(server, &wire);
    tokio::time::timeout(WAIT * 2, asking)
        .await
        .unwrap_or_else(|_| bail!("{server} does not answer over TCP"))
}

async fn over_udp(server: SocketAddr, wire: &[u8], id: u16) -> Result<Message> {
    let local: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await.context("no socket")?;
    socket.connect(server).await.with_context(|| format!("no way to {server}"))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    for _ in 0..TRIES {
        socket.send(wire).await.with_context(|| format!("{server} takes no question"))?;
        let receiving = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                // Late answers to an earlier question and nonsense are passed over (RFC 5452 §9.1).
                match Message::from_vec(&buffer[..length]) {
                    Ok(answer) if answer.metadata.id == id => return Ok::<_, std::io::Error>(answer),
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(WAIT, receiving).await {
            Ok(answer) => return answer.with_context(|| format!("no DNS server answers at {server}")),
            Err(_) => tracing::debug!(%server, "no answer yet"),
        }
    }
    bail!("{server} does not answer")
}

async fn over_tcp(server: SocketAddr, wire: &[u8]) -> Result<Message> {
    let mut stream = TcpStream::connect(server).await.with_context(|| format!("{server} takes no TCP"))?;
    let length = u16::try_from(wire.len()).context("the question is too long")?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(wire);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await.context("the answer over TCP broke off")?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.context("the answer over TCP broke off")?;
    Message::from_vec(&answer).context("the answer over TCP is malformed")
}

/// The answer as dig shows it: status, then the sections that hold something.
pub(super) fn render(answer: &Message, server: SocketAddr) -> String {
    let head = &answer.metadata;
    let authority = if head.authoritative { ", authoritative" } else { "" };
    let code = format!("{:?}", head.response_code).to_uppercase();
    let mut text = format!(";; {code}{authority}, from {server}\n");
    for (title, records) in
        [("ANSWER", &answer.answers), ("AUTHORITY", &answer.authorities), ("ADDITIONAL", &answer.additionals)]
    {
        if records.is_empty() {
            continue;
        }
        text += &format!(";; {title}\n");
        text.extend(records.iter().map(line));
    }
    text
}

fn line(record: &Record) -> String {
    let (name, class, kind) = (&record.name, record.dns_class, record.record_type());
    super::table::clean(&format!("{name} {} {class} {kind} {}", record.ttl, record.data)) + "\n"
}
