//! HAProxy. It can check a URI in a client's certificate (the encoded name must occur in the certificate), but none
//! in a server's: there it checks the DNS name of the server's SVID.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use svidecar_stack::{Process, ports};

use super::pair::{Pair, Scene};
use crate::course::{CLIENT_ID, SERVER_DNS};
use crate::wire::Wire;

/// What it speaks between the sidecars, if load and app speak HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Middle {
    /// HTTP/1.1 with the pools of its defaults.
    Http1,
    /// HTTP/2, connections shared by all.
    Http2,
}

/// Starts both sidecars.
pub fn start(scene: &Scene<'_>, middle: Middle) -> Result<Pair> {
    let (between, peer, entry) = (scene.between, scene.peer, ports::free()?);
    let plain = if scene.wire == Wire::Http2 { " proto h2" } else { "" };
    let alpn = match (scene.wire, middle) {
        (Wire::Tcp, _) => "",
        (_, Middle::Http1) => " alpn http/1.1",
        (_, Middle::Http2) => " alpn h2",
    };
    let tls = |svid: &crate::course::SvidFiles| {
        format!("ssl crt {} ca-file {} verify required{alpn}", svid.both.display(), svid.bundle.display())
    };
    let server = section(
        &format!("bind {between} {}", tls(&scene.server.svid)),
        &format!(
            "    tcp-request session reject unless {{ ssl_c_der,hex -m sub {} }}\n",
            encoded_uri(CLIENT_ID)
        ),
        &format!("{}{plain}", scene.app),
    );
    let client = section(
        &format!("bind {entry}{plain}"),
        "",
        &format!("{peer} {} verifyhost {SERVER_DNS}", tls(&scene.client.svid)),
    );
    let sidecars =
        vec![sidecar(scene, "server", middle, &server)?, sidecar(scene, "client", middle, &client)?];
    Ok(Pair { sidecars, between, entry })
}

fn section(bind: &str, check: &str, server: &str) -> String {
    format!(
        "frontend entry\n    {bind}\n{check}    default_backend next\n\nbackend next\n    server next {server}\n"
    )
}

fn sidecar(scene: &Scene<'_>, side: &str, middle: Middle, sections: &str) -> Result<Process> {
    let mode = if scene.wire == Wire::Tcp { "tcp" } else { "http" };
    let reuse = if middle == Middle::Http2 { "    http-reuse always\n" } else { "" };
    let text = format!(
        "global\n    nbthread 1\n    maxconn 8000\n\
         \x20   ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         \x20   ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n\
         \x20   ssl-default-server-options ssl-min-ver TLSv1.3\n\
         \x20   ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\n\
         defaults\n    mode {mode}\n{reuse}    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\n\
         {sections}"
    );
    let config = scene.dir.join(format!("{side}.cfg"));
    write_config(&config, &text)?;
    let tool = scene.course.tools.haproxy.as_ref().context("HAProxy is not here")?;
    scene
        .course
        .stack
        .guarded(tool.launch().arg("-db").arg("-f").arg(config))
        .start(&format!("haproxy {side}"))
}

fn write_config(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A URI as a subject alternative name is encoded (RFC 5280, section 4.2.1.6: `[6] IA5String`), in hexadecimal.
fn encoded_uri(uri: &str) -> String {
    let mut text = format!("86{:02X}", uri.len());
    for byte in uri.bytes() {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uri_is_encoded_with_its_tag_and_length() {
        assert_eq!(super::encoded_uri("spiffe://a"), "860A7370696666653A2F2F61");
    }
}
