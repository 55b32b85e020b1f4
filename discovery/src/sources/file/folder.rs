//! The files behind the configured paths: which there are, which have changed, what they say. Synchronous;
//! blocks on the disk, so it runs off the runtime's threads.
//!
//! ```text
//!   new stamp ──► unsettled ──held still──► read ──► parses: its content is in force
//!                     ▲                       │ └──► does not: last good content stays, problem
//!                     └── changed meanwhile ──┘
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use portolan_table::SharedStr;

use super::document::{Content, Definition, Format, parse};
use super::writers::Writers;
use crate::sources::telling::{Service, Services};

/// A file is read when it has held still for this long.
const SETTLE: Duration = Duration::from_millis(100);
/// An empty file is more likely one that is being rewritten than one that says nothing.
const SETTLE_EMPTY: Duration = Duration::from_secs(1);
/// A file is gone when it has been missing for this long: some programs take the old one away before they write the new.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// Files read; the rest is left out and reported.
pub(super) const FILES_MAX: usize = 10_000;
/// Octets of one file; a larger one is left out and reported.
pub(super) const FILE_LEN_MAX: u64 = 64 << 20;

/// What all files say together.
#[derive(Debug)]
pub(super) struct Combined {
    /// The services by name.
    pub(super) services: Services,
    /// What is wrong, by file or path.
    pub(super) problems: Vec<(SharedStr, String)>,
}

/// What tells that a file is another than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    first_seen: Instant,
    /// The stamp that was read last, whether it parsed or not.
    read: Option<Stamp>,
    content: Option<Content>,
    problem: Option<String>,
    missing_since: Option<Instant>,
}

/// What a scan has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Content differs from the scan before.
    pub(super) content: bool,
    /// Problems differ from the scan before.
    pub(super) problems: bool,
    /// A file has not held still yet: scan again soon.
    pub(super) unsettled: bool,
}

/// The files of one source.
#[derive(Debug)]
pub(super) struct Folder {
    paths: Vec<PathBuf>,
    service_label: Option<String>,
    writers: Writers,
    files: BTreeMap<PathBuf, Known>,
    /// Problems of paths rather than files.
    missing: BTreeMap<SharedStr, String>,
    /// The last scan could look at every path and every new file.
    looked: bool,
}

impl Folder {
    pub(super) fn new(paths: Vec<PathBuf>, service_label: Option<String>, writers: Writers) -> Self {
        Self {
            paths,
            service_label,
            writers,
            files: BTreeMap::new(),
            missing: BTreeMap::new(),
            looked: false,
        }
    }

    /// Looks at all files and reads those that have changed and held still.
    pub(super) fn scan(&mut self, now: Instant) -> Scan {
        let mut scan = Scan::default();
        let (found, mut missing, whole) = self.expand();
        self.looked = whole;
        if whole {
            self.let_go(&found, &mut missing, now, &mut scan);
        }
        scan.problems |= missing != self.missing;
        self.missing = missing;
        for path in found {
            self.look(&path, now, &mut scan);
        }
        scan
    }

    /// Drops the files that are gone. Those that may come back are no problem yet.
    fn let_go(
        &mut self,
        found: &BTreeSet<PathBuf>,
        missing: &mut BTreeMap<SharedStr, String>,
        now: Instant,
        scan: &mut Scan,
    ) {
        let before = self.files.len();
        self.files.retain(|path, known| {
            if found.contains(path) {
                known.missing_since = None;
                return true;
            }
            let since = *known.missing_since.get_or_insert(now);
            let may_return = now.saturating_duration_since(since) < GONE_AFTER;
            if may_return {
                scan.unsettled = true;
                missing.remove(&*path.display().to_string());
            }
            may_return
        });
        let gone = self.files.len() != before;
        scan.content |= gone;
        scan.problems |= gone;
    }

    /// True if every path could be looked at and every file has been read well at least once: what the source
    /// says is known.
    pub(super) fn is_whole(&self) -> bool {
        self.looked && self.files.values().all(|known| known.content.is_some())
    }

    fn look(&mut self, path: &Path, now: Instant, scan: &mut Scan) {
        let meta = match fs::metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return,
            // Gone between the listing and now: the next scan sees it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let text = format!("{}: cannot be read: {error}", path.display());
                match self.files.get_mut(path) {
                    Some(known) => {
                        scan.problems |= known.problem.as_ref() != Some(&text);
                        known.problem = Some(text);
                    }
                    None => {
                        self.looked = false;
                        scan.problems |=
                            self.missing.insert(path.display().to_string().into(), text).is_none();
                    }
                }
                return;
            }
        };
        let stamp = Stamp::of(&meta);
        let known = self.files.entry(path.to_owned()).or_insert_with(|| Known {
            stamp,
            first_seen: now,
            read: None,
            content: None,
            problem: None,
            missing_since: None,
        });
        if known.stamp != stamp {
            (known.stamp, known.first_seen) = (stamp, now);
        }
        if known.read == Some(stamp) {
            return;
        }
        let settled = is_settled(&meta, now.saturating_duration_since(known.first_seen));
        if !settled || self.writers.has_open(path, now) {
            scan.unsettled = true;
            return;
        }
        known.take_in(path, self.service_label.as_deref(), scan);
    }

    /// Everything the files say, by name, and what is to be said about it.
    pub(super) fn combined(&self) -> Combined {
        let mut services: BTreeMap<SharedStr, (&Path, Service)> = BTreeMap::new();
        let mut problems: Vec<(SharedStr, String)> =
            self.missing.iter().map(|(place, message)| (place.clone(), message.clone())).collect();
        for (path, known) in &self.files {
            let place: SharedStr = path.display().to_string().into();
            problems.extend(known.problem.iter().map(|message| (place.clone(), message.clone())));
            let Some(content) = &known.content else { continue };
            let mut notes = content.notes.clone();
            for Definition { spec, instances } in &content.services {
                match services.get_mut(&spec.key) {
                    None => {
                        let service = (Arc::clone(spec), instances.clone());
                        services.insert(spec.key.clone(), (path, service));
                    }
                    Some((_, (first, all))) if first == spec => {
                        let known: HashSet<SharedStr> = all.iter().map(|i| i.id.clone()).collect();
                        all.extend(instances.iter().filter(|i| !known.contains(&i.id)).cloned());
                    }
                    Some((first, _)) => notes.push(format!(
                        "{}: the service {} is defined in another way by {}, which goes first; left out",
                        path.display(),
                        spec.name,
                        first.display()
                    )),
                }
            }
            if !notes.is_empty() {
                problems.push((place, notes.join("; ")));
            }
        }
        Combined {
            services: services.into_iter().map(|(key, (_, service))| (key, service)).collect(),
            problems,
        }
    }

    /// Directories in which something may change, whether they exist or not.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => path.to_owned(),
        };
        self.paths
            .iter()
            .flat_map(|path| match is_glob(path) {
                true => {
                    let fixed: PathBuf = path.iter().take_while(|part| !is_glob(Path::new(part))).collect();
                    vec![if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed }]
                }
                false if path.is_dir() => vec![path.clone(), parent(path)],
                false => vec![parent(path)],
            })
            .collect()
    }

    /// The files behind the paths, problems by place, and whether every path could be looked at. A path that
    /// is not there says nothing; one that can't be looked at takes nothing away.
    fn expand(&self) -> (BTreeSet<PathBuf>, BTreeMap<SharedStr, String>, bool) {
        let mut found = BTreeSet::new();
        let mut problems = BTreeMap::new();
        let mut whole = true;
        for path in &self.paths {
            let place: SharedStr = path.display().to_string().into();
            match expand_one(path, &mut found) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let text = "does not exist; create it, or take it out of `paths`".to_owned();
                    problems.insert(place, text);
                }
                Err(error) => {
                    whole = false;
                    problems.insert(place, format!("cannot be read: {error}; its last content stays"));
                }
            }
        }
        if found.len() > FILES_MAX {
            let text = format!("{} files; only the first {FILES_MAX} are read", found.len());
            problems.insert("paths".into(), text);
            found = found.into_iter().take(FILES_MAX).collect();
        }
        (found, problems, whole)
    }
}

impl Known {
    /// Reads the file if it is still the one that was looked at.
    fn take_in(&mut self, path: &Path, service_label: Option<&str>, scan: &mut Scan) {
        let read = read_still(path, self.stamp);
        let result = match read {
            Ok(Some(text)) => parse(path, &text, service_label),
            Ok(None) => {
                scan.unsettled = true;
                return;
            }
            Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
        };
        self.read = Some(self.stamp);
        match result {
            Ok(content) => {
                let notes = self.content.as_ref().map(|before| &before.notes);
                scan.problems |= self.problem.take().is_some() || notes != Some(&content.notes);
                scan.content |= self.content.as_ref() != Some(&content);
                self.content = Some(content);
            }
            Err(problem) => {
                let kept = if self.content.is_some() { "; its last good content stays" } else { "" };
                let problem = format!("{problem}{kept}");
                scan.problems |= self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem);
            }
        }
    }
}

/// The text of the file, if it did not change while it was read.
fn read_still(path: &Path, stamp: Stamp) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    if Stamp::of(&file.metadata()?) != stamp {
        return Ok(None);
    }
    if stamp.len > FILE_LEN_MAX {
        let text = format!("larger than {FILE_LEN_MAX} octets; split it");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    let mut text = String::new();
    (&file).take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
    let still = Stamp::of(&file.metadata()?) == stamp && text.len() as u64 == stamp.len;
    Ok(still.then_some(text))
}

/// True if the file has held still: by its own time of change, or because it was seen like this before.
fn is_settled(meta: &Metadata, seen_for: Duration) -> bool {
    let wait = if meta.len() == 0 { SETTLE_EMPTY } else { SETTLE };
    let modified = meta.modified().ok();
    let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
    seen_for >= wait || age.is_some_and(|age| age >= wait)
}

fn is_glob(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

fn expand_one(path: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    if is_glob(path) && !path.exists() {
        let pattern = path.to_str().ok_or_else(|| io::Error::other("the pattern is not UTF-8"))?;
        let paths = glob::glob(pattern).map_err(io::Error::other)?;
        for entry in paths {
            let entry = entry.map_err(io::Error::from)?;
            if Format::of(&entry).is_some() {
                found.insert(entry);
            }
        }
        return Ok(());
    }
    if !fs::metadata(path)?.is_dir() {
        found.insert(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && Format::of(&entry).is_some() {
            found.insert(entry);
        }
    }
    Ok(())
}
