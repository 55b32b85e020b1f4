//! Large answers, written piece by piece as the client takes them.
//!
//! A list is made of pictures taken under the lock (two reference counts per app) and turned into JSON outside of it, some 64 KiB at a time, so
//! that a list of 100,000 tasks neither waits in memory nor keeps events waiting.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::filter::Embed;
use super::mark_json;
use crate::sim::cluster::{Definition, Image, State, TaskView, timestamp};
use crate::sim::server::Body;

/// A piece is sent when it has reached this size.
const PIECE: usize = 64 << 10;

/// A body that is made while it is sent.
struct Lazy<F>(F);

impl<F: FnMut() -> Option<Bytes> + Unpin> hyper::body::Body for Lazy<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready((self.0)().map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn lazy(next: impl FnMut() -> Option<Bytes> + Unpin + Send + 'static) -> Response<Body> {
    let mut response = Response::new(Lazy(next).boxed_unsync());
    mark_json(&mut response);
    response
}

/// `{"apps": […]}`.
pub(super) fn apps(images: Vec<Image>, embed: Embed) -> Response<Body> {
    let mut apps = images.into_iter();
    let mut current: Option<(Image, usize)> = None;
    let mut state = Progress::Begin;
    lazy(move || {
        let mut out = state.open("{\"apps\":[")?;
        loop {
            if let Some((image, done)) = &mut current {
                if !write_tasks(&mut out, image, done) {
                    break;
                }
                out.extend_from_slice(b"]}");
                current = None;
            }
            if out.len() >= PIECE {
                break;
            }
            let Some(image) = apps.next() else {
                out.extend_from_slice(b"]}");
                state = Progress::Done;
                break;
            };
            state.separate(&mut out);
            write_head(&mut out, &image, embed);
            if embed.tasks {
                out.extend_from_slice(b",\"tasks\":[");
                current = Some((image, 0));
            } else {
                out.push(b'}');
            }
        }
        Some(out.into())
    })
}

/// `{"tasks": […]}` with service ports, of those apps, if `wanted`.
pub(super) fn tasks(images: Vec<Image>, wanted: fn(State) -> bool) -> Response<Body> {
    let mut apps = images.into_iter();
    let mut current: Option<(Image, Vec<u16>, usize)> = None;
    let mut state = Progress::Begin;
    lazy(move || {
        let mut out = state.open("{\"tasks\":[")?;
        while out.len() < PIECE {
            let Some((image, ports, done)) = &mut current else {
                let Some(image) = apps.next() else {
                    out.extend_from_slice(b"]}");
                    state = Progress::Done;
                    break;
                };
                let ports = image.definition.ports.iter().map(|port| port.service_port).collect();
                current = Some((image, ports, 0));
                continue;
            };
            let Some(task) = image.tasks.get(*done) else {
                current = None;
                continue;
            };
            *done += 1;
            if wanted(task.state) {
                state.separate(&mut out);
                write_task(&mut out, image, task, ports);
            }
        }
        Some(out.into())
    })
}

/// Where a list is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Begin,
    First,
    Further,
    Done,
}

impl Progress {
    /// The buffer of the next piece, opened with `start` if it is the first; `None` at the end.
    fn open(&mut self, start: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(PIECE + 4096);
        match self {
            Self::Done => return None,
            Self::Begin => {
                out.extend_from_slice(start.as_bytes());
                *self = Self::First;
            }
            Self::First | Self::Further => {}
        }
        Some(out)
    }

    fn separate(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::First => *self = Self::Further,
            _ => out.push(b','),
        }
    }
}

/// Writes tasks from `done` on; `true` when the last is written, `false` when the piece is full before.
fn write_tasks(out: &mut Vec<u8>, image: &Image, done: &mut usize) -> bool {
    while let Some(task) = image.tasks.get(*done) {
        if out.len() >= PIECE {
            return false;
        }
        if *done > 0 {
            out.push(b',');
        }
        *done += 1;
        write_task(out, image, task, &[]);
    }
    true
}

fn write_task(out: &mut Vec<u8>, image: &Image, task: &crate::sim::cluster::Task, service_ports: &[u16]) {
    let view = TaskView { task, service_ports, role: role(&image.definition) };
    // Writing to memory a value whose map keys are strings cannot fail.
    let _ = serde_json::to_writer(out, &view);
}

/// One task as JSON.
pub(super) fn task_value(definition: &Definition, task: &crate::sim::cluster::Task) -> Value {
    let ports: Vec<u16> = definition.ports.iter().map(|port| port.service_port).collect();
    serde_json::to_value(TaskView { task, service_ports: &ports, role: role(definition) }).unwrap_or_default()
}

fn role(definition: &Definition) -> &str {
    definition.body.get("role").and_then(Value::as_str).unwrap_or("*")
}

/// One app as JSON text.
pub(super) fn app(image: &Image, embed: Embed) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096 + 1024 * image.tasks.len());
    write_head(&mut out, image, embed);
    if embed.tasks {
        out.extend_from_slice(b",\"tasks\":[");
        for (index, task) in image.tasks.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_task(&mut out, image, task, &[]);
        }
        out.push(b']');
    }
    out.push(b'}');
    out
}

/// The definition and everything but the tasks; the closing brace is left to the caller.
fn write_head(out: &mut Vec<u8>, image: &Image, embed: Embed) {
    out.extend_from_slice(image.definition.json.as_bytes());
    let count =
        |of: fn(&crate::sim::cluster::Task) -> bool| image.tasks.iter().filter(|task| of(task)).count();
    let verdict = |task: &crate::sim::cluster::Task| task.verdict.as_ref().map(|verdict| verdict.alive);
    let mut member = |name: &str, value: &Value| {
        out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    };
    member("tasksStaged", &count(|t| matches!(t.state, State::Staging | State::Starting)).into());
    member("tasksRunning", &count(|t| t.state == State::Running).into());
    let healthy = image.tasks.iter().filter(|task| verdict(task) == Some(true)).count();
    let sick = image.tasks.iter().filter(|task| verdict(task) == Some(false)).count();
    member("tasksHealthy", &healthy.into());
    member("tasksUnhealthy", &sick.into());
    if embed.deployments {
        let list: Vec<Value> = image.deployment.iter().map(|id| json!({"id": &**id})).collect();
        member("deployments", &list.into());
    }
    if embed.readiness && image.definition.readiness {
        member("readinessCheckResults", &readiness(image));
    }
    if embed.last_failure
        && let Some(failure) = &image.failure
    {
        let task = &failure.task;
        member(
            "lastTaskFailure",
            &json!({
                "appId": &*task.app, "host": task.agent.host, "message": failure.message, "state": failure.status,
                "taskId": &*task.id, "timestamp": timestamp(failure.at), "version": timestamp(task.version),
                "slaveId": task.agent.id,
            }),
        );
    }
    if embed.stats {
        let running = count(|t| t.state == State::Running);
        let staged = count(|t| matches!(t.state, State::Staging | State::Starting));
        let counts = json!({"staged": staged, "running": running, "healthy": healthy, "unhealthy": sick});
        member("taskStats", &json!({"totalSummary": {"stats": {"counts": counts}}}));
    }
}

fn readiness(image: &Image) -> Value {
    let name = image.definition.body.get("readinessChecks").and_then(|list| list.get(0)?.get("name"));
    let name = name.cloned().unwrap_or_else(|| json!("readinessCheck"));
    let unready = image.tasks.iter().filter(|task| task.state == State::Running && !task.ready);
    unready.map(|task| json!({"name": name, "taskId": &*task.id, "ready": false})).collect()
}
