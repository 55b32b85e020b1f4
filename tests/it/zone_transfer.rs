//! Zones for secondaries, from the configuration file to dig.

use std::net::SocketAddr;

use crate::support::program::{client, portolan, text, with_real_clients};
use crate::support::site::{DNS, Site, metric, service};

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const GUARDED: &str = "[[dns.key]]\nname = \"transfer.example\"\nsecret_file = \"transfer.key\"\n\
    [dns.transfer]\nkeys = [\"transfer.example\"]\n\
    [dns.cookies]\nenabled = true\nsecret_file = \"cookies\"\n";

fn site() -> Site {
    let addresses: Vec<SocketAddr> = (1..=3).map(|n| SocketAddr::from(([10, 9, 0, n], 80))).collect();
    let site = Site::new(&service("web.shop", &addresses));
    site.write("transfer.key", SECRET);
    site.write("cookies", "e5e973e5a6b2a43f48e7dc849e37bfcf\n");
    site.configure(&format!("{DNS}{GUARDED}"));
    site
}

fn dig(dns: SocketAddr, more: &[&str]) -> String {
    let (ip, port) = (format!("@{}", dns.ip()), dns.port().to_string());
    client("dig", &[&[&*ip, "-p", &*port][..], more].concat())
}

#[test]
fn dig_gets_the_zone_with_the_key_of_the_file_and_follows_a_change() {
    if !with_real_clients() {
        return;
    }
    let site = site();
    let mut node = site.run();
    let (admin, dns) = (node.bound("admin"), node.bound("dns"));
    let key = format!("hmac-sha256:transfer.example:{SECRET}");
    let refused = dig(dns, &["svc.cluster", "AXFR"]);
    assert!(refused.contains("Transfer failed"), "{refused}");
    let whole = dig(dns, &["-y", &key, "svc.cluster", "AXFR"]);
    assert!(whole.contains("web.shop.svc.cluster.") && whole.matches("\tSOA\t").count() == 2, "{whole}");
    let serial = whole.split("hostmaster.svc.cluster. ").nth(1).and_then(|rest| rest.split(' ').next());
    let asked = format!("IXFR={}", serial.unwrap());
    site.write("services.toml", &service("db", &["10.9.0.9:80".parse().unwrap()]));
    let difference = node.until("the difference", |_| {
        let told = dig(dns, &["-y", &key, "svc.cluster", &asked]);
        told.contains("db.svc.cluster.").then_some(told)
    });
    assert_eq!(difference.matches("\tSOA\t").count(), 4, "{difference}");
    let cookie = dig(dns, &["+cookie=6d79636f6f6b6965", "db.svc.cluster", "A"]);
    assert!(cookie.contains("COOKIE: 6d79636f6f6b696501000000") && cookie.contains("(good)"), "{cookie}");
    let of = |outcome: &str| {
        metric(admin, &format!("portolan_dns_transfers_total{{outcome=\"{outcome}\"}}")).unwrap()
    };
    assert!(of("whole") == 1.0 && of("differences") >= 1.0 && of("refused") == 1.0);
    node.stop();
}

#[test]
fn a_secret_that_is_none_is_told_and_a_reload_with_it_refused() {
    let site = site();
    site.write("transfer.key", "not a secret!");
    let output = portolan(&["run", "--config", site.file().to_str().unwrap()]);
    let told = text(&output.stderr);
    assert!(
        output.status.code() == Some(1) && told.contains("transfer.key") && told.contains("base64"),
        "{told}"
    );
    assert!(!told.contains("not a secret!"), "{told}");
    site.write("transfer.key", SECRET);
    let mut node = site.run();
    node.bound("dns");
    site.write("cookies", "short");
    node.signal("HUP");
    node.until("the refusal", |node| {
        node.stderr().contains("line 1 is not 32 hexadecimal digits").then_some(())
    });
    node.stop();
}
