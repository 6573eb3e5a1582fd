//! nginx. It can check no URI in a certificate: it checks the DNS name of the server's SVID, and the common name of
//! the client's, which our server makes from its DNS name.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use svidecar_stack::{Process, ports};

use super::pair::{Pair, Scene};
use crate::course::{CLIENT_DNS, SERVER_DNS, SvidFiles};
use crate::wire::Wire;

/// What says that a connection or an upstream's connection is never too old.
const FOREVER: &str = "keepalive_requests 1000000000; keepalive_timeout 600s;";

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>) -> Result<Pair> {
    let entry = ports::free()?;
    let (server, client) = match scene.wire {
        Wire::Http1 | Wire::Http2 => http(scene, entry),
        Wire::Tcp => tcp(scene, entry),
    };
    let sidecars = vec![sidecar(scene, "server", &server)?, sidecar(scene, "client", &client)?];
    Ok(Pair { sidecars, between: scene.between, entry })
}

/// Places for temporary files: the packaged ones need not exist.
const TEMPORARY: &str = "client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
                         uwsgi_temp_path uwsgi; scgi_temp_path scgi;";

/// HTTP/1.1 with kept connections, bodies passed on as they come.
const PROXY: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off;";

/// What both sidecars are told to do with HTTP. HTTP/2 leads on only as gRPC's.
fn http(scene: &Scene<'_>, entry: SocketAddr) -> (String, String) {
    let (module, scheme, http2, more) = match scene.wire {
        Wire::Http2 => ("grpc", "grpc", " http2", ""),
        _ => ("proxy", "http", "", PROXY),
    };
    let server = format!(
        "{known} server {{ listen {between} ssl{http2}; {accept} if ($known = 0) {{ return 403; }}\n\
         location / {{ {module}_pass {scheme}://next; {more} }} }}",
        known = known("0", "1"),
        between = scene.between,
        accept = accept_tls(&scene.server.svid),
    );
    let client = format!(
        "server {{ listen {entry}{http2}; location / {{ {module}_pass {scheme}s://next; {more}\n{connect} }} }}",
        connect = connect_tls(module, &scene.client.svid),
    );
    (http_block(scene.app, &server), http_block(scene.peer, &client))
}

fn http_block(next: SocketAddr, server: &str) -> String {
    format!(
        "http {{ access_log off; {FOREVER} client_max_body_size 0; http2_max_concurrent_streams 1024;\n\
         {TEMPORARY}\nupstream next {{ server {next}; keepalive 1024; {FOREVER} }}\n{server} }}"
    )
}

/// What both sidecars are told to do with bytes. A stranger is led nowhere.
fn tcp(scene: &Scene<'_>, entry: SocketAddr) -> (String, String) {
    let server = format!(
        "stream {{ {known} server {{ listen {between} ssl; {accept} proxy_timeout 600s; proxy_pass $known; }} }}",
        known = known("\"\"", &scene.app.to_string()),
        between = scene.between,
        accept = accept_tls(&scene.server.svid),
    );
    let client = format!(
        "stream {{ server {{ listen {entry}; proxy_timeout 600s; proxy_pass {peer}; proxy_ssl on; {connect} }} }}",
        peer = scene.peer,
        connect = connect_tls("proxy", &scene.client.svid),
    );
    (server, client)
}

/// A variable that depends on who the client is.
fn known(stranger: &str, client: &str) -> String {
    format!("map $ssl_client_s_dn $known {{ default {stranger}; \"~(^|,)CN={CLIENT_DNS}(,|$)\" {client}; }}")
}

fn accept_tls(svid: &SvidFiles) -> String {
    format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on; \
         ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;",
        svid.cert.display(),
        svid.key.display(),
        svid.bundle.display()
    )
}

fn connect_tls(module: &str, svid: &SvidFiles) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("certificate", svid.cert.display().to_string()),
        ("certificate_key", svid.key.display().to_string()),
        ("trusted_certificate", svid.bundle.display().to_string()),
        ("verify", "on".to_owned()),
        ("name", SERVER_DNS.to_owned()),
        ("protocols", "TLSv1.3".to_owned()),
        ("conf_command", "Ciphersuites TLS_AES_128_GCM_SHA256".to_owned()),
    ] {
        // Writing to a string does not fail.
        let _ = write!(text, "{module}_ssl_{name} {value}; ");
    }
    text
}

fn sidecar(scene: &Scene<'_>, side: &str, sections: &str) -> Result<Process> {
    let tool = scene.course.tools.nginx.as_ref().context("nginx is not here")?;
    let dir = scene.dir.join(side);
    std::fs::create_dir_all(&dir)?;
    let module = tool.file("usr/lib/nginx/modules/ngx_stream_module.so");
    let module =
        if scene.wire == Wire::Tcp { format!("load_module {};\n", module.display()) } else { String::new() };
    let text = format!(
        "{module}worker_processes 1;\nworker_rlimit_nofile 20000;\npid {dir}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 8192; }}\n{sections}\n",
        dir = dir.display()
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text)?;
    let launch = tool.launch().args(["-g", "daemon off;", "-p"]).arg(&dir).arg("-c").arg(config);
    scene.course.stack.guarded(launch).start(&format!("nginx {side}"))
}
