//! An engine in a network namespace of its own, with one small image.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{ApiConfig, Auth, TlsConfig};
use crate::http::{Base, Client, Limits};
use crate::sources::program::Program;

/// Whatever runs in the image waits.
pub(super) const IMAGE: &str = "tiny:1";

pub(super) struct Dockerd {
    directory: TempDir,
    program: Program,
    client: Client,
}

impl Dockerd {
    pub(super) async fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("dk").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        // Namespaces, so that its firewall rules and bridges are nobody else's, and its mounts and containers end with it;
        // a configuration and a /run of its own, so that it is not led to the machine's containerd.
        std::fs::write(at("daemon.json"), "{}").unwrap();
        let command = format!(
            "ip link set lo up && mount -t tmpfs tmpfs /run && exec dockerd --config-file {} --data-root {} --exec-root {} --pidfile {} -H unix://{} \
             --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs --log-level warn",
            at("daemon.json"),
            at("data"),
            at("run"),
            at("pid"),
            at("docker.sock")
        );
        let own =
            ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", &command];
        let arguments = own.map(str::to_owned);
        let program = Program::start("unshare", &arguments, &directory.path().join("log"));
        let base = Base::parse(&format!("unix://{}", at("docker.sock"))).unwrap();
        let limits = Limits { request: Duration::from_secs(20), body: 1 << 24 };
        let client = Client::new(&Auth::None, &TlsConfig::default(), &base, limits).unwrap();
        let mut dockerd = Self { directory, program, client };
        dockerd.until_ready().await;
        dockerd.import();
        dockerd
    }

    async fn until_ready(&mut self) {
        for _ in 0..1200 {
            if self.try_post_get("/_ping").await {
                return;
            }
            assert!(!self.program.has_ended(), "dockerd: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("dockerd is not ready: {}", self.log());
    }

    async fn try_post_get(&self, path: &str) -> bool {
        let url = Base::parse(&self.url()).unwrap().url(path);
        self.client.get(&url, "*/*").await.is_ok_and(|answer| answer.status.is_success())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// An image without a registry: busybox and nothing else.
    fn import(&self) {
        let root = self.directory.path().join("img");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.exists());
        let busybox = busybox
            .expect("busybox: tests/run installs busybox-static; PORTOLAN_TEST_SKIP_REAL leaves it out");
        std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "test", "touch", "rm"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let archive = self.directory.path().join("img.tar");
        let packed =
            Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
        assert!(packed.success());
        let archive = archive.display().to_string();
        let change = "CMD [\"/bin/sleep\",\"100000\"]";
        self.docker(&["import", "--change", change, "--change", "EXPOSE 8080", &archive, IMAGE]);
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(super) fn api(&self) -> ApiConfig {
        ApiConfig { urls: vec![self.url()], ..ApiConfig::default() }
    }

    /// Runs the command line client; what it prints.
    pub(super) fn docker(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = Command::new("docker")
            .arg("-H")
            .arg(self.url())
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("docker: {error}: tests/run installs it"));
        assert!(status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).trim().to_owned()
    }

    /// Runs a container in the background; its id.
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        self.docker(&[&["run", "-d"], arguments, &[IMAGE]].concat())
    }

    /// A container of a Compose project.
    pub(super) fn compose(&self, project: &str, service: &str, more: &[&str]) -> String {
        let labels = [
            format!("com.docker.compose.project={project}"),
            format!("com.docker.compose.service={service}"),
            "com.docker.compose.oneoff=False".to_owned(),
        ];
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["-l", label]).collect();
        self.run(&[labels.as_slice(), more].concat())
    }

    /// A container's address on the default bridge.
    pub(super) fn address(&self, id: &str) -> String {
        self.docker(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", id])
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        let url = Base::parse(&self.url()).unwrap().url(path);
        self.client.get(&url, "application/json").await.unwrap().json(&url, 1 << 24).await.unwrap()
    }

    pub(super) async fn post(&self, path: &str, body: Value) {
        let url = Base::parse(&self.url()).unwrap().url(path);
        let answer = self.client.post(&url, "*/*", body.to_string()).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        let _ = answer.body.all(1 << 24).await;
    }

    pub(super) async fn pause(&self, id: &str, pause: bool) {
        let verb = if pause { "pause" } else { "unpause" };
        self.post(&format!("/containers/{id}/{verb}"), json!({})).await;
    }

    pub(super) fn kill(&mut self) {
        self.program.kill();
    }
}
