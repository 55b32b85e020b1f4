//! What is written comes back; what is not whole, or not ours, does not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use portolan_table::{ClusterFact, Contact, Health, Masters};

use super::*;
use crate::catalog::tests::{healthy, instance, source, spec};
use crate::config::{Auth, MarathonConfig, SourceKind, TlsConfig};

fn table() -> Saved {
    let web = vec![healthy("a", 1).into(), instance("b", 2, 8000, Health::Unhealthy).into()];
    let services = vec![(spec("/web", "web.shop").into(), web), (spec("/api", "api").into(), vec![])];
    let leader =
        Contact { host: "m".into(), addresses: [[10, 0, 0, 1].into()].into_iter().collect(), port: 5050 };
    let masters = Masters { listed: vec![leader.clone()], leader: Some(leader) };
    Saved { services, facts: vec![ClusterFact::Masters(masters).into()] }
}

fn identity() -> Identity {
    Identity::of(&source(0, "a"))
}

fn saved() -> (tempfile::TempDir, Store, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    store.save(&identity(), &table(), 77).unwrap();
    let path = store.path(&identity());
    (directory, store, path)
}

#[test]
fn what_is_saved_comes_back() {
    let (_directory, store, path) = saved();
    let loaded = store.load(&identity()).unwrap().unwrap();
    assert_eq!((loaded.table, loaded.saved_ms), (table(), 77));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut smaller = table();
    smaller.services.pop();
    store.save(&identity(), &smaller, 78).unwrap();
    assert_eq!(store.load(&identity()).unwrap().unwrap().table, smaller, "written in place of the former");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn nothing_saved_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Store::new(directory.path()).load(&identity()).unwrap().is_none());
}

#[test]
fn an_empty_table_comes_back_empty() {
    let (_directory, store, _) = saved();
    store.save(&identity(), &Saved::default(), 1).unwrap();
    assert_eq!(store.load(&identity()).unwrap().unwrap().table, Saved::default());
}

#[test]
fn a_file_cut_anywhere_is_not_loaded() {
    let (_directory, store, path) = saved();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        let error = store.load(&identity()).expect_err(&format!("cut to {len} of {}", whole.len()));
        assert!(matches!(error, LoadError::Damaged(_)), "cut to {len}: {error}");
    }
}

#[test]
fn a_file_with_any_flipped_bit_is_not_loaded() {
    let (_directory, store, path) = saved();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            assert!(store.load(&identity()).is_err(), "bit {bit} of octet {at} flipped");
        }
    }
}

#[test]
fn a_file_with_something_behind_it_is_not_loaded() {
    let (_directory, store, path) = saved();
    let mut longer = fs::read(&path).unwrap();
    longer.extend(b"x\n");
    fs::write(&path, &longer).unwrap();
    assert!(matches!(store.load(&identity()), Err(LoadError::Damaged(_))));
}

#[test]
fn another_sources_table_or_a_later_format_is_not_loaded() {
    let (_directory, store, path) = saved();
    let other = Identity::of(&source(0, "b"));
    fs::copy(&path, store.path(&other)).unwrap();
    assert!(matches!(store.load(&other), Err(LoadError::Foreign)));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"version\":2", "\"version\":3", 1)).unwrap();
    assert!(matches!(store.load(&identity()), Err(LoadError::Version(3))));
}

#[test]
fn a_table_of_the_first_format_is_loaded() {
    let (_directory, store, path) = saved();
    let services = Saved { facts: vec![], ..table() };
    store.save(&identity(), &services, 7).unwrap();
    let text = fs::read_to_string(&path).unwrap().replacen("\"version\":2", "\"version\":1", 1);
    let end = text.rfind("end ").unwrap();
    fs::write(&path, format!("{}end 2 {:08x}\n", &text[..end], crc32fast::hash(&text.as_bytes()[..end])))
        .unwrap();
    assert_eq!(store.load(&identity()).unwrap().unwrap().table, services);
}

#[test]
fn identity_is_type_urls_and_groups() {
    let marathon = |urls: &[&str], groups: &[&str]| {
        let kind = SourceKind::Marathon(MarathonConfig {
            urls: urls.iter().map(ToString::to_string).collect(),
            groups: groups.iter().map(|g| (*g).into()).collect(),
            auth: Auth::None,
            tls: TlsConfig::default(),
            stream_idle: core::time::Duration::from_secs(30),
        });
        SourceConfig { kind, ..source(0, "m") }
    };
    let base = Identity::of(&marathon(&["http://a", "http://b"], &["x"]));
    let renamed = SourceConfig { name: "other".into(), ..marathon(&["http://b", "http://a"], &["x"]) };
    assert_eq!(Identity::of(&renamed), base, "neither the name nor the order of URLs");
    for other in [
        marathon(&["http://a"], &["x"]),
        marathon(&["http://a", "http://b"], &[]),
        marathon(&["http://a", "http://c"], &["x"]),
        marathon(&["http://a", "http://b", "x"], &[]),
        source(0, "m"),
    ] {
        assert_ne!(Identity::of(&other), base, "{other:?}");
    }
}

#[test]
fn a_write_that_fails_leaves_the_former_table() {
    let (directory, store, path) = saved();
    // A directory where the new file would be written: it can be neither removed as a file nor replaced.
    fs::create_dir(path.with_extension("new")).unwrap();
    assert!(store.save(&identity(), &Saved::default(), 99).is_err());
    assert_eq!(store.load(&identity()).unwrap().unwrap().saved_ms, 77);
    let blocked = directory.path().join("file");
    fs::write(&blocked, "").unwrap();
    assert!(Store::new(&blocked).save(&identity(), &Saved::default(), 1).is_err());
}

#[test]
fn a_table_beyond_the_limit_is_not_written() {
    let mut out = Checked::new(Vec::new(), 100);
    let error = format::write(&mut out, "x", &table(), 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}

#[test]
fn tables_of_other_sources_are_kept_up_to_a_number() {
    let (_directory, store, path) = saved();
    for index in 0..FOREIGN_MAX + 5 {
        fs::copy(&path, path.with_file_name(format!("other-{index}.table"))).unwrap();
    }
    store.prune(&[identity()]).unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), FOREIGN_MAX + 1);
    assert!(store.load(&identity()).unwrap().is_some(), "our own is never pruned");
}
