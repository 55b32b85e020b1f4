//! Answers that are wrong on purpose.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{json_text, list, message};
use crate::sim::cluster::{Image, Kind};
use crate::sim::fault::Fault;
use crate::sim::server::{Raw, Reply};
use crate::sim::world::World;

/// The spoiled answer to any request.
pub(super) fn reply(world: &Arc<World>, fault: &Fault) -> Reply {
    match fault {
        Fault::Hang => Reply::Raw(hang()),
        Fault::Status(code) => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            message(status, "simulated failure").into()
        }
        Fault::Truncate => {
            let mut text = some_apps(world);
            text.truncate(text.len() / 2);
            json_text(StatusCode::OK, text).into()
        }
        Fault::Cut => Reply::Raw(cut(some_apps(world))),
        Fault::Empty => json_text(StatusCode::OK, Bytes::new()).into(),
        Fault::Garbage(count) => Reply::Raw(garbage(*count)),
        Fault::Close => Reply::Raw(Box::new(|stream| {
            Box::pin(async move {
                drop(stream);
                Ok(())
            })
        })),
        Fault::NoApps => json_text(StatusCode::OK, "{\"apps\":[]}").into(),
        // The caller has waited; there is nothing wrong with the answer itself.
        Fault::Slow(_) => message(StatusCode::OK, "late").into(),
    }
}

/// A list of the first few apps: enough to be plausible when cut.
fn some_apps(world: &World) -> Vec<u8> {
    let images: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).take(20).collect());
    let mut text = b"{\"apps\":[".to_vec();
    for (index, image) in images.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&list::app(image, super::filter::Embed::SINGLE));
    }
    text.extend_from_slice(b"]}");
    text
}

/// Reads what the client still says, and says nothing.
fn hang() -> Raw {
    Box::new(|mut stream: TcpStream| {
        Box::pin(async move {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await? > 0 {}
            Ok(())
        })
    })
}

fn cut(text: Vec<u8>) -> Raw {
    Box::new(move |mut stream: TcpStream| {
        Box::pin(async move {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                text.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&text[..text.len() / 2]).await?;
            stream.shutdown().await
        })
    })
}

fn garbage(count: u64) -> Raw {
    Box::new(move |mut stream: TcpStream| {
        Box::pin(async move {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {count}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            let mut rng = fastrand::Rng::with_seed(count);
            let mut left = count;
            let mut piece = vec![0; 64 << 10];
            while left > 0 {
                let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                rng.fill(&mut piece[..now]);
                stream.write_all(&piece[..now]).await?;
                left -= now as u64;
            }
            stream.shutdown().await
        })
    })
}
