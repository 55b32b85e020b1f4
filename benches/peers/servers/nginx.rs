//! nginx.

use std::fmt::Write;

use super::{Front, Web, file};
use crate::server::Spec;

/// In front of HTTP upstreams.
pub(crate) fn web(web: &Web, port: u16) -> Result<Spec, String> {
    let d = web.directory.display();
    let (listen, tls) = match &web.front {
        Front::Plain => (String::new(), String::new()),
        Front::H2c => (" http2".to_owned(), String::new()),
        Front::Tls(certificate) => (
            " ssl http2".to_owned(),
            format!(
                " ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;\n",
                certificate.chain.display(),
                certificate.key.display()
            ),
        ),
    };
    let mut text = format!(
        "worker_processes 1;\ndaemon off;\nmaster_process off;\nuser root;\npid {d}/nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n access_log off;\n keepalive_requests 1000000000;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, " {kind}_temp_path {d}/nginx-{kind};");
    }
    let endpoints: String = web.upstreams.iter().map(|port| format!(" server 127.0.0.1:{port};")).collect();
    for group in 0..web.groups() {
        let _ = writeln!(
            text,
            " upstream group{group} {{{endpoints} keepalive 128; keepalive_requests 1000000000; }}"
        );
    }
    let mut upstream = "group0";
    if web.hosts > 0 {
        upstream = "$group";
        text.push_str(" map_hash_bucket_size 128;\n map $host $group {\n  default group0;\n");
        for (host, group) in web.vhosts() {
            let _ = writeln!(text, "  {host} group{group};");
        }
        text.push_str(" }\n");
    }
    let _ = write!(
        text,
        " server {{ listen 127.0.0.1:{port}{listen};\n{tls} location / {{\n  proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
         \x20 proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         \x20 proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;\n }} }}\n}}\n"
    );
    let path = file(&web.directory, "nginx.conf", &text)?;
    Ok(Spec::new("nginx", port, &["nginx", "-e", "stderr", "-c", &path]))
}
