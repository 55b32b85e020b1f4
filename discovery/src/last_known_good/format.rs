//! The bytes of a saved table.

use std::io::{self, Write};
use std::sync::Arc;

use portolan_table::{ClusterFact, Instance, ServiceSpec};
use serde::{Deserialize, Serialize};

use super::{LoadError, Loaded};
use crate::catalog::Saved;

/// The format this program writes. It reads the first one too, which has no facts.
pub(super) const VERSION: u64 = 2;
const FORMAT: &str = "portolan last-known-good";

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u64,
    identity: String,
    saved_ms: u64,
}

#[derive(Serialize)]
struct RecordOut<'a> {
    spec: &'a ServiceSpec,
    instances: &'a [Arc<Instance>],
}

#[derive(Serialize)]
struct FactOut<'a> {
    fact: &'a ClusterFact,
}

/// Either of the two.
#[derive(Deserialize)]
struct RecordIn {
    spec: Option<Arc<ServiceSpec>>,
    #[serde(default)]
    instances: Vec<Arc<Instance>>,
    fact: Option<Arc<ClusterFact>>,
}

/// Writes a whole table.
pub(super) fn write<W: Write>(
    out: &mut Checked<W>,
    identity: &str,
    table: &Saved,
    saved_ms: u64,
) -> io::Result<()> {
    let header =
        Header { format: FORMAT.to_owned(), version: VERSION, identity: identity.to_owned(), saved_ms };
    serde_json::to_writer(&mut *out, &header)?;
    out.write_all(b"\n")?;
    for (spec, instances) in &table.services {
        serde_json::to_writer(&mut *out, &RecordOut { spec, instances })?;
        out.write_all(b"\n")?;
    }
    for fact in &table.facts {
        serde_json::to_writer(&mut *out, &FactOut { fact })?;
        out.write_all(b"\n")?;
    }
    let records = table.services.len() + table.facts.len();
    let end = end_line(records, out.sum.clone().finalize());
    out.write_all(end.as_bytes())
}

/// Reads a whole table. Nothing of it is used unless all of it is right.
pub(super) fn parse(bytes: &[u8], identity: &str) -> Result<Loaded, LoadError> {
    let damaged = |what: &str| LoadError::Damaged(what.to_owned());
    let header_end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("no header"))?;
    let header: Header =
        serde_json::from_slice(&bytes[..header_end]).map_err(|_| damaged("the header is not understood"))?;
    if header.format != FORMAT {
        return Err(damaged("the header is not understood"));
    }
    // Before anything else: a later format may well be whole by rules that are not known here.
    if header.version == 0 || header.version > VERSION {
        return Err(LoadError::Version(header.version));
    }
    let body = bytes.strip_suffix(b"\n").ok_or_else(|| damaged("the end is missing"))?;
    let end_start = body.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let records = body[..end_start].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
    let expected = end_line(records, crc32fast::hash(&bytes[..end_start]));
    if bytes[end_start..] != *expected.as_bytes() {
        return Err(damaged("the checksum does not match, or the end is missing"));
    }
    if header.identity != identity {
        return Err(LoadError::Foreign);
    }
    let mut table = Saved { services: Vec::with_capacity(records), facts: Vec::new() };
    let lines = bytes[header_end + 1..end_start].split(|b| *b == b'\n').filter(|line| !line.is_empty());
    for (at, line) in lines.enumerate() {
        let record: RecordIn = serde_json::from_slice(line)
            .map_err(|error| LoadError::Damaged(format!("record {}: {error}", at + 1)))?;
        match record {
            RecordIn { spec: Some(spec), instances, .. } => table.services.push((spec, instances)),
            RecordIn { fact: Some(fact), .. } => table.facts.push(fact),
            _ => return Err(LoadError::Damaged(format!("record {}: neither service nor fact", at + 1))),
        }
    }
    Ok(Loaded { table, saved_ms: header.saved_ms })
}

fn end_line(records: usize, sum: u32) -> String {
    format!("end {records} {sum:08x}\n")
}

/// A writer that sums what goes through it and refuses to grow beyond a limit.
pub(super) struct Checked<W> {
    inner: W,
    sum: crc32fast::Hasher,
    len: u64,
    len_max: u64,
}

impl<W: Write> Checked<W> {
    pub(super) fn new(inner: W, len_max: u64) -> Self {
        Self { inner, sum: crc32fast::Hasher::new(), len: 0, len_max }
    }

    pub(super) fn finish(self) -> (W, u64) {
        (self.inner, self.len)
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len + bytes.len() as u64 > self.len_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the table is too large to be saved"));
        }
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
