//! What etcd 3.4 answered, where the recordings lie beside the repository.

use std::path::PathBuf;

use super::super::wire::{Line, Range};
use super::layouts::shown;
use crate::config::EtcdLayout;

fn recorded(name: &str) -> Option<String> {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = shared.join("fixtures/captures/etcd");
    folder.exists().then(|| std::fs::read_to_string(folder.join(name)).unwrap())
}

#[tokio::test]
async fn ranges_are_read() {
    let Some(text) = recorded("range-skydns.json") else { return };
    let range: Range = serde_json::from_str(&text).unwrap();
    assert_eq!((range.header.revision, range.count, range.kvs.len(), range.more), (8, 5, 5, false));
    let shown = shown(EtcdLayout::SkyDns, "/skydns", range.kvs).await;
    assert!(shown.contains(&
        "web.svc.cluster [:0/Unknown] cluster/svc/web/a=192.0.2.10:8080 x20 cluster/svc/web/b=192.0.2.11:8080 x80".to_owned()),
        "{shown:#?}");
    let more: Range = serde_json::from_str(&recorded("range-limit2.json").unwrap()).unwrap();
    assert!(more.more && more.kvs.len() == 2);
    let empty: Range = serde_json::from_str(&recorded("range-empty.json").unwrap()).unwrap();
    assert!(empty.kvs.is_empty() && empty.count == 0);
}

#[test]
fn watches_are_read() {
    let lines = |name| {
        let text = recorded(name)?;
        Some(
            text.lines()
                .map(|line| serde_json::from_str::<Line>(line).unwrap().result.unwrap())
                .collect::<Vec<_>>(),
        )
    };
    let Some(watch) = lines("watch.jsonl") else { return };
    let events: Vec<Vec<bool>> =
        watch.iter().map(|line| line.events.iter().map(|event| event.is_deletion()).collect()).collect();
    assert_eq!(events, [vec![], vec![false], vec![false], vec![true], vec![false, true], vec![true]]);
    let compacted = lines("watch-compacted.jsonl").unwrap();
    assert!(compacted[1].canceled && compacted[1].compact_revision == 10);
    let denied = &lines("auth-watch-denied.jsonl").unwrap()[0];
    assert!(denied.canceled && denied.cancel_reason.contains("permission denied"));
}
