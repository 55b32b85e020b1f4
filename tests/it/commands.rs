//! The program as an operator meets it: every command of DESIGN §5, started, asked, reloaded and stopped.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::program::{Running, client, finish, portolan, program, text, with_real_clients};
use crate::support::site::{Backend, DNS, Site, get, listener, listener_at, metric, reloads, route, service};

const FREE: [&str; 9] = [
    "demo",
    "--dns",
    "127.0.0.1:0",
    "--proxy",
    "127.0.0.1:0",
    "--tcp",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
];

/// A site with a service `web.shop` at one backend, and a listener `web` with a route to it.
fn shop(backend: &Backend) -> (Site, String) {
    let site = Site::new(&service("web.shop", &[backend.address]));
    let more = format!("{DNS}{}{}", listener("web", "http"), route("web", "shop.example.com", "web.shop"));
    site.configure(&more);
    (site, more)
}

/// An object of the admin API.
fn api(admin: SocketAddr, what: &str) -> Value {
    let (status, body) = get(admin, "localhost", &format!("/api/v1/{what}")).expect("the admin API answers");
    assert_eq!(status, 200, "{what}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn every_line_of_the_demo_works() {
    if !with_real_clients() {
        return;
    }
    let mut demo = Running::start(&FREE);
    demo.until("the lines", |demo| demo.stdout().contains("Ctrl-C ends it").then_some(()));
    let told = demo.stdout();
    let lines: Vec<&str> =
        told.lines().map(str::trim).filter(|l| l.starts_with("dig ") || l.starts_with("curl ")).collect();
    assert!(lines.len() >= 8, "{told}");
    for line in lines {
        let checked = line.replacen("curl ", "curl -sS --fail-with-body ", 1);
        let answer = client("sh", &["-c", &checked]);
        assert!(!answer.trim().is_empty(), "{line}");
        if line.starts_with("dig ") {
            assert!(
                answer.contains("status: NOERROR") && !answer.contains("ANSWER: 0,"),
                "{line}:\n{answer}"
            );
        }
        assert!(!line.ends_with("/cart") || answer.contains("\"/shop/cart\""), "{line}: {answer}");
    }
    demo.stop();
}

#[test]
fn the_demo_ends_on_signals_and_after_its_time() {
    for signal in ["INT", "TERM"] {
        let mut demo = Running::start(&FREE);
        demo.until("the lines", |demo| demo.stdout().contains("Ctrl-C ends it").then_some(()));
        demo.signal(signal);
        assert_eq!(demo.ended().code(), Some(0), "{signal}\n{}", demo.stderr());
    }
    let mut demo = Running::start(&[&FREE[..], &["--seconds", "0"]].concat());
    assert_eq!(demo.ended().code(), Some(0), "{}", demo.stderr());
}

#[test]
fn the_demo_says_what_to_do_about_a_taken_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--dns", "--proxy", "--tcp", "--admin"] {
        let mut arguments = FREE;
        let place = FREE.iter().position(|a| *a == flag).unwrap() + 1;
        arguments[place] = &address;
        let output = portolan(&arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flag}: {told}");
        assert!(told.contains(&address) && told.contains(flag) && told.contains("in use"), "{flag}: {told}");
        assert!(output.stdout.is_empty(), "{flag}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    let site = Site::new("");
    site.write("portolan.toml", "[dsn]\n[dns]\nttl = 5\n[[proxy.listener]]\nprotocl = \"http\"\n");
    let file = site.file();
    let file = file.to_str().unwrap();
    for command in [&["check", file][..], &["run", "--config", file]] {
        let output = portolan(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let told = text(&output.stdout);
        let places: Vec<&str> = told.lines().map(|line| line.strip_prefix(file).unwrap()).collect();
        assert_eq!(places.len(), 3, "{told}");
        assert!(
            places[0].starts_with(":1:2: unknown key \"dsn\"") && places[0].contains("\"dns\""),
            "{told}"
        );
        assert!(places[1].starts_with(":3:7: "), "{told}");
        assert!(places[2].starts_with(":5:1: unknown key \"protocl\""), "{told}");
    }
    site.configure("");
    let output = portolan(&["check", file]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
    let output = portolan(&["check", "/nowhere/portolan.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("/nowhere/portolan.toml:1:1: "), "{}", text(&output.stdout));
}

#[test]
fn a_second_instance_and_a_taken_port_are_refused() {
    let backend = Backend::start();
    let (site, more) = shop(&backend);
    let mut first = site.run();
    let output = portolan(&["run", "--config", site.file().to_str().unwrap()]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("another instance runs on the state directory"), "{told}");

    let web = first.bound("web").to_string();
    let other = Site::new("");
    other.configure(&more.replace(&listener("web", "http"), &listener_at("web", "http", &web)));
    let output = portolan(&["run", "--config", other.file().to_str().unwrap()]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("listener \"web\"") && told.contains(&web), "{told}");
    first.stop();
}

#[test]
fn a_reload_adds_and_takes_away() {
    let backend = Backend::start();
    let (site, more) = shop(&backend);
    let mut node = site.run();
    let (admin, web) = (node.bound("admin"), node.bound("web"));
    assert_eq!(get(web, "shop.example.com", "/").unwrap().0, 200);
    assert_eq!(get(web, "new.example.com", "/").unwrap().0, 404);

    let zone = "[[dns.zone]]\nname = \"more.cluster\"\nschema = \"native\"\n";
    let added =
        format!("{zone}{}{}", listener("second", "http"), route("second", "b.example.com", "web.shop"));
    site.configure(&format!("{more}{added}{}", route("web", "new.example.com", "web.shop")));
    node.signal("HUP");
    let second = node.bound("second");
    node.until("the new routes", |_| {
        let found = [(web, "new.example.com"), (second, "b.example.com"), (web, "shop.example.com")];
        found.into_iter().all(|(at, host)| get(at, host, "/").is_some_and(|a| a.0 == 200)).then_some(())
    });
    let asked = portolan(&["resolve", "web.shop.more.cluster", "--admin", &format!("http://{admin}")]);
    assert!(asked.status.success(), "{}", text(&asked.stderr));
    assert!(reloads(admin) >= Some(1.0));

    // Without a signal: the file is looked at.
    site.configure(&more);
    node.until("the listener closes", |_| std::net::TcpStream::connect(second).is_err().then_some(()));
    node.until("the route goes", |_| (get(web, "new.example.com", "/")?.0 == 404).then_some(()));
    assert_eq!(get(web, "shop.example.com", "/").unwrap().0, 200);
    let listeners = api(admin, "listeners").to_string();
    assert!(!listeners.contains("second") && listeners.contains("\"web\""), "{listeners}");
    node.stop();
}

#[test]
fn what_cannot_be_loaded_changes_nothing() {
    let backend = Backend::start();
    let (site, more) = shop(&backend);
    let mut node = site.run();
    let (admin, web) = (node.bound("admin"), node.bound("web"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();

    let before = api(admin, "listeners")["listeners"].clone();
    let unbindable = format!(
        "{DNS}{}{}{}",
        listener("fresh", "http"),
        route("fresh", "shop.example.com", "web.shop"),
        listener_at("blocked", "tcp", &taken.1)
    );
    let mistaken = more.replace("protocol =", "protocl =");
    for (refused, (config, word)) in [(unbindable, &*taken.1), (mistaken, "protocl")].into_iter().enumerate()
    {
        site.configure(&config);
        node.signal("HUP");
        let told = node.until("the refusal", |_| {
            let told = api(admin, "table")["configuration"]["refused"].to_string();
            told.contains(word).then_some(told)
        });
        assert!(told.len() > word.len(), "{told}");
        node.until("the refusal in the log", |node| {
            node.stderr().contains("configuration refused").then_some(())
        });
        let refused = (refused + 1) as f64;
        node.until("the count", |_| {
            (metric(admin, "portolan_config_reloads_total{result=\"refused\"}")? >= refused).then_some(())
        });
        assert_eq!(metric(admin, "portolan_config_last_reload_successful"), Some(0.0));
        assert_eq!(api(admin, "listeners")["listeners"], before, "nothing is bound, nothing is closed");
        assert_eq!(get(web, "shop.example.com", "/").unwrap().0, 200);
    }
    site.configure(&more);
    node.until("all is well again", |_| {
        (metric(admin, "portolan_config_last_reload_successful")? > 0.5).then_some(())
    });
    assert_eq!(api(admin, "table")["configuration"]["refused"], serde_json::json!([]));
    node.stop();
}

#[test]
fn the_log_follows_the_file_but_for_its_format() {
    let site = Site::new("");
    site.configure("");
    let mut node = site.run();
    let admin = node.bound("admin");
    let say_nonsense = || {
        let mut stream = std::net::TcpStream::connect(admin).unwrap();
        std::io::Write::write_all(&mut stream, b"nonsense\r\n\r\n").unwrap();
    };
    say_nonsense();
    let debug = |node: &Running| node.stderr().contains("\"level\":\"DEBUG\"").then_some(());
    let changed = |to: &str| site.head().replace("[log]\nformat = \"json\"", to);
    site.write("portolan.toml", &changed("[log]\nlevel = \"portolan=debug,info\"\nformat = \"json\""));
    node.signal("HUP");
    node.until("the reload", |_| (reloads(admin)? >= 1.0).then_some(()));
    assert!(!node.stderr().contains("takes a restart"), "{}", node.stderr());
    node.until("a line of the new level", |node| {
        say_nonsense();
        debug(node)
    });
    site.write("portolan.toml", &changed("[log]\nformat = \"text\""));
    node.signal("HUP");
    node.until("a word about the format", |node| {
        node.stderr().contains("a change of [log] format takes a restart").then_some(())
    });
    node.stop();
}

#[test]
fn a_listener_keeps_its_address_under_another_name() {
    let backend = Backend::start();
    let (site, more) = shop(&backend);
    let mut node = site.run();
    let (admin, web, dns) = (node.bound("admin"), node.bound("web"), node.bound("dns"));
    // All on what this process holds already: another name, and all addresses instead of one.
    let at = |address: SocketAddr| format!("0.0.0.0:{}", address.port());
    let text = format!("{}{more}", site.head())
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{}\"", at(admin)))
        .replace("[dns]\nlisten = [\"127.0.0.1:0\"]", &format!("[dns]\nlisten = [\"{}\"]", at(dns)))
        .replace(&listener("web", "http"), &listener_at("www", "http", &at(web)))
        .replace("listener = \"web\"", "listener = \"www\"");
    site.write("portolan.toml", &text);
    node.signal("HUP");
    let listed = node.until("the new name", |_| {
        let (_, body) = get(admin, "localhost", "/api/v1/listeners")?;
        body.contains("www").then_some(body)
    });
    for address in [admin, web, dns] {
        assert!(listed.contains(&at(address)), "{listed}");
    }
    node.until("service under the new name", |_| (get(web, "shop.example.com", "/")?.0 == 200).then_some(()));
    node.stop();
}

#[test]
fn a_stop_lets_open_requests_end() {
    let backend = Backend::start();
    let (site, _) = shop(&backend);
    let mut node = site.run();
    let web = node.bound("web");
    let asking = std::thread::spawn(move || get(web, "shop.example.com", "/slow"));
    backend.until_slow();
    node.signal("TERM");
    node.until("the listener closes", |_| std::net::TcpStream::connect(web).is_err().then_some(()));
    backend.release();
    let answer = asking.join().unwrap().expect("the request in progress is answered");
    assert_eq!(answer.0, 200);
    let begin = Instant::now();
    assert_eq!(node.ended().code(), Some(0), "{}", node.stderr());
    assert!(begin.elapsed() < Duration::from_secs(20), "nothing is left to wait for");
}

#[test]
fn the_running_daemon_is_shown() {
    let backend = Backend::start();
    let (site, _) = shop(&backend);
    site.write("services.toml", &(service("web.shop", &[backend.address]) + &service("idle", &[])));
    let mut node = site.run();
    let admin = format!("http://{}", node.bound("admin"));
    let address = backend.address.to_string();
    let shown = |command: &[&str]| {
        let output = portolan(&[command, &["--admin", &admin]].concat());
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
        assert!(!text(&output.stdout).contains('\x1b'), "{command:?}: no colours off a terminal");
        text(&output.stdout)
    };
    for (command, words) in [
        (&["services"][..], vec!["SERVICE", "web.shop", "idle", "files"]),
        (&["routes"], vec!["ROUTE", "shop.example.com/", "web.shop"]),
        (&["endpoints"], vec!["ADDRESS", "web.shop", &address, "healthy"]),
        (&["endpoints", "web.shop"], vec![&address]),
        (&["endpoints", "idle"], vec!["SERVICE"]),
        (&["sources"], vec!["files", "synced"]),
        (&["explain", "http://shop.example.com/cart"], vec!["route-1", "chosen", &address]),
        (&["explain", "http://other.example.com/"], vec!["no route"]),
        (&["explain", "web.shop.svc.cluster"], vec!["svc.cluster", "127.0.0.1"]),
        (&["resolve", "web.shop.svc.cluster"], vec!["NOERROR", "127.0.0.1"]),
        (&["resolve", "_http._tcp.web.shop.svc.cluster", "SRV"], vec!["inst.web.shop.svc.cluster"]),
    ] {
        let table = shown(command);
        for word in words {
            assert!(table.contains(word), "{command:?}: no {word} in:\n{table}");
        }
    }
    for list in ["services", "routes", "endpoints", "sources"] {
        let told: Value = serde_json::from_str(&shown(&[list, "--json"])).unwrap();
        assert!(
            told["generation"].is_u64() && told[list].as_array().is_some_and(|l| !l.is_empty()),
            "{told}"
        );
    }
    for (command, word) in [
        (&["endpoints", "web.shpo"][..], "web.shpo"),
        (&["resolve", "nope.svc.cluster"], "nope.svc.cluster"),
        (&["resolve", "web.shop.svc.cluster", "AAAA"], "has no AAAA"),
    ] {
        let output = portolan(&[command, &["--admin", &admin]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(text(&output.stderr).contains(word), "{command:?}: {}", text(&output.stderr));
    }
    node.stop();
}

#[test]
fn the_daemon_is_found_by_its_configuration() {
    let backend = Backend::start();
    let (site, more) = shop(&backend);
    let mut node = site.run();
    let admin = node.bound("admin");
    // The same node as its operator knows it: with the addresses that it has.
    let dns = node.bound("dns");
    let fixed = format!("{}{more}", site.head())
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{admin}\""))
        .replace("[dns]\nlisten = [\"127.0.0.1:0\"]", &format!("[dns]\nlisten = [\"{dns}\"]"));
    site.write("fixed.toml", &fixed);
    let file = site.path("fixed.toml");
    let file = file.to_str().unwrap();
    for command in
        [&["services"][..], &["explain", "web.shop.svc.cluster"], &["resolve", "web.shop.svc.cluster"]]
    {
        let output = portolan(&[command, &["--config", file]].concat());
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
    // By the socket alone: as the only place that the file names, and by its path.
    let socket_only = fixed.replace(&format!("listen = \"{admin}\""), "listen = []");
    assert_ne!(socket_only, fixed);
    site.write("socket.toml", &socket_only);
    let (by_file, socket) = (site.path("socket.toml"), site.path("state/admin.sock"));
    let socket = format!("unix://{}", socket.display());
    for daemon in [["--config", by_file.to_str().unwrap()], ["--admin", &socket]] {
        for command in [&["services"][..], &["explain", "web.shop.svc.cluster"]] {
            let output = portolan(&[command, &daemon].concat());
            assert!(output.status.success(), "{command:?} {daemon:?}: {}", text(&output.stderr));
            assert!(text(&output.stdout).contains("web.shop"), "{}", text(&output.stdout));
        }
    }
    let output = portolan(&["resolve", "web.shop.svc.cluster", "--admin", &socket]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    node.stop();
    let output = portolan(&["services", "--admin", &socket]);
    assert!(text(&output.stderr).contains(&format!("no daemon answers at {socket}")));
    for command in [
        &["services"][..],
        &["routes"],
        &["endpoints"],
        &["sources"],
        &["explain", "web.shop.svc.cluster"],
        &["resolve", "web.shop.svc.cluster"],
    ] {
        let output = portolan(&[command, &["--config", file]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(told.contains("answers at") && told.contains("127.0.0.1"), "{command:?}: {told}");
        assert!(output.stdout.is_empty(), "{command:?}: talk goes to standard error");
    }
}

#[test]
fn every_command_has_help_with_examples_and_completes() {
    let help = text(&portolan(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    assert!(commands.len() >= 10, "{help}");
    assert!(help.contains("Examples:"), "{help}");
    for command in &commands {
        let output = portolan(&[command, "--help"]);
        assert!(output.status.success() && text(&output.stdout).contains("Examples:\n"), "{command}");
    }
    let full = format!("{} completions bash > /dev/full", program().display());
    let output = finish(std::process::Command::new("sh").args(["-c", &full])).unwrap();
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.starts_with("portolan: standard output"), "{told}");
    let script = tempfile::NamedTempFile::new().unwrap();
    let completions = portolan(&["completions", "bash"]);
    std::fs::write(script.path(), &completions.stdout).unwrap();
    let asked = format!(
        "set -e; source {}; COMP_WORDS=(portolan ''); COMP_CWORD=1; _portolan portolan '' portolan; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.path().display()
    );
    let completed = client("bash", &["-c", &asked]);
    for command in commands {
        assert!(completed.lines().any(|line| line == command), "{command} in {completed}");
    }
}
