//! Threads that do the arithmetic of handshakes, so that no worker stands still for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use tokio::sync::oneshot;

use crate::stream::Session;

/// Threads at most: beyond that, handshakes would take more of the machine than what they are for.
const THREADS_MAX: usize = 4;
/// Steps that wait for one thread at most, about a quarter of a second's work. Whoever comes then is sent away.
const QUEUE_MAX: usize = 1024;
/// How far below the workers the threads stand: a worker that has something to do goes first.
const NICENESS: i32 = 5;

/// A session with what it is to take in, and what came of it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) session: Session,
    /// Octets from the other side.
    pub(crate) incoming: Vec<u8>,
    /// Octets of `incoming` that are done with.
    pub(crate) taken: usize,
    /// Octets for the other side.
    pub(crate) outgoing: Vec<u8>,
    /// Content that came behind the handshake.
    pub(crate) content: Vec<u8>,
    pub(crate) outcome: Result<(), rustls::Error>,
}

struct Job {
    work: Box<Work>,
    done: oneshot::Sender<Box<Work>>,
}

/// The threads. They end when this is dropped and what waits is done.
#[derive(Debug)]
pub(crate) struct Threads {
    queues: Vec<SyncSender<Job>>,
}

impl Threads {
    /// One for each CPU this process may use, up to four. Where the system gives no thread, nobody is served and the
    /// log says why.
    pub(crate) fn start() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self { queues: (0..count).filter_map(thread).collect() }
    }

    /// Hands work to the thread of a worker. The receiver gets it back when it is done.
    ///
    /// # Errors
    /// Too much waits already.
    pub(crate) fn hand_over(
        &self,
        worker: usize,
        work: Box<Work>,
    ) -> Result<oneshot::Receiver<Box<Work>>, Box<Work>> {
        let (done, result) = oneshot::channel();
        let Some(queue) = self.queues.get(worker % self.queues.len().max(1)) else { return Err(work) };
        match queue.try_send(Job { work, done }) {
            Ok(()) => Ok(result),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job.work),
        }
    }
}

fn thread(number: usize) -> Option<SyncSender<Job>> {
    let (queue, jobs) = sync_channel(QUEUE_MAX);
    std::thread::Builder::new()
        .name(format!("handshake-{number}"))
        .spawn(move || run(&jobs))
        .inspect_err(|error| tracing::error!(%error, "no thread for handshakes"))
        .ok()
        .map(|_| queue)
}

fn run(jobs: &Receiver<Job>) {
    // On Linux the priority is a thread's own. Without the right to lower it, it stays as it is.
    let own = Some(gettid());
    let _ = getpriority_process(own).and_then(|niceness| setpriority_process(own, niceness + NICENESS));
    while let Ok(Job { mut work, done }) = jobs.recv() {
        // A connection that has gone meanwhile is not worth the work.
        if done.is_closed() {
            continue;
        }
        // A thread that ended would take the handshakes of every worker it serves with it. What has panicked is
        // dropped, and its connection with it.
        let performed = catch_unwind(AssertUnwindSafe(|| {
            work.perform();
            work
        }));
        match performed {
            // Gone meanwhile after all.
            Ok(work) => drop(done.send(work)),
            Err(_) => tracing::error!("a step of a TLS handshake panicked"),
        }
    }
}

impl Work {
    /// Takes in all that is there to take.
    fn perform(&mut self) {
        let Self { session, incoming, outgoing, content, .. } = self;
        let (taken, outcome) = session.shake(incoming, outgoing, content);
        self.taken = taken;
        self.outcome = outcome;
    }
}
