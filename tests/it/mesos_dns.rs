//! The program in the place of Mesos-DNS: its `config.json`, its names, its HTTP API.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::mesos::{Master, Program, bound, placed, write};
use crate::support::program::{Running, portolan, program, text};
use crate::support::zookeeper::ZooKeeper;
use crate::support::{block_on, dns, http, until};

fn state() -> Value {
    json!({
        "slaves": [{"id": "20140803-S0", "hostname": "a0", "pid": "slave(1)@10.0.1.10:5051"}],
        "frameworks": [{"id": "f-0", "name": "marathon", "pid": "scheduler-1@10.0.0.5:15101", "hostname": "m",
                        "active": true, "connected": true, "tasks": [task("web.1")]}],
    })
}

fn task(id: &str) -> Value {
    json!({"id": id, "name": "web", "framework_id": "f-0", "slave_id": "20140803-S0", "state": "TASK_RUNNING",
           "resources": {"ports": "[31000-31000]"},
           "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0}]})
}

#[test]
fn config_json_alone_is_enough() {
    block_on(async {
        let master = Master::start(state());
        let mut program = Program::start(&master, &json!({}), &[]);
        program.until_ready().await;
        assert_eq!(dns::addresses(program.dns, "web.marathon.mesos", RecordType::A).await, ["10.0.1.10"]);
        let missing = dns::ask(program.dns, "no.marathon.mesos", RecordType::A).await;
        assert_eq!(missing.response_code, ResponseCode::NXDomain);
        let hosts = http::json(program.http, "/v1/hosts/web.marathon.mesos").await;
        assert_eq!(hosts, json!([{"host": "web.marathon.mesos.", "ip": "10.0.1.10"}]));
        let services = http::json(program.http, "/v1/services/_web._tcp.marathon.mesos").await;
        assert_eq!((&services[0]["port"], &services[0]["ip"]), (&json!("31000"), &json!("10.0.1.10")));
        let none = http::json(program.http, "/v1/services/_no._tcp.marathon.mesos").await;
        assert_eq!(none, json!([{"service": "", "host": "", "ip": "", "port": ""}]));
        assert_eq!(http::json(program.http, "/v1/version").await["Service"], "Mesos-DNS");
        let enumerated = http::json(program.http, "/v1/enumerate").await;
        assert_eq!(enumerated["frameworks"][0]["tasks"][0]["id"], "web.1");
        let transfer = http::json(program.http, "/v1/axfr").await;
        assert_eq!(transfer["Records"]["As"]["web.marathon.mesos."], json!(["10.0.1.10"]));
        for path in ["/metrics", "/healthz", "/api/v1/sources"] {
            assert_eq!(http::get(program.http, "localhost", path).await.status, 200, "{path}");
        }
        assert_eq!(http::get(program.http, "localhost", "/v1/no").await.status, 404);
        let log = program.running.stderr();
        assert_eq!(log.matches("bound listener=").count(), 2, "listens elsewhere too:\n{log}");
        program.running.stop();
    });
}

#[test]
fn what_changes_is_followed() {
    block_on(async {
        let master = Master::start(state());
        let program = Program::start(&master, &json!({"EnumerationOn": false}), &["--compat", "strict"]);
        program.until_ready().await;
        let mut more = state();
        more["frameworks"][0]["tasks"][0]["resources"]["ports"] = json!("[31005-31005]");
        more["frameworks"][0]["tasks"].as_array_mut().unwrap().push(json!({"odd": []}));
        master.set_state(more);
        until("the other port", || async {
            let services = http::json(program.http, "/v1/services/_web._tcp.marathon.mesos").await;
            (services[0]["port"] == "31005").then_some(())
        })
        .await;
        assert_eq!(http::get(program.http, "localhost", "/v1/axfr").await.status, 404);
    });
}

#[test]
fn a_bad_file_ends_the_program_at_once() {
    let home = tempfile::tempdir().unwrap();
    let file = write(home.path(), &json!({"masters": ["10.0.0.1"], "ttl": "x"}));
    for command in [&["run", "--mesos-dns-config"][..], &["import", "mesos-dns"]] {
        let output = portolan(&[command, &[file.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let told = text(&output.stdout);
        assert!(told.contains("masters: \"10.0.0.1\" is not HOST:PORT") && told.contains("ttl: "), "{told}");
    }
}

#[test]
fn what_is_imported_can_be_checked() {
    let home = tempfile::tempdir().unwrap();
    let config = json!({
        "ZK": "zk://10.0.0.1:2181,10.0.0.2:2181/mesos", "masters": ["10.0.0.1:5050"], "ttl": 30,
        "resolvers": ["169.254.169.254"], "zoneResolvers": {"corp": ["10.9.9.9"]}, "IPSources": ["host"],
    });
    let file = write(home.path(), &config);
    let output = portolan(&["import", "mesos-dns", file.to_str().unwrap(), "--mesos-dns-profile", "0.7"]);
    let toml = text(&output.stdout);
    assert!(output.status.success(), "{toml}{}", text(&output.stderr));
    for line in ["schema = \"mesos-dns\"", "profile = \"0.7\"", "ttl = \"30s\""] {
        assert!(toml.contains(line), "{line}\n{toml}");
    }
    let imported = home.path().join("portolan.toml");
    std::fs::write(&imported, &toml).unwrap();
    let output = portolan(&["check", imported.to_str().unwrap()]);
    assert!(output.status.success(), "{}{}\n{toml}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn with_every_master_gone_the_saved_table_serves() {
    block_on(async {
        let master = Master::start(state());
        let config = placed(&json!({}), &[&master]);
        let program = Program::start_in(tempfile::tempdir().unwrap(), &config, &[]);
        program.until_ready().await;
        let home = program.stop();
        master.fall_silent();
        let program = Program::start_in(home, &config, &[]);
        program.until_ready().await;
        let leader = master.address.ip().to_string();
        for (name, address) in [
            ("web.marathon.mesos", "10.0.1.10"),
            ("web.marathon.slave.mesos", "10.0.1.10"),
            ("marathon.mesos", "10.0.0.5"),
            ("slave.mesos", "10.0.1.10"),
            ("leader.mesos", &*leader),
        ] {
            assert_eq!(dns::addresses(program.dns, name, RecordType::A).await, [address], "{name}");
        }
        let sources = http::json(program.http, "/api/v1/sources").await;
        assert_eq!(sources["sources"][0]["standing"], "stale");
        let mut moved = state();
        moved["slaves"][0]["pid"] = json!("slave(1)@10.0.1.77:5051");
        master.set_state(moved);
        until("the agent's new address", || async {
            let addresses = dns::addresses(program.dns, "web.marathon.mesos", RecordType::A).await;
            (addresses == ["10.0.1.77"]).then_some(())
        })
        .await;
    });
}

#[test]
fn masters_are_found_in_zookeeper() {
    let Some(zookeeper) = ZooKeeper::start() else { return };
    block_on(async {
        let master = Master::start(state());
        let (ip, port) = (master.address.ip(), master.address.port());
        let info = json!({"id": "m", "address": {"ip": ip.to_string(), "port": port}, "hostname": "m", "port": port});
        zookeeper.create(&[("/mesos", ""), ("/mesos/json.info_0000000007", &info.to_string())]);
        let mut config = placed(&json!({"zk": format!("zk://{}/mesos", zookeeper.address)}), &[]);
        config.as_object_mut().unwrap().remove("masters");
        let program = Program::start_in(tempfile::tempdir().unwrap(), &config, &[]);
        program.until_ready().await;
        assert_eq!(dns::addresses(program.dns, "web.marathon.mesos", RecordType::A).await, ["10.0.1.10"]);
        assert_eq!(dns::addresses(program.dns, "master0.mesos", RecordType::A).await, [ip.to_string()]);
    });
}

#[test]
fn both_files_together_are_one_process() {
    block_on(async {
        let master = Master::start(state());
        let home = tempfile::tempdir().unwrap();
        // Another address than the other file's, since the kernel chooses both ports.
        let config = |more: Value| {
            let mut config = placed(&more, &[&master]);
            config["listener"] = json!("127.0.0.2");
            config
        };
        let json = write(home.path(), &config(json!({})));
        std::fs::write(home.path().join("services.toml"), SERVICES).unwrap();
        let own = home.path().join("portolan.toml");
        let start = |text: &str| {
            std::fs::write(&own, text).unwrap();
            let mut command = std::process::Command::new(program());
            command.arg("run").arg("--config").arg(&own).arg("--mesos-dns-config").arg(&json);
            Running::spawn(command.env("PORTOLAN_STATE_DIR", home.path().join("state")))
        };
        let mut running = start(BESIDE);
        let (api, admin) = (bound(&mut running, "mesos"), bound(&mut running, "admin"));
        until("both sources", || async {
            let answer = http::try_get(admin, "localhost", "/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        let log = running.stderr();
        let servers: Vec<std::net::SocketAddr> = log
            .lines()
            .filter_map(|line| {
                line.split_once("bound listener=\"dns\" address=\"")?.1.split('"').next()?.parse().ok()
            })
            .collect();
        assert_eq!(servers.len(), 2, "where either file says:\n{log}");
        for server in servers {
            assert_eq!(dns::addresses(server, "db.svc.cluster", RecordType::A).await, ["192.0.2.7"]);
            assert_eq!(dns::addresses(server, "web.marathon.mesos", RecordType::A).await, ["10.0.1.10"]);
            // A native zone shows every source.
            assert_eq!(
                dns::addresses(server, "web.marathon.svc.cluster", RecordType::A).await,
                ["10.0.1.10"]
            );
        }
        assert_eq!(http::json(api, "/v1/hosts/web.marathon.mesos").await[0]["ip"], "10.0.1.10");
        let sources = http::json(admin, "/api/v1/sources").await;
        assert_eq!(sources["sources"].as_array().unwrap().len(), 2);
        // A change of either file is taken up.
        write(home.path(), &config(json!({"ttl": 7})));
        until("the other TTL", || async {
            let answer = http::try_get(api, "localhost", "/v1/axfr").await.ok()?;
            answer.body.contains("\"TTL\": 7,").then_some(())
        })
        .await;
        running.stop();
        write(home.path(), &config(json!({})));
        let mut clash = start(&format!("{BESIDE}[[dns.zone]]\nname = \"mesos\"\nschema = \"native\"\n"));
        let status = clash.ended();
        assert_eq!(status.code(), Some(1));
        assert!(clash.stdout().contains("the zone \"mesos\" is there twice"), "{}", clash.stdout());
    });
}

const SERVICES: &str = "[[service]]\nname = \"db\"\nendpoint = [\"192.0.2.7:5432\"]\n";
const BESIDE: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n[[source]]\ntype = \"file\"\npaths = [\"services.toml\"]\n\
                      [dns]\nlisten = [\"127.0.0.1:0\"]\n[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n";
