//! Tokens for local apps, and who does not get one.

use std::{
    io::{Read, Write},
    os::unix::fs::PermissionsExt as _,
};

use http::StatusCode;
use svidecar_config::address::ListenAddress;
use tokio::net::{TcpStream, UnixStream};

use crate::support::{
    agent::{Agent, Says},
    authority::Authority,
    client::{Read as Answer, Sender1, ask, http1},
    sidecar::Sidecar,
    soon,
};

async fn sidecar(agent: &Agent, local_api: &str) -> Sidecar {
    let sidecar = Sidecar::start(agent, &format!("local_api: {{{local_api}}}\n")).await;
    sidecar.until(|readiness| readiness.conditions[0].state == "current").await;
    sidecar
}

async fn connect(sidecar: &Sidecar) -> Sender1 {
    match sidecar.proxy.local_api().unwrap() {
        ListenAddress::Tcp(address) => http1(TcpStream::connect(address).await.unwrap()).await,
        ListenAddress::Unix(path) => http1(UnixStream::connect(path).await.unwrap()).await,
    }
}

async fn token(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(&mut connect(sidecar).await, request.body(http_body_util::Full::default()).unwrap()).await
}

fn unix(directory: &tempfile::TempDir) -> String {
    format!("unix:{}", directory.path().join("local.sock").display())
}

const LOCAL: (&str, &str) = ("x-svidecar-local", "true");
const HOST: (&str, &str) = ("host", "localhost");

/// An app that means it gets a token for whom it may have one; whatever made it ask for a URL, or for another audience, gets
/// none. Over both transports: the user is known by the kernel's word.
#[tokio::test]
async fn a_token_is_for_who_means_it_and_for_whom_it_may_be() {
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let directory = tempfile::tempdir().unwrap();
    for listen in [unix(&directory), "127.0.0.1:0".to_owned()] {
        let sidecar = sidecar(&agent, &format!("listen: \"{listen}\", audiences: [partner, other]")).await;
        let path = "/spiffe/svid/jwt?audience=partner";
        let given = token(&sidecar, path, &[HOST, LOCAL]).await;
        assert_eq!(given.status, StatusCode::OK, "{}", given.body);
        assert!(given.body.contains("token for partner"), "{}", given.body);
        for (path, headers, status, code) in [
            (path, &[HOST][..], StatusCode::FORBIDDEN, "local_header_missing"),
            (path, &[HOST, ("x-svidecar-local", "1")], StatusCode::FORBIDDEN, "local_header_missing"),
            (path, &[HOST, LOCAL, LOCAL], StatusCode::FORBIDDEN, "local_header_missing"),
            ("/spiffe/svid/jwt", &[HOST, LOCAL], StatusCode::BAD_REQUEST, "no_audience"),
            ("/spiffe/svid/jwt?audience=root", &[HOST, LOCAL], StatusCode::FORBIDDEN, "audience_not_allowed"),
            (
                "/spiffe/svid/jwt?audience=partner&audience=root",
                &[HOST, LOCAL],
                StatusCode::FORBIDDEN,
                "audience_not_allowed",
            ),
            ("/config", &[HOST, LOCAL], StatusCode::NOT_FOUND, "not_found"),
        ] {
            let refused = token(&sidecar, path, headers).await;
            assert_eq!(refused.status, status, "{path} {headers:?}: {}", refused.body);
            assert!(refused.body.contains(code) && !refused.body.contains("token for"), "{}", refused.body);
        }
        if listen.starts_with("127") {
            let refused = token(&sidecar, path, &[("host", "evil.example.com"), LOCAL]).await;
            assert_eq!(refused.status, StatusCode::MISDIRECTED_REQUEST);
        }
    }
}

/// Asks from a thread of this user, and gives the status.
fn status_for(uid: u32, address: &ListenAddress) -> String {
    const REQUEST: &str = "GET /spiffe/svid/jwt?audience=partner HTTP/1.0\r\nx-svidecar-local: true\r\n\r\n";
    fn exchange(mut stream: impl Read + Write) -> String {
        stream.write_all(REQUEST.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
    let user = rustix::process::Uid::from_raw(uid);
    let address = address.clone();
    let thread = std::thread::spawn(move || {
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        match address {
            ListenAddress::Tcp(address) => exchange(std::net::TcpStream::connect(address).unwrap()),
            ListenAddress::Unix(path) => exchange(std::os::unix::net::UnixStream::connect(path).unwrap()),
        }
    });
    thread.join().unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// Another user of the host gets none, over loopback TCP as little as over the socket. Only root can play another user.
#[tokio::test]
async fn another_user_gets_no_token() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: another_user_gets_no_token needs root");
        return;
    }
    let authority = Authority::new("demo.org");
    let agent = Agent::start(Says::Gives(authority.response("/orders", &[]))).await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for listen in [unix(&directory), "127.0.0.1:0".to_owned()] {
        let settings = format!("listen: \"{listen}\", audiences: [partner], uids: [4000]");
        let sidecar = sidecar(&agent, &settings).await;
        let address = sidecar.proxy.local_api().unwrap().clone();
        for (uid, expected) in [(4000, "200"), (4001, "403"), (0, "200"), (4001, "403")] {
            let address = address.clone();
            let status = tokio::task::spawn_blocking(move || status_for(uid, &address));
            assert_eq!(soon("an answer", status).await.unwrap(), expected, "{uid} at {listen}");
        }
    }
}
