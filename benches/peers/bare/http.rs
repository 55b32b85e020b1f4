//! An HTTP/1.1 forwarder: one thread, both heads parsed once, one forwarding field added, connections kept per
//! upstream. With a certificate the same behind TLS. Requests have no bodies; responses a Content-Length.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificate;

const HEAD_MAX: usize = 8 << 10;
const PIECE: usize = 64 << 10;

struct Upstreams {
    ports: Vec<u16>,
    idle: Vec<RefCell<Vec<TcpStream>>>,
    turn: Cell<usize>,
}

/// Serves on `port`; `certificate` is the files of chain and key.
pub(super) fn run(port: u16, upstreams: &[u16], certificate: Option<&[String]>) -> io::Result<()> {
    let upstreams = Rc::new(Upstreams {
        idle: upstreams.iter().map(|_| RefCell::default()).collect(),
        ports: upstreams.to_vec(),
        turn: Cell::new(0),
    });
    let tls = match certificate {
        Some([chain, key]) => {
            Some(TlsAcceptor::from(certificate::server(chain, key).map_err(io::Error::other)?))
        }
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let (upstreams, tls) = (Rc::clone(&upstreams), tls.clone());
            tokio::task::spawn_local(async move {
                match tls {
                    None => serve(&upstreams, client).await,
                    Some(tls) => serve(&upstreams, tls.accept(client).await.ok()?).await,
                }
            });
        }
    })
}

/// One client; `None` ends it, for whatever reason.
async fn serve<T: AsyncRead + AsyncWrite + Unpin>(upstreams: &Upstreams, mut client: T) -> Option<()> {
    let (mut input, mut have) = (vec![0; HEAD_MAX], 0);
    let (mut request, mut piece) = (Vec::with_capacity(1024), vec![0; PIECE]);
    loop {
        let (used, last) = loop {
            if let Some(found) = rewrite(&input[..have], &mut request)? {
                break found;
            }
            let read = client.read(&mut input[have..]).await.ok()?;
            have += Some(read).filter(|&read| read > 0)?;
        };
        input.copy_within(used..have, 0);
        have -= used;
        let turn = upstreams.turn.get() % upstreams.ports.len();
        upstreams.turn.set(turn + 1);
        let idle = upstreams.idle[turn].borrow_mut().pop();
        let mut upstream = match idle {
            Some(upstream) => upstream,
            None => connect(upstreams.ports[turn]).await?,
        };
        upstream.write_all(&request).await.ok()?;
        respond(&mut upstream, &mut client, &mut piece, last).await?;
        if last {
            return client.shutdown().await.ok();
        }
        upstreams.idle[turn].borrow_mut().push(upstream);
    }
}

async fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Makes the upstream's request of a whole head: the octets it took, and whether it is the client's last. The inner
/// `None`: more is to come.
fn rewrite(input: &[u8], request: &mut Vec<u8>) -> Option<Option<(usize, bool)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    if input.is_empty() {
        return Some(None);
    }
    let httparse::Status::Complete(used) = head.parse(input).ok()? else { return Some(None) };
    let (mut last, method, path) = (false, head.method?, head.path?);
    request.clear();
    write!(request, "{method} {path} HTTP/1.1\r\n").ok()?;
    for field in head.headers {
        if field.name.eq_ignore_ascii_case("connection") {
            last |= field.value.eq_ignore_ascii_case(b"close");
            continue;
        }
        request.extend_from_slice(field.name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(field.value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"x-forwarded-for: 127.0.0.1\r\n\r\n");
    Some(Some((used, last)))
}

/// Passes one response on; before a close it says so, as the peers do.
async fn respond<T: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut TcpStream,
    client: &mut T,
    piece: &mut [u8],
    last: bool,
) -> Option<()> {
    let mut have = 0;
    let (head, mut rest) = loop {
        let read = upstream.read(&mut piece[have..]).await.ok()?;
        have += Some(read).filter(|&read| read > 0)?;
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        if let httparse::Status::Complete(end) = head.parse(&piece[..have]).ok()? {
            let field =
                head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"))?;
            let len: usize = str::from_utf8(field.value).ok()?.parse().ok()?;
            break (end, len.checked_sub(have - end)?);
        }
    };
    if last {
        let closing = [&piece[..head - 2], b"connection: close\r\n\r\n", &piece[head..have]].concat();
        client.write_all(&closing).await.ok()?;
    } else {
        client.write_all(&piece[..have]).await.ok()?;
    }
    while rest > 0 {
        let read = upstream.read(piece).await.ok()?;
        rest = rest.checked_sub(Some(read).filter(|&read| read > 0)?)?;
        client.write_all(&piece[..read]).await.ok()?;
    }
    Some(())
}
