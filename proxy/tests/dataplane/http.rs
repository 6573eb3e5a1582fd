//! HTTP through one sidecar and through two: identity headers, policy, bodies, upgrades, gRPC's trailers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    agent::{Agent, Says},
    app,
    authority::Authority,
    client::{ask, get, http1, http2, mtls, plain_get, read},
    sidecar::Sidecar,
    soon,
};

/// An inbound sidecar in front of `app`.
fn inbound(app: std::net::SocketAddr) -> String {
    format!(
        "inbound:\n  - {{name: orders, listen: \"127.0.0.1:0\", forward: \"{app}\", policy: policy.yaml}}\n"
    )
}

/// An outbound sidecar that leads to `peer`.
pub fn outbound(peer: std::net::SocketAddr) -> String {
    format!(
        "outbound:\n  - name: orders\n    listen: \"127.0.0.1:0\"\n    upstream: {{endpoints: [\"{peer}\"], server_id: [\"spiffe://demo.org/orders\"]}}\n"
    )
}

async fn agent(authority: &Authority, path: &str) -> Agent {
    Agent::start(Says::Gives(authority.response(path, &[]))).await
}

/// The main job: an unmodified client and an unmodified server with two sidecars between them.
#[tokio::test]
async fn a_request_goes_through_two_sidecars_with_the_clients_identity() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;

    let response = plain_get(client.outbound("orders"), "/api/hello?x=1").await;
    assert_eq!(response.status, StatusCode::OK, "{}", response.body);
    assert!(response.body.starts_with("GET /api/hello?x=1\n"), "{}", response.body);
    assert!(response.body.contains("x-spiffe-id: spiffe://demo.org/shop\n"), "{}", response.body);
    assert!(response.body.contains("URI=spiffe://demo.org/shop"), "{}", response.body);
    assert!(!response.headers.contains_key("server") && !response.headers.contains_key("x-svidecar-error"));
}

#[tokio::test]
async fn spoofed_identity_headers_do_not_get_through() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let stream = mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
        .await
        .unwrap();
    let request = Request::builder()
        .uri("/")
        .header("host", "orders")
        .header("x-spiffe-id", "spiffe://demo.org/root")
        .header("X_Spiffe_Id", "spiffe://demo.org/root")
        .header("x-forwarded-client-cert", "URI=spiffe://demo.org/root")
        .header("connection", "x-spiffe-id, x-forwarded-client-cert")
        .body(Full::default())
        .unwrap();
    let response = ask(&mut http1(stream).await, request).await;
    assert!(!response.body.contains("demo.org/root"), "{}", response.body);
    assert!(response.body.contains("x-spiffe-id: spiffe://demo.org/shop\n"), "{}", response.body);
}

/// The policy looks at what the app will see.
#[tokio::test]
async fn a_policy_never_sees_a_header_by_which_a_peer_poses_as_another() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let policy = "
service: orders
rules:
  - {name: root, from: any, to: [{headers: {x-spiffe-id: \"spiffe://demo.org/root\"}}]}
  - {name: shop, from: any, to: [{paths: [/mine], headers: {x-spiffe-id: \"spiffe://demo.org/shop\"}}]}
";
    let server = Sidecar::with_policy(&orders, &inbound(app::echo().await), policy).await;
    server.until(|readiness| readiness.ready).await;
    let stream = mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"]);
    let mut shop = http1(stream.await.unwrap()).await;
    for (path, status) in [("/other", StatusCode::FORBIDDEN), ("/mine", StatusCode::OK)] {
        let mut request = get(path);
        request.headers_mut().insert("x-spiffe-id", HeaderValue::from_static("spiffe://demo.org/root"));
        assert_eq!(ask(&mut shop, request).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_denied_request_gets_403_and_its_code_and_the_connection_goes_on() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let connect = |path| mtls(server.inbound("orders"), &authority, authority.identity(path), &[b"http/1.1"]);

    let mut shop = http1(connect("/shop").await.unwrap()).await;
    for path in ["/admin", "/x/../admin", "//admin/keys", "/%61dmin"] {
        let response = ask(&mut shop, get(path)).await;
        assert_eq!(response.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(response.headers["x-svidecar-error"], "denied_by_rule");
    }
    for path in ["/a%2fb", "/%2561dmin", "/../etc", "/a\\b"] {
        let response = ask(&mut shop, get(path)).await;
        assert_eq!(response.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(response.headers["x-svidecar-error"], "ambiguous_path");
    }
    assert_eq!(ask(&mut shop, get("/orders")).await.status, StatusCode::OK);

    let mut stranger = http1(connect("/stranger").await.unwrap()).await;
    assert_eq!(ask(&mut stranger, get("/orders")).await.status, StatusCode::FORBIDDEN);

    let mut grpc = http2(
        mtls(server.inbound("orders"), &authority, authority.identity("/stranger"), &[b"h2"]).await.unwrap(),
    )
    .await;
    let request = Request::post("http://orders/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let response = read(grpc.send_request(request).await.unwrap()).await;
    assert_eq!(response.status, StatusCode::OK);
    assert_eq!(response.headers["grpc-status"], "7");
}

/// What is forwarded is what was decided about.
#[tokio::test]
async fn the_app_sees_the_normalized_path() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let stream = mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
        .await
        .unwrap();
    let response = ask(&mut http1(stream).await, get("/a/./b/../%63//d?q=%2e")).await;
    assert!(response.body.starts_with("GET /a/c/d?q=%2e\n"), "{}", response.body);
}

/// Both framings in one request are the classic of request smuggling (RFC 9112 §6.3).
#[tokio::test]
async fn two_framings_are_never_forwarded() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    for bad in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream =
            mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
                .await
                .unwrap();
        stream.write_all(bad.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // One answer, then the end: what follows the ambiguous request is nobody's (RFC 9112 §6.1).
        soon("the end", stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{bad} {answer}");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad} {answer}");
    }
}

#[tokio::test]
async fn header_case_and_large_bodies_survive() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let raw = app::tcp(|mut stream: TcpStream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Seen-Case: {}\r\nContent-Length: 0\r\n\r\n",
            String::from_utf8_lossy(&head).contains("X-OddCase: yes")
        );
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let server = Sidecar::ready(&orders, &inbound(raw)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let mut stream = TcpStream::connect(client.outbound("orders")).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-OddCase: yes\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon("the end", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("X-Seen-Case: true"), "{answer}");

    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let mut sender = http1(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    let big = "x".repeat(3_000_000);
    let request = Request::post("/").header("host", "a").body(Full::from(big.clone())).unwrap();
    let response = ask(&mut sender, request).await;
    assert!(response.body.ends_with(&big), "{} bytes", response.body.len());
}

/// gRPC: HTTP/2 all the way, trailers included.
#[tokio::test]
async fn trailers_come_through_over_http2() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let grpc = app::http(|request| async move {
        assert_eq!(request.version(), http::Version::HTTP_2);
        assert_eq!(request.headers()["te"], "trailers");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [Frame::data(Bytes::from("message")), Frame::trailers(trailers)];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
        let mut response = Response::new(BodyExt::boxed(body));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    })
    .await;
    let server = Sidecar::ready(&orders, &inbound(grpc)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let mut sender = http2(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    let request = Request::post("http://orders/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::from("question"))
        .unwrap();
    let response = read(soon("a response", sender.send_request(request)).await.unwrap()).await;
    assert_eq!(response.status, StatusCode::OK, "{:?}", response.headers);
    assert_eq!(response.body, "message");
    assert_eq!(response.trailers.unwrap()["grpc-status"], "0");
}

/// A WebSocket's handshake and bytes, through two sidecars.
#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let socket = app::http(|mut request| async move {
        assert_eq!(request.headers()["upgrade"], "websocket");
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut message = [0; 5];
            io.read_exact(&mut message).await.unwrap();
            io.write_all(&message.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
            io.shutdown().await.unwrap();
        });
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .body(app::text(""))
            .unwrap()
    })
    .await;
    let server = Sidecar::ready(&orders, &inbound(socket)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let mut sender = http1(TcpStream::connect(client.outbound("orders")).await.unwrap()).await;
    let request = Request::builder()
        .uri("/chat")
        .header("host", "orders")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(Full::default())
        .unwrap();
    let mut response = soon("a response", sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(soon("the upgrade", hyper::upgrade::on(&mut response)).await.unwrap());
    io.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    soon("the end of the tunnel", io.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "HELLO");
}

/// An app whose keep-alive is shorter than ours closes a connection that we reuse: the request goes out again.
#[tokio::test]
async fn a_connection_that_died_idle_costs_no_request() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let connections = Arc::new(AtomicUsize::new(0));
    let app = {
        let connections = Arc::clone(&connections);
        app::tcp(move |mut stream: TcpStream| {
            connections.fetch_add(1, Ordering::SeqCst);
            async move {
                // Answers one request as if the connection would stay, reads the next one, and closes.
                for round in 0..2 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    if round == 0 {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                }
            }
        })
        .await
    };
    let server = Sidecar::ready(&orders, &inbound(app)).await;
    let stream = mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
        .await
        .unwrap();
    let mut sender = http1(stream).await;
    for _ in 0..6 {
        let response = ask(&mut sender, get("/")).await;
        assert_eq!(response.status, StatusCode::OK, "{:?}", response.headers);
    }
    assert!(connections.load(Ordering::SeqCst) >= 3);
}

#[tokio::test]
async fn an_app_that_is_down_is_a_503_that_says_so() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server = Sidecar::ready(&orders, &inbound(address)).await;
    let stream = mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"])
        .await
        .unwrap();
    let response = ask(&mut http1(stream).await, get("/")).await;
    assert_eq!(response.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers["x-svidecar-error"], "upstream_refused");
}

/// DESIGN: exactly one access-log line and one set of metrics per request, with the decision's rule and one code.
#[tokio::test]
async fn each_request_is_written_down_once_with_its_rule_and_code() {
    let authority = Authority::new("demo.org");
    let orders = agent(&authority, "/orders").await;
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let stream =
        mtls(server.inbound("orders"), &authority, authority.identity("/shop"), &[b"http/1.1"]).await;
    let mut sender = http1(stream.unwrap()).await;
    for path in ["/orders/./%37?secret=1", "/admin/x", "/a%2fb"] {
        ask(&mut sender, get(path)).await;
    }
    server.until_counted("ambiguous_path").await;

    let metrics = server.admin("/metrics").await.body;
    let labels = "direction=\"inbound\",listener=\"orders\",service=\"orders\"";
    for (rule, status, code) in [
        ("shop-may-order", "2xx", ""),
        ("nobody-is-admin", "4xx", "denied_by_rule"),
        ("", "4xx", "ambiguous_path"),
    ] {
        let line = format!(
            "svidecar_requests_total{{{labels},rule=\"{rule}\",peer_trust_domain=\"demo.org\",status=\"{status}\",code=\"{code}\"}} 1\n"
        );
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }

    let lines = server.access_log();
    let facts: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            (text("path"), line["status"].as_u64().unwrap(), text("rule"), text("code"))
        })
        .collect();
    let expected = [
        ("/orders/7", 200, "shop-may-order", ""),
        ("/admin/x", 403, "nobody-is-admin", "denied_by_rule"),
        ("/a%2fb", 400, "", "ambiguous_path"),
    ];
    assert_eq!(
        facts,
        expected.map(|(path, status, rule, code)| (path.into(), status, rule.into(), code.into()))
    );
    assert!(lines.iter().all(|line| line["peer"] == "spiffe://demo.org/shop"), "{lines:?}");
    assert!(!format!("{lines:?}").contains("secret"), "{lines:?}");
}

/// Old clients: HTTP/1.0 without a Host, and a body that waits for leave to be sent.
#[tokio::test]
async fn old_clients_are_served() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let server = Sidecar::ready(&orders, &inbound(app::echo().await)).await;
    let client = Sidecar::ready(&shop, &outbound(server.inbound("orders"))).await;
    let mut stream = TcpStream::connect(client.outbound("orders")).await.unwrap();
    stream.write_all(b"GET /old HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the end", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("GET /old\n"), "{answer}");

    let mut stream = TcpStream::connect(client.outbound("orders")).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut leave = [0; 25];
    soon("leave to continue", stream.read_exact(&mut leave)).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    soon("the end", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\n\nbody"), "{answer}");
}

/// A client at a Unix socket that goes while its request waits takes the request along, and so does one that says that nothing
/// more comes.
#[tokio::test]
async fn a_client_that_goes_takes_its_request_along() {
    let authority = Authority::new("demo.org");
    let (orders, shop) = (agent(&authority, "/orders").await, agent(&authority, "/shop").await);
    let (tell, mut told) = tokio::sync::mpsc::channel(2);
    let app = app::tcp(move |stream| {
        let tell = tell.clone();
        async move { tell.send(stream).await.unwrap() }
    })
    .await;
    let server = Sidecar::ready(&orders, &inbound(app)).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("orders.sock");
    let listen = format!("unix:{}", socket.display());
    let _client =
        Sidecar::ready(&shop, &outbound(server.inbound("orders")).replace("127.0.0.1:0", &listen)).await;

    for closes in [true, false] {
        let mut client = tokio::net::UnixStream::connect(&socket).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n").await.unwrap();
        let mut asked = soon("a request", told.recv()).await.unwrap();
        asked.readable().await.unwrap();
        let kept = if closes {
            drop(client);
            None
        } else {
            client.shutdown().await.unwrap();
            Some(client)
        };
        let mut rest = Vec::new();
        let _ = soon("the end of the request", asked.read_to_end(&mut rest)).await;
        assert!(rest.starts_with(b"GET / HTTP/1.1\r\n"));
        drop(kept);
    }
}
