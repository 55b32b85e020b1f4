//! The data threads: each one current-thread runtime on which DNS and proxy futures live.
//!
//! A thread gets *jobs*: closures sent from the control side that make a future inside the thread, which may
//! hold what only that thread may touch. It ends when its queue is closed and its futures are done.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portolan_proxy::Proxy;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

/// Jobs waiting for one thread. They come from start and reload only.
const JOBS_MAX: usize = 64;

/// What a job finds in its thread.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// Number of the thread, from 0.
    pub(crate) index: usize,
    /// The proxy's state of this thread.
    pub(crate) proxy: Rc<portolan_proxy::Worker>,
}

type Job = Box<dyn FnOnce(Local) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// All data threads.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    handle: std::thread::JoinHandle<()>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system refuses a thread or a runtime cannot be made.
    pub(crate) fn start(count: usize, proxy: &Arc<Proxy>) -> std::io::Result<Self> {
        let threads =
            (0..count).map(|index| Thread::start(index, Arc::clone(proxy))).collect::<Result<_, _>>()?;
        Ok(Self { threads })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Gives thread `index` a job. Waits if its queue is full.
    pub(crate) async fn run<F, Fut>(&self, index: usize, job: F)
    where
        F: FnOnce(Local) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let job: Job = Box::new(move |local| Box::pin(job(local)));
        if self.threads[index].jobs.send(job).await.is_err() {
            tracing::error!(worker = index, "a data thread has ended early");
        }
    }

    /// Closes the queues and waits until all futures are done (they have been told to stop), at most `limit`.
    pub(crate) async fn join(self, limit: Duration) {
        let joined = tokio::task::spawn_blocking(move || {
            for thread in self.threads {
                drop(thread.jobs);
                if thread.handle.join().is_err() {
                    tracing::error!("a data thread panicked");
                }
            }
        });
        if tokio::time::timeout(limit, joined).await.is_err() {
            tracing::warn!(limit_seconds = limit.as_secs(), "connections were still open at the drain limit");
        }
    }
}

impl Thread {
    fn start(index: usize, proxy: Arc<Proxy>) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = std::thread::Builder::new().name(format!("data-{index}")).spawn(move || {
            let local = Local { index, proxy: proxy.worker(index) };
            LocalSet::new().block_on(&runtime, serve(local, queue));
        })?;
        Ok(Self { jobs, handle })
    }
}

async fn serve(local: Local, mut queue: mpsc::Receiver<Job>) {
    let mut running = JoinSet::new();
    loop {
        // Both arms are cancel-safe: recv loses no job, join_next no result.
        tokio::select! {
            job = queue.recv() => match job {
                Some(job) => drop(running.spawn_local(job(local.clone()))),
                None => break,
            },
            Some(ended) = running.join_next() => log_panic(ended),
        }
    }
    while let Some(ended) = running.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a server task of a data thread failed");
    }
}
