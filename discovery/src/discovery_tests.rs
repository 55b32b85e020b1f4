//! Discovery from its handle: scripted sources under the real supervisor, on paused time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_table::{Generation, Health, Publisher, SourceId, Standing, Table};
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::catalog::tests::{healthy, source, spec};
use crate::config::{Config, FileConfig, SourceConfig, SourceKind};
use crate::discovery::start_with;
use crate::source::{Change, Session, Sink, Source, SourceError};
use crate::{Handle, clock};

/// What a scripted source does in one session.
#[derive(Debug, Clone)]
enum Act {
    Tell(Change),
    Wait(Duration),
    Fail,
    Stopping,
    Panic,
}

type Script = Arc<Mutex<VecDeque<Vec<Act>>>>;

/// Plays one list of acts per session; with none left it stays quiet for ever.
struct Scripted {
    sessions: Script,
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Source for Scripted {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            self.begun.lock().unwrap().push(Instant::now());
            let acts = self.sessions.lock().unwrap().pop_front();
            for act in acts.into_iter().flatten() {
                match act {
                    Act::Tell(change) => {
                        if let Err(error) = sink.send(clock::now(), change).await {
                            return error;
                        }
                    }
                    Act::Wait(time) => tokio::time::sleep(time).await,
                    Act::Fail => {
                        let cause = std::io::Error::other("refused");
                        return SourceError::Connect { place: "http://m".to_owned(), cause: cause.into() };
                    }
                    Act::Stopping => return SourceError::Stopping,
                    Act::Panic => panic!("scripted"),
                }
            }
            core::future::pending().await
        })
    }
}

struct Bench {
    handle: Handle,
    table: Table,
    registry: Registry,
    begun: Arc<Mutex<Vec<Instant>>>,
    /// The `refresh` of each configuration a source was built from.
    built: Arc<Mutex<Vec<Duration>>>,
    driver: JoinSet<()>,
}

fn config(sources: Vec<SourceConfig>) -> Config {
    let coalesce_time = Duration::from_millis(5);
    Config { state_dir: None, sources, coalesce_time, coalesce_changes: 1000 }
}

impl Bench {
    fn start(sessions: Vec<Vec<Act>>) -> Self {
        Self::start_config(config(vec![source(0, "a")]), sessions)
    }

    fn start_config(config: Config, sessions: Vec<Vec<Act>>) -> Self {
        let sessions: Script = Arc::new(Mutex::new(sessions.into()));
        let begun = Arc::new(Mutex::new(Vec::new()));
        let publisher = Publisher::new();
        let table = publisher.table();
        let registry = Registry::new();
        let made = Arc::clone(&begun);
        let built = Arc::new(Mutex::new(Vec::new()));
        let builds = Arc::clone(&built);
        let build = move |config: &SourceConfig| {
            builds.lock().unwrap().push(config.refresh);
            let source = Scripted { sessions: Arc::clone(&sessions), begun: Arc::clone(&made) };
            Ok(Box::new(source) as Box<dyn Source>)
        };
        let (handle, future) = start_with(config, publisher, &registry, Arc::new(build)).unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(future);
        Self { handle, table, registry, begun, built, driver }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..300_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what} did not come about: {:#?}", self.handle.sources());
    }

    fn standing(&self) -> Standing {
        self.handle.sources()[0].standing
    }

    fn has(&self, name: &str) -> bool {
        self.table.load().service(name).is_some()
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let metric = family.get_metric().iter().find(|metric| {
            labels.iter().all(|(n, v)| metric.get_label().iter().any(|l| l.name() == *n && l.value() == *v))
        })?;
        let histogram = metric.get_histogram().get_sample_count() as f64;
        Some(metric.get_counter().get_value() + metric.get_gauge().get_value() + histogram)
    }

    async fn stop(mut self) {
        self.handle.stop();
        while let Some(ended) = self.driver.join_next().await {
            ended.unwrap();
        }
    }
}

fn service(name: &str) -> Act {
    let instances = vec![Arc::new(healthy("x", 1))];
    Act::Tell(Change::Service { spec: Arc::new(spec(name, name)), instances })
}

fn list(names: &[&str]) -> Vec<Act> {
    let mut acts = vec![Act::Tell(Change::ListBegin)];
    acts.extend(names.iter().map(|name| service(name)));
    acts.push(Act::Tell(Change::ListComplete));
    acts
}

fn then(mut acts: Vec<Act>, more: Act) -> Vec<Act> {
    acts.push(more);
    acts
}

#[tokio::test(start_paused = true)]
async fn sessions_are_retried_soon_then_slower_and_soon_again_after_a_good_one() {
    let mut sessions = vec![vec![Act::Fail]; 8];
    sessions.push(then(list(&["web"]), Act::Wait(Duration::from_secs(40))));
    sessions[8].push(Act::Fail);
    let bench = Bench::start(sessions);
    bench.until("ten sessions", |bench| bench.begun.lock().unwrap().len() == 10).await;
    let begun = bench.begun.lock().unwrap().clone();
    let waits: Vec<_> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let within = |at: usize, min: u64, max: u64| {
        let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
        assert!(waits[at] >= min && waits[at] <= max + Duration::from_millis(10), "wait {at} of {waits:?}");
    };
    within(0, 100, 500);
    within(1, 500, 1000);
    within(2, 1000, 2000);
    within(6, 16_000, 32_000);
    within(7, 30_000, 60_000);
    within(8, 40_100, 40_500);
    assert_eq!(bench.metric("portolan_source_sessions_total", &[("source", "a")]), Some(10.0));
    let errors = [("source", "a"), ("kind", "connect")];
    assert_eq!(bench.metric("portolan_source_errors_total", &errors), Some(9.0));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn standing_goes_from_unsynced_to_synced_to_stale_and_back() {
    let wait = |seconds| Act::Wait(Duration::from_secs(seconds));
    let bench = Bench::start(vec![
        vec![wait(5), Act::Fail],
        {
            let mut acts = then(list(&["web"]), wait(5));
            acts.push(Act::Fail);
            acts
        },
        vec![wait(5), Act::Tell(Change::ListBegin), wait(5), Act::Fail],
        list(&["web", "api"]),
    ]);
    assert_eq!(bench.standing(), Standing::Unsynced);
    assert!(!bench.table.load().is_complete(), "from the first moment on, unknown is not empty");
    bench.until("an error", |bench| bench.handle.sources()[0].error.is_some()).await;
    assert_eq!(bench.standing(), Standing::Unsynced);
    let error = bench.handle.sources()[0].error.clone().unwrap();
    assert_eq!((error.kind, error.message.as_str()), ("connect", "http://m: connection failed: refused"));
    bench.until("synced", |bench| bench.standing() == Standing::Synced).await;
    assert_eq!(bench.handle.sources()[0].error, None);
    assert!(bench.has("web") && bench.table.load().is_complete());
    bench.until("stale", |bench| bench.standing() == Standing::Stale).await;
    assert!(bench.has("web"), "nothing is removed because of an error");
    let stale = [("source", "a"), ("standing", "stale")];
    assert_eq!(bench.metric("portolan_source_standing", &stale), Some(1.0));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.standing(), Standing::Stale, "a list that has only begun confirms nothing");
    assert!(bench.metric("portolan_source_age_seconds", &[("source", "a")]).unwrap() > 0.0);
    bench.until("synced again", |bench| bench.standing() == Standing::Synced).await;
    assert!(bench.has("api"));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_starts_anew() {
    let bench = Bench::start(vec![then(list(&["web"]), Act::Panic), list(&["web", "api"])]);
    bench.until("stale", |bench| bench.standing() == Standing::Stale).await;
    assert_eq!(bench.handle.sources()[0].error.as_ref().unwrap().kind, "panic");
    bench.until("synced", |bench| bench.has("api") && bench.standing() == Standing::Synced).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_believes_all_is_stopping_starts_anew() {
    let bench = Bench::start(vec![then(list(&["web"]), Act::Stopping), list(&["web", "api"])]);
    bench.until("another session", |bench| bench.has("api")).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_during_the_pause_before_a_confirming_list_is_taken_up() {
    let guarded =
        |seconds| SourceConfig { max_removal: 0.5, refresh: Duration::from_secs(seconds), ..source(0, "a") };
    let held = [list(&["web"]), list(&[])].concat();
    let bench = Bench::start_config(config(vec![guarded(30)]), vec![held, list(&["web"])]);
    bench.until("a list held back", |bench| bench.handle.sources()[0].removals_held == 1).await;
    bench.handle.reload(config(vec![guarded(7)])).await;
    bench.until("another session", |bench| bench.begun.lock().unwrap().len() == 2).await;
    assert_eq!(*bench.built.lock().unwrap(), [30, 7].map(Duration::from_secs));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_held_back_is_asked_for_again() {
    let guarded = SourceConfig { max_removal: 0.5, ..source(0, "a") };
    let empty = then(list(&["web", "api"]), Act::Wait(Duration::from_secs(1)));
    let empty = [empty, list(&[])].concat();
    let bench = Bench::start_config(config(vec![guarded]), vec![empty, list(&[])]);
    bench.until("both", |bench| bench.has("web") && bench.has("api")).await;
    bench.until("a list held back", |bench| bench.handle.sources()[0].removals_held == 1).await;
    assert!(bench.has("web"));
    bench.until("gone", |bench| !bench.has("web") && !bench.has("api")).await;
    assert_eq!(bench.begun.lock().unwrap().len(), 2);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_what_stays_and_takes_out_what_goes() {
    let both = vec![source(0, "a"), source(1, "b")];
    let bench = Bench::start_config(config(both), vec![list(&["one"]), list(&["two"])]);
    bench.until("both", |bench| bench.has("one") && bench.has("two")).await;
    // Which source played which script is a matter of scheduling.
    let kept =
        if bench.table.load().service("one").unwrap().specs[0].0 == SourceId(0) { "one" } else { "two" };
    let gone = if kept == "one" { "two" } else { "one" };
    let priority = SourceConfig { priority: 7, ..source(0, "a") };
    bench.handle.reload(config(vec![priority.clone()])).await;
    assert!(bench.has(kept) && !bench.has(gone), "{:?}", bench.handle.sources());
    assert_eq!(bench.handle.sources().len(), 1);
    assert_eq!(bench.begun.lock().unwrap().len(), 2, "its session goes on");
    assert_eq!(bench.metric("portolan_source_services", &[("source", "b")]), None);
    // Another period needs another session; what is known stays meanwhile.
    bench.handle.reload(config(vec![SourceConfig { refresh: Duration::from_secs(7), ..priority }])).await;
    assert!(bench.has(kept));
    bench.until("a new session", |bench| bench.begun.lock().unwrap().len() == 3).await;
    bench.handle.reload(config(vec![])).await;
    assert!(!bench.has(kept));
    assert_eq!(bench.handle.sources(), []);
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_change_is_published_at_once_and_a_storm_in_batches() {
    let storm = |n: usize| (0..n).map(|i| service(&format!("s{i}"))).collect::<Vec<_>>();
    let quiet = Act::Wait(Duration::from_secs(1));
    let acts = [vec![quiet.clone(), service("first"), quiet.clone()], storm(3000), vec![quiet]].concat();
    let bench = Bench::start(vec![acts]);
    let mut generations = bench.handle.generations();
    let begun = Instant::now();
    while !bench.has("first") {
        generations.changed().await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::from_secs(1), "no wait on top");
    let before = *generations.borrow_and_update();
    bench.until("the storm", |bench| bench.has("s2999")).await;
    let Generation(after) = *generations.borrow_and_update();
    assert!((1..=8).contains(&(after - before.0)), "{} generations for 3000 changes", after - before.0);
    let observed = bench.metric("portolan_convergence_seconds", &[("source", "a")]).unwrap();
    assert!((3001.0..=3001.0).contains(&observed), "{observed} changes observed");
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn verdicts_and_work_on_the_publisher_go_through_the_handle() {
    let bench = Bench::start(vec![list(&["web"])]);
    bench.until("web", |bench| bench.has("web")).await;
    let health = |bench: &Bench| bench.table.load().service("web").unwrap().members[0].instance.health;
    bench.handle.set_verdict(SourceId(0), "x".into(), Some(Health::Unhealthy));
    bench.until("the verdict", |bench| health(bench) == Health::Unhealthy).await;
    bench.handle.set_verdict(SourceId(0), "x".into(), None);
    bench.until("its withdrawal", |bench| health(bench) == Health::Healthy).await;
    let count = bench.handle.with_publisher(|publisher| publisher.core().service_count()).await;
    assert_eq!(count, Some(1));
    let handle = bench.handle.clone();
    bench.stop().await;
    assert_eq!(handle.with_publisher(|_| ()).await, None);
    handle.reload(config(vec![])).await;
}

#[tokio::test]
async fn a_restart_serves_what_was_saved_marked_stale() {
    let directory = tempfile::tempdir().unwrap();
    let config = || {
        let state_dir = Some(directory.path().to_owned());
        Config { state_dir, ..config(vec![source(0, "a")]) }
    };
    let bench = Bench::start_config(config(), vec![list(&["web"])]);
    bench.until("web", |bench| bench.has("web")).await;
    bench.stop().await;
    // The scheduler is down: every session fails.
    let bench = Bench::start_config(config(), vec![vec![Act::Fail]; 100]);
    bench.until("the saved table", |bench| bench.has("web")).await;
    assert_eq!(bench.standing(), Standing::Stale);
    assert!(bench.table.load().is_complete());
    assert_eq!(bench.metric("portolan_state_loads_total", &[("result", "ok")]), Some(1.0));
    bench.stop().await;
    // Another source is another table.
    let state_dir = Some(directory.path().to_owned());
    let other = Config { state_dir, ..self::config(vec![source(0, "b")]) };
    let bench = Bench::start_config(other, vec![vec![Act::Fail]; 100]);
    bench.until("an error", |bench| bench.handle.sources()[0].error.is_some()).await;
    assert!(!bench.has("web"));
    bench.stop().await;
}

#[tokio::test]
async fn a_source_with_other_urls_is_saved_as_what_it_is_now() {
    let directory = tempfile::tempdir().unwrap();
    let at = |path: &str| {
        let file = FileConfig { paths: vec![path.into()], service_label: None };
        let kind = SourceKind::File(file);
        let state_dir = Some(directory.path().to_owned());
        Config { state_dir, ..config(vec![SourceConfig { kind, ..source(0, "a") }]) }
    };
    let pause = then(vec![], Act::Wait(Duration::from_millis(200)));
    let bench = Bench::start_config(at("/one"), vec![list(&["web"]), [pause, list(&["web"])].concat()]);
    bench.until("web", |bench| bench.has("web")).await;
    bench.handle.reload(at("/two")).await;
    bench
        .until("synced again", |b| b.begun.lock().unwrap().len() == 2 && b.standing() == Standing::Synced)
        .await;
    bench.stop().await;
    let bench = Bench::start_config(at("/two"), vec![vec![Act::Fail]; 100]);
    bench.until("the saved table", |bench| bench.has("web")).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_counted_and_serving_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = Config { state_dir: Some(file), ..config(vec![source(0, "a")]) };
    let bench = Bench::start_config(config, vec![list(&["web"])]);
    bench.until("web", |bench| bench.has("web")).await;
    bench
        .until("a failed save", |b| b.metric("portolan_state_saves_total", &[("result", "error")]).is_some())
        .await;
    assert_eq!(bench.standing(), Standing::Synced);
    bench.stop().await;
}
