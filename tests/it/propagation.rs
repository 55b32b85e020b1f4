//! What a change costs the scheduler: counted, not timed.

use std::collections::BTreeSet;
use std::time::Duration;

use portolan::sim::command::start_scenario;
use portolan::sim::scenario::Mode;
use portolan::sim::{Asked, Control, Scenario};

use crate::support::node::{TestNode, marathon};
use crate::support::{block_on, until};

const CHANGES: usize = 20;
const READS: [Asked; 6] = [Asked::Apps, Asked::App, Asked::Tasks, Asked::Pods, Asked::Groups, Asked::Other];

fn asked(control: &Control) -> u64 {
    READS.iter().map(|kind| control.asked(*kind)).sum()
}

/// Ids of the instances of an app that get traffic.
fn live(node: &TestNode, app: &str) -> BTreeSet<String> {
    let name = app.trim_start_matches('/').split('/').rev().collect::<Vec<_>>().join(".");
    let snapshot = node.node.table().load();
    let service = snapshot.service(&name).unwrap_or_else(|| panic!("{name} is in the table"));
    service.live_members().map(|member| member.instance.id.to_string()).collect()
}

/// Requests that [`CHANGES`] verdicts, then as many replaced tasks cost.
fn cost(apps: usize, tasks: usize) -> (u64, u64) {
    block_on(async {
        let mut scenario = Scenario::generate(apps, tasks, Mode::Bridge, 1).unwrap();
        scenario.cluster.timing.grace = 20;
        let sim = start_scenario(scenario, "127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let control = sim.control();
        let node = TestNode::start(&marathon(&sim.url()), "").await;
        until("the whole table", || async {
            let snapshot = node.node.table().load();
            let live: usize = snapshot.services().map(|service| service.live_members().count()).sum();
            (live == tasks).then_some(())
        })
        .await;
        // What belongs to the start is over once nobody has asked for a while.
        let mut before = u64::MAX;
        while asked(&control) != before {
            before = asked(&control);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }

        control.reset_counts();
        for n in 1..=CHANGES {
            let app = format!("/load/app-{n}");
            let task = control.app(&app).unwrap().tasks[0].id.to_string();
            assert!(control.set_health(&task, false));
            until("the verdict in the table", || async {
                (!live(&node, &app).contains(&task)).then_some(())
            })
            .await;
        }
        let verdicts = asked(&control);
        control.reset_counts();
        for n in CHANGES + 1..=2 * CHANGES {
            let app = format!("/load/app-{n}");
            let tasks = || -> BTreeSet<String> {
                control.app(&app).unwrap().tasks.iter().map(|task| task.id.to_string()).collect()
            };
            let old = tasks();
            control.kill(old.first().unwrap()).unwrap();
            until("the replacement in the table", || async {
                let now = tasks();
                (now.len() == old.len() && now != old && live(&node, &app) == now).then_some(())
            })
            .await;
        }
        let replaced = asked(&control);
        node.stop().await;
        sim.shutdown().await;
        (verdicts, replaced)
    })
}

#[test]
fn a_change_costs_at_most_one_request_whatever_the_size() {
    for (apps, tasks) in [(50, 100), (1000, 10_000)] {
        let (verdicts, replaced) = cost(apps, tasks);
        assert_eq!(verdicts, 0, "{tasks} tasks: an event with a verdict says all there is to know");
        assert!(
            replaced <= CHANGES as u64,
            "{tasks} tasks: {replaced} requests for {CHANGES} replaced tasks"
        );
    }
}
