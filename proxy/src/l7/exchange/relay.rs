//! From the head of the response to its end.

use core::task::{Context, Poll};
use std::future::poll_fn;
use std::time::Instant;

use super::{Ending, Exchange, Phase, Upgraded, Upstream};
use crate::l7::connection::Connection;
use crate::l7::link::Link;
use crate::l7::pump::{Pump, PumpError, Waiting};
use crate::l7::refusal;
use crate::l7::request::Framing;
use crate::l7::response::{self, Downstream, ResponseFacts};

impl Exchange<'_> {
    /// Passes the response on.
    pub(super) async fn relay(&mut self, mut upstream: Upstream, response: ResponseFacts) -> Ending {
        let now = Instant::now();
        self.status = response.status;
        match response.status {
            502..=504 => upstream.picked.failed(now),
            _ => upstream.picked.answered(now),
        }
        let must_decode = self.facts.is_http10 && response.framing == Framing::Chunked;
        let keep_alive = self.facts.keep_alive
            && self.is_sent
            && !self.connection.origin.listener.draining.get()
            && response.framing != Framing::UntilClose
            && !must_decode;
        let mut download = Pump::new(response.framing, None);
        if must_decode {
            download.decode();
        }
        self.ends_content = response.framing == Framing::UntilClose || must_decode;
        if self.lead(&response, keep_alive, &mut download).await.is_err() {
            return Ending::Done;
        }
        if response.status == 101 {
            upstream.picked.completed(now);
            let Upstream { stream: Link::Own(stream), picked, .. } = upstream else { return Ending::Done };
            return Ending::Tunnel(Box::new(Upgraded {
                stream,
                picked,
                reply: core::mem::take(&mut self.reply),
            }));
        }
        self.enter(Phase::ResponseBody);
        let moved = poll_fn(|cx| self.poll_download(cx, &mut upstream, &mut download)).await;
        self.octets_down = download.moved();
        match moved {
            Ok(()) => {
                self.ends_content = false;
                upstream.picked.completed(now);
                self.keep(upstream, &response);
                if keep_alive { Ending::KeepAlive } else { Ending::Close }
            }
            Err(PumpError::Write(_)) => Ending::Done,
            Err(_) => {
                upstream.picked.failed(Instant::now());
                drop(upstream);
                self.break_off(&download).await
            }
        }
    }

    /// The response broke. The client must not take what it has for all of it.
    async fn break_off(&mut self, download: &Pump) -> Ending {
        if download.moved() == 0 && !self.has_led {
            self.ends_content = false;
            return self.answer(refusal::UPSTREAM_MALFORMED).await;
        }
        Ending::Done
    }

    /// Makes the response's head what the client is to get, in front of the content that came with it.
    async fn lead(
        &mut self,
        response: &ResponseFacts,
        keep_alive: bool,
        download: &mut Pump,
    ) -> std::io::Result<()> {
        let stock = &self.connection.origin.worker.stock;
        let mut head = stock.take_head();
        let downstream = Downstream { is_http10: self.facts.is_http10, keep_alive };
        let as_it_came = &self.reply.filled()[..response.head_length];
        if !response::rewrite(as_it_came, response, downstream, &mut head) {
            download.lead(response.head_length);
        } else if self.reply.replace_front(response.head_length, &head) {
            download.lead(head.len());
        } else {
            self.reply.consume(response.head_length);
            self.has_led = true;
            self.connection.write_all(&head).await?;
        }
        self.connection.origin.worker.stock.put_head(head);
        Ok(())
    }

    /// Polls both directions until the response has been passed on.
    fn poll_download(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        download: &mut Pump,
    ) -> Poll<Result<(), PumpError>> {
        let sent_before = self.upload.moved();
        if !self.is_sent
            && let Poll::Ready(Err(_)) = self.poll_upload(cx, &mut upstream.stream)
        {
            // What is wrong with the rest of the request does not concern the response that is on its way.
            self.is_rejected = true;
        }
        let before = download.moved();
        let mut waiting = Waiting::Read;
        let Connection { client, origin, .. } = &mut *self.connection;
        let moving = download.poll(
            cx,
            &mut upstream.stream,
            client,
            (&mut self.reply, &origin.worker.stock),
            &mut waiting,
        );
        if moving.is_ready() {
            return moving;
        }
        let phase = if waiting == Waiting::Read { Phase::ResponseBody } else { Phase::ResponseWrite };
        if download.moved() > before || self.upload.moved() > sent_before {
            self.enter(phase);
        } else {
            self.enter_if_other(phase);
        }
        if self.connection.timer.is_expired() || self.has_left(&upstream.picked) {
            let timed_out = std::io::ErrorKind::TimedOut.into();
            if waiting == Waiting::Read && self.connection.timer.is_expired() {
                upstream.stream.doubt(&self.connection.origin.worker, self.limit());
            }
            return Poll::Ready(Err(match waiting {
                Waiting::Read => PumpError::Read(timed_out),
                Waiting::Write => PumpError::Write(timed_out),
            }));
        }
        Poll::Pending
    }

    /// Keeps the endpoint's connection for another request, if it is at the beginning of one.
    fn keep(&self, upstream: Upstream, response: &ResponseFacts) {
        if !response.keep_alive || !self.is_sent || !self.reply.is_empty() {
            return;
        }
        let Ok(attempts) = &self.attempts else { return };
        upstream.stream.keep(&self.connection.origin.worker, &upstream.picked, attempts);
    }
}
