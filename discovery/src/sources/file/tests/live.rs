//! Real files, a real watch, the whole of discovery: what is in a file is in the table soon after.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_table::{Publisher, Standing, Table};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::catalog::tests::source;
use crate::config::{Config, FileConfig, SourceConfig, SourceKind};
use crate::{Discovery, Handle};

struct Live {
    directory: TempDir,
    table: Table,
    handle: Handle,
    _driver: JoinSet<()>,
}

impl Live {
    fn start(paths: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let paths = paths.iter().map(|path| directory.path().join(path)).collect();
        let publisher = Publisher::new();
        let table = publisher.table();
        let registry = prometheus::Registry::new();
        let (handle, driver) = Discovery::start(config(paths), publisher, &registry).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Self { directory, table, handle, _driver: tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes beside and renames.
    fn replace(&self, name: &str, text: &str) {
        self.write(&format!(".{name}.tmp"), text);
        fs::rename(self.path(&format!(".{name}.tmp")), self.path(name)).unwrap();
    }

    fn live(&self, service: &str) -> Option<Vec<String>> {
        let snapshot = self.table.load();
        let service = snapshot.service(service)?;
        Some(service.ports.first()?.live().iter().map(|e| e.address.to_string()).collect())
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} did not come about: {:#?}", self.handle.sources());
    }

    async fn until_live(&self, service: &str, expected: &[&str]) {
        let what = format!("{service} at {expected:?}");
        self.until(&what, |live| live.live(service).is_some_and(|found| found == expected)).await;
    }

    fn problems(&self) -> Vec<String> {
        self.handle.sources()[0].problems.iter().map(|p| p.message.clone()).collect()
    }
}

fn config(paths: Vec<PathBuf>) -> Config {
    let kind = SourceKind::File(FileConfig { paths, service_label: None });
    Config {
        state_dir: None,
        sources: vec![SourceConfig { kind, refresh: Duration::from_secs(3600), ..source(0, "files") }],
        coalesce_time: Duration::from_millis(5),
        coalesce_changes: 1000,
    }
}

fn web(last: u8) -> String {
    format!("[[service]]\nname = 'web'\nendpoint = ['10.0.0.{last}:80']\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_and_writes_in_place_and_removals_are_followed() {
    let live = Live::start(&["d"], |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/a.toml"), web(1)).unwrap();
    });
    live.until_live("web", &["10.0.0.1:80"]).await;
    live.until("synced", |live| live.handle.sources()[0].standing == Standing::Synced).await;
    live.write("d/a.toml", &web(2));
    live.until_live("web", &["10.0.0.2:80"]).await;
    fs::write(live.path("beside"), web(3)).unwrap();
    fs::rename(live.path("beside"), live.path("d/a.toml")).unwrap();
    live.until_live("web", &["10.0.0.3:80"]).await;
    live.write("d/b.json", r#"[{"targets": ["10.0.0.9:9"], "labels": {"job": "db"}}]"#);
    live.until_live("db", &["10.0.0.9:9"]).await;
    live.write("d/c.yaml", "services: [{name: web, endpoints: ['10.0.0.4:80']}]");
    live.until_live("web", &["10.0.0.3:80", "10.0.0.4:80"]).await;
    fs::remove_file(live.path("d/a.toml")).unwrap();
    live.until_live("web", &["10.0.0.4:80"]).await;
    fs::remove_file(live.path("d/c.yaml")).unwrap();
    live.until("web gone", |live| live.live("web").is_none()).await;
    assert_eq!(live.live("db").unwrap(), ["10.0.0.9:9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_keeps_the_last_good_content_and_is_reported() {
    let live = Live::start(&["a.toml"], |dir| fs::write(dir.join("a.toml"), web(1)).unwrap());
    live.until_live("web", &["10.0.0.1:80"]).await;
    live.write("a.toml", "[[service]]\nname = 'web\n");
    live.until("a report", |live| !live.problems().is_empty()).await;
    let problem = &live.problems()[0];
    assert!(problem.contains("a.toml:2:"), "{problem}");
    assert!(problem.ends_with("its last good content stays"), "{problem}");
    assert_eq!(live.live("web").unwrap(), ["10.0.0.1:80"]);
    live.replace("a.toml", &web(2));
    live.until_live("web", &["10.0.0.2:80"]).await;
    live.until("no report", |live| live.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_being_written_is_not_applied_before_it_is_closed() {
    let live = Live::start(&["a.toml"], |dir| fs::write(dir.join("a.toml"), web(1)).unwrap());
    live.until_live("web", &["10.0.0.1:80"]).await;
    // Every cut at the end of a line is a definition without a mistake, and the pauses are longer than a file has to
    // hold still: only its writer can tell.
    let mut generations = live.handle.generations();
    let before = *generations.borrow_and_update();
    let mut file = fs::File::create(live.path("a.toml")).unwrap();
    let whole = format!("{}[[service]]\nname = 'api'\n{}", web(2), "endpoint = ['10.0.0.3:80']\n");
    for line in whole.lines() {
        writeln!(file, "{line}").unwrap();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    drop(file);
    live.until_live("web", &["10.0.0.2:80"]).await;
    assert_eq!(live.live("api").unwrap(), ["10.0.0.3:80"]);
    assert_eq!(generations.borrow_and_update().0, before.0 + 1, "one whole change, no half one");
}

/// As git and some editors write.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_taken_away_and_written_anew_loses_nothing_meanwhile() {
    for path in ["a.toml", "."] {
        let live = Live::start(&[path], |dir| fs::write(dir.join("a.toml"), web(1)).unwrap());
        live.until_live("web", &["10.0.0.1:80"]).await;
        let mut generations = live.handle.generations();
        let before = *generations.borrow_and_update();
        fs::remove_file(live.path("a.toml")).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut file = fs::File::create(live.path("a.toml")).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        file.write_all(web(2).as_bytes()).unwrap();
        drop(file);
        live.until_live("web", &["10.0.0.2:80"]).await;
        assert_eq!(generations.borrow_and_update().0, before.0 + 1, "nothing was gone");
        assert_eq!(live.problems(), Vec::<String>::new());

        fs::remove_file(live.path("a.toml")).unwrap();
        live.until("web gone", |live| live.live("web").is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_never_good_leaves_the_source_unsynced_and_the_others_served() {
    let live = Live::start(&["*.toml"], |dir| {
        fs::write(dir.join("a.toml"), web(1)).unwrap();
        fs::write(dir.join("b.toml"), "[[service").unwrap();
    });
    live.until_live("web", &["10.0.0.1:80"]).await;
    live.until("a report", |live| !live.problems().is_empty()).await;
    assert_eq!(live.handle.sources()[0].standing, Standing::Unsynced);
    assert!(!live.table.load().is_complete());
    live.write("b.toml", "[[service]]\nname = 'b'\nendpoint = ['10.0.0.2:80']");
    live.until("synced", |live| live.handle.sources()[0].standing == Standing::Synced).await;
    assert_eq!(live.live("b").unwrap(), ["10.0.0.2:80"]);
    assert!(live.table.load().is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_does_not_exist_is_reported_and_followed_once_it_does() {
    let live = Live::start(&["later.toml"], |_| {});
    live.until("a report", |live| !live.problems().is_empty()).await;
    assert_eq!(live.problems(), ["does not exist; create it, or take it out of `paths`"]);
    live.replace("later.toml", &web(1));
    live.until_live("web", &["10.0.0.1:80"]).await;
    live.until("no report", |live| live.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_different_ideas_of_a_service_are_reported() {
    let live = Live::start(&["a.toml", "b.toml"], |dir| {
        fs::write(dir.join("a.toml"), web(1)).unwrap();
        let other = "[[service]]\nname = 'web'\nlabels = { x = 'y' }\nendpoint = ['10.0.0.2:80']";
        fs::write(dir.join("b.toml"), other).unwrap();
    });
    live.until_live("web", &["10.0.0.1:80"]).await;
    live.until("a report", |live| !live.problems().is_empty()).await;
    let problem = &live.problems()[0];
    assert!(problem.contains("b.toml: the service web is defined in another way by"), "{problem}");
}

/// What cannot be looked at is unknown, not empty: a list without it would take away what was saved of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_cannot_be_looked_at_leaves_the_list_incomplete() {
    for paths in [&["a.toml", "loop.toml"][..], &["."]] {
        let live = Live::start(paths, |dir| {
            fs::write(dir.join("a.toml"), web(1)).unwrap();
            std::os::unix::fs::symlink("loop.toml", dir.join("loop.toml")).unwrap();
        });
        live.until_live("web", &["10.0.0.1:80"]).await;
        live.until("a report", |live| !live.problems().is_empty()).await;
        assert!(live.problems()[0].contains("cannot be read"), "{:?}", live.problems());
        assert_eq!(live.handle.sources()[0].standing, Standing::Unsynced, "{paths:?}");
        live.replace("loop.toml", "[[service]]\nname = 'b'\nendpoint = ['10.0.0.2:80']");
        live.until("synced", |live| live.handle.sources()[0].standing == Standing::Synced).await;
        assert_eq!(live.live("b").unwrap(), ["10.0.0.2:80"]);
    }
}
