//! Endpoints of another make that speak HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

pub(crate) type Content = http_body_util::combinators::BoxBody<Bytes, hyper::Error>;
pub(crate) type Answer = http::Response<Content>;

/// An endpoint of another make, on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start<F>(
        streams_max: u32,
        serve: impl Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::run(streams_max, None, serve)
    }

    /// The same over TLS. Connections whose handshake fails are dropped.
    pub(crate) fn secure<F>(
        config: ServerConfig,
        serve: impl Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::run(100, Some(TlsAcceptor::from(Arc::new(config))), serve)
    }

    fn run<F>(
        streams_max: u32,
        tls: Option<TlsAcceptor>,
        serve: impl Fn(http::Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut tasks = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    counter.fetch_add(1, Ordering::SeqCst);
                    let (serve, tls) = (serve.clone(), tls.clone());
                    let service = service_fn(move |request| {
                        let serve = serve.clone();
                        async move { Ok::<_, Infallible>(serve(request).await) }
                    });
                    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.max_concurrent_streams(streams_max);
                    tasks.spawn(async move {
                        // How a connection ends is up to the test.
                        let _ = match tls {
                            None => builder.serve_connection(TokioIo::new(stream), service).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
                                Err(_) => return,
                            },
                        };
                    });
                }
            });
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub(crate) fn full(octets: impl Into<Bytes>) -> Content {
    Full::new(octets.into()).map_err(|never| match never {}).boxed()
}

/// Says what it got: request line and fields, then the content.
pub(crate) async fn tell(request: http::Request<Incoming>) -> Answer {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let collected = request.into_body().collect().await.unwrap();
    if let Some(trailers) = collected.trailers() {
        text.push_str(&format!("trailers: {trailers:?}\n"));
    }
    let mut content = text.into_bytes();
    content.extend_from_slice(&collected.to_bytes());
    http::Response::builder().header("x-a", "1").header("x-a", "2").body(full(content)).unwrap()
}

/// Sends every piece back as it comes, trailers included.
pub(crate) async fn echo(request: http::Request<Incoming>) -> Answer {
    let kind = request.headers().get("content-type").cloned();
    let mut answer = http::Response::new(request.into_body().boxed());
    if let Some(kind) = kind {
        answer.headers_mut().insert("content-type", kind);
    }
    answer
}
