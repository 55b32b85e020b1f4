//! What clients send: frames become requests, content, and the end of either.

use core::task::Context;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange::Exchange;
use super::head::Written;
use super::{Engine, Slot, head, refuse};
use crate::h2::{Block, Event, Key};
use crate::l7::head::{HeadEnd, slots};
use crate::l7::origin::{Outcome, Plan};
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::{Verdict, judge};

impl<C: AsyncRead + AsyncWrite + Unpin> Engine<C> {
    /// Takes in the frames that are there as a whole, as long as there is room for what we have to say to them.
    pub(super) fn take_input(&mut self) {
        let input = core::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            self.is_held = self.line.is_full();
            if self.is_held {
                break;
            }
            match self.line.session.receive(&input.filled()[at..], &mut self.line.out) {
                Ok((0, _)) => break,
                Ok((count, event)) => {
                    at += count;
                    self.limits.received();
                    self.take_event(event);
                }
                Err(broken) => {
                    at = input.len();
                    self.break_off(broken);
                    break;
                }
            }
        }
        self.input = input;
        self.input.consume(at);
    }

    fn take_event(&mut self, event: Event<'_>) {
        match event {
            Event::None => {}
            Event::Headers { key, block: Block::Head, is_end } => self.take_request(key, is_end),
            Event::Headers { key, .. } => self.take_trailers(key),
            Event::Data { key, data, is_end } => self.take_data(key, data, is_end),
            Event::Reset { key, .. } => self.free(key, Exchange::cancel),
            Event::Malformed => {
                let refusal = Refusal::bad(400, "malformed request");
                self.origin.worker.cells.answered(&refusal);
                self.origin.ended(&Outcome {
                    status: refusal.status,
                    refusal: Some(refusal.text),
                    ..Outcome::default()
                });
            }
            Event::Refused => self.origin.worker.cells.http2_refused.add(1),
            Event::Window(Some(key)) => self.line.due.set(key.index()),
            Event::Window(None) => self.line.unblock(),
            Event::Pong => self.finish(),
            // A client that goes away opens no more streams; its own are none of ours.
            Event::GoAway { .. } => {}
        }
    }

    fn take_request(&mut self, key: Key, is_end: bool) {
        self.limits.serve();
        self.is_at_rest = false;
        let worker = &self.origin.worker;
        let mut text = worker.stock.take_head();
        let written = head::write_down(self.line.session.fields(), is_end, &mut text, &mut self.cookie);
        let planned = if self.line.session.fields().is_too_large() {
            Err(refusal::HEAD_TOO_LARGE)
        } else {
            self.plan(&text)
        };
        self.origin.worker.stock.put_head(text);
        match planned {
            Ok(plan) => {
                let exchange = Exchange::new(&self.origin, key, plan, written.is_grpc, is_end);
                let slot = self.slot(key);
                slot.timer.set_busy(true);
                slot.exchange = Some(exchange);
                self.line.due.set(key.index());
            }
            Err(refusal) => self.refuse(key, &refusal, written),
        }
    }

    fn plan(&self, text: &[u8]) -> Result<Plan, Refusal> {
        let config = self.origin.worker.config();
        let mut slots = slots();
        match judge(text, &mut HeadEnd::default(), &config.limits, &mut slots)? {
            Verdict::Complete(request) => Ok(self.origin.plan(&request, None)),
            Verdict::Incomplete => Err(Refusal::bad(400, "malformed request")),
        }
    }

    /// Answers a request that can't be carried out as it is.
    fn refuse(&mut self, key: Key, refusal: &Refusal, written: Written) {
        let started = Instant::now();
        let octets = if written.is_grpc {
            refuse::answer_grpc(&mut self.line, key, refusal)
        } else {
            refuse::answer(&mut self.line, key, refusal, written.is_head)
        };
        self.line.stop_request(key);
        self.line.session.release(key);
        self.origin.worker.cells.answered(refusal);
        self.origin.ended(&Outcome {
            status: refusal.status,
            took: started.elapsed(),
            octets,
            refusal: Some(refusal.text),
            ..Outcome::default()
        });
    }

    /// The place of a stream, made when it is needed first.
    fn slot(&mut self, key: Key) -> &mut Slot {
        while self.slots.len() <= key.index() {
            let waker = self.ready.waker(self.slots.len());
            let timer = self.origin.worker.clock.timer();
            timer.watch(&Context::from_waker(&waker));
            self.slots.push(Slot { waker, timer, exchange: None });
        }
        &mut self.slots[key.index()]
    }

    fn take_data(&mut self, key: Key, data: &[u8], is_end: bool) {
        let Some(exchange) = self.slots.get_mut(key.index()).and_then(|slot| slot.exchange.as_mut()) else {
            return self.line.used(key, data.len());
        };
        self.line.due.set(key.index());
        let taken = exchange.take_data(data, is_end, &mut self.line);
        self.judge_rest(key, taken);
    }

    fn take_trailers(&mut self, key: Key) {
        if let Some(exchange) = self.slots.get_mut(key.index()).and_then(|slot| slot.exchange.as_mut()) {
            let taken = exchange.take_trailers(self.line.session.fields());
            self.line.due.set(key.index());
            self.judge_rest(key, taken);
        }
    }

    /// What is wrong with the rest of a request does not concern a response that is on its way.
    fn judge_rest(&mut self, key: Key, taken: Result<(), Refusal>) {
        let Err(refusal) = taken else { return };
        if let Some(exchange) = self.slots.get_mut(key.index()).and_then(|slot| slot.exchange.as_mut())
            && !exchange.is_answered()
        {
            exchange.answer(refusal, &mut self.line);
            self.free(key, |_| ());
        }
    }

    /// Ends what is left of a stream that is closed.
    pub(super) fn free(&mut self, key: Key, end: impl FnOnce(&mut Exchange)) {
        if let Some(slot) = self.slots.get_mut(key.index())
            && let Some(mut exchange) = slot.exchange.take()
        {
            slot.timer.set_busy(false);
            slot.timer.stop();
            end(&mut exchange);
        }
        self.line.blocked.clear(key.index());
        self.line.due.clear(key.index());
        self.line.session.release(key);
    }
}
