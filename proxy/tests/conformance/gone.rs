//! The end of either side is noticed at once, whatever the two are doing: what the one held who has gone is there for the
//! next.

mod late;
mod talkative;

use std::time::Duration;

use crate::{
    edges::{scenes, still_serves},
    support::soon,
    tools::{
        http2::{Frame, Http2, code},
        scene::{App, Door, Scene},
        wire::Wire,
    },
};

/// How long nothing must move for a sender to count as held back.
const STUCK: Duration = Duration::from_millis(300);

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It says that nothing more comes, and keeps its connection.
    Fin,
    /// It closes its connection.
    Close,
    /// It aborts.
    Reset,
}

impl Way {
    const ALL: [Self; 3] = [Self::Fin, Self::Close, Self::Reset];

    /// Goes. What is returned is to be kept as long as the client is there.
    async fn leave(self, mut client: Wire) -> Option<Wire> {
        match self {
            Self::Fin => {
                client.finish().await;
                return Some(client);
            }
            Self::Close => drop(client),
            Self::Reset => client.reset(),
        }
        None
    }
}

/// Waits until the listener for peers carries nothing but what two workers of another sidecar share among their callers.
async fn all_is_free(scene: &Scene) {
    let gauge = "svidecar_open_connections{direction=\"inbound\",listener=\"orders\"} ";
    let most = if scene.door == Door::Pair { 2 } else { 0 };
    soon("places that are free again", async {
        loop {
            let page = scene.server.admin("/metrics").await.body;
            let open = page.lines().find_map(|line| line.strip_prefix(gauge)).map(str::parse::<usize>);
            if open.is_none_or(|open| open.unwrap() <= most) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn while_the_app_thinks() {
    for (scene, app) in scenes().await {
        for way in Way::ALL {
            // Alone; with another request behind it; with more behind it than is read ahead.
            for behind in [0, 1, 2000] {
                let mut client = scene.connect().await;
                let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n".repeat(behind);
                client.send(format!("GET /hung HTTP/1.1\r\nHost: a\r\n\r\n{next}")).await;
                let mut served = app.accept().await;
                assert_eq!(served.head().await.target(), "/hung");
                let _client = way.leave(client).await;
                served.end().await;
            }
        }
        still_serves(&scene, &app).await;
    }
}

#[tokio::test]
async fn while_the_app_answers() {
    for (scene, app) in scenes().await {
        for way in Way::ALL {
            let mut client = scene.connect().await;
            client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.head().await;
            served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello").await;
            client.head().await;
            client.exactly("the beginning", 5).await.unwrap();
            let _client = way.leave(client).await;
            served.end().await;
        }
        still_serves(&scene, &app).await;
    }
}

/// An answer that the client does not read is no reason to miss its end.
#[tokio::test]
async fn while_an_answer_is_not_read() {
    for (scene, app) in scenes().await {
        for way in Way::ALL {
            let mut client = scene.connect().await;
            client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.head().await;
            served.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            served.send_until_stuck(&[0; 65_536], STUCK).await;
            let _client = way.leave(client).await;
            served.gone().await;
        }
        still_serves(&scene, &app).await;
    }
}

const UPLOAD: &str = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";

/// The app reads nothing, so nothing of the client's is read either; its end is seen all the same.
#[tokio::test]
async fn while_an_upload_is_blocked() {
    for (scene, app) in scenes().await {
        for way in Way::ALL {
            let mut client = scene.connect().await;
            client.send(UPLOAD).await;
            let mut served = app.accept().await;
            served.head().await;
            let sent = client.send_until_stuck(&[0; 65_536], STUCK).await;
            if !matches!(way, Way::Reset) {
                // A FIN comes behind what the client's system still holds: the app makes room for that much.
                served.exactly("the beginning", sent / 2).await.unwrap();
            }
            let _client = way.leave(client).await;
            served.gone().await;
        }
        all_is_free(&scene).await;
        still_serves(&scene, &app).await;
    }
}

/// The same by HTTP/2: by the stream alone, and with the whole connection.
#[tokio::test]
async fn while_a_stream_is_blocked() {
    for (scene, app) in scenes().await {
        for whole in [false, true] {
            let mut client = Http2::begin(scene.connect_with(b"h2").await).await;
            let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/up")];
            client.send(Frame::headers(1, false, &fields)).await;
            let mut served = app.accept().await;
            served.head().await;
            // All that the window allows, which the app's system may have taken, or not.
            for _ in 0..3 {
                client.send(Frame::data(1, false, vec![0; 16_384])).await;
            }
            served.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let mut client = if whole {
                drop(client);
                None
            } else {
                client.send(Frame::reset(1, code::CANCEL)).await;
                Some(client)
            };
            served.gone().await;
            if let Some(client) = &mut client {
                client.send(Frame::get(3, "/well")).await;
                let mut served = app.accept().await;
                served.head().await;
                served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
                assert_eq!(client.head(3).await.status, 204, "{:?}", scene.door);
            }
        }
        all_is_free(&scene).await;
        still_serves(&scene, &app).await;
    }
}

/// A connection of bytes keeps its halves, but an abort is an abort.
#[tokio::test]
async fn while_a_connection_of_bytes_is_blocked() {
    let app = App::listen().await;
    let scene = Scene::of_bytes(app.address).await;
    for is_half_closed in [false, true] {
        let mut client = scene.connect().await;
        client.send("hello").await;
        let mut served = app.accept().await;
        served.exactly("a greeting", 5).await.unwrap();
        if is_half_closed {
            client.finish().await;
            served.gone().await;
            // Its other half still works.
            served.send("hello to you").await;
            client.exactly("a greeting", 12).await.unwrap();
            client.reset();
            let block = vec![0; 65_536];
            while served.try_send(&block).await.is_ok() {}
        } else {
            client.send_until_stuck(&[0; 65_536], STUCK).await;
            client.reset();
            served.gone().await;
        }
    }
    all_is_free(&scene).await;
}

/// One that asks and goes away, again and again, beside one that must not notice: the listener has ten places, and the app
/// never answers the first.
#[tokio::test]
async fn nobody_holds_places_that_it_has_left() {
    for door in Door::BOTH {
        let app = App::listen().await;
        let scene = Scene::with(door, app.address, "limits: {max_connections: 10}").await;
        for round in 0..60 {
            let mut client = scene.connect().await;
            client.send("GET /hung HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let mut served = app.accept().await;
            served.head().await;
            let _client = Way::ALL[round % 3].leave(client).await;
            served.end().await;
            if round % 10 == 9 {
                still_serves(&scene, &app).await;
            }
        }
    }
}

/// A WebSocket has a last message of its own: who ends its half has ended it, even toward an app that does not hear.
#[tokio::test]
async fn a_websocket_ends_as_a_whole() {
    for (scene, app) in scenes().await {
        let ask = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let mut client = scene.connect().await;
        client.send(ask).await;
        let mut served = app.accept().await;
        served.head().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        served.send(switch).await;
        assert_eq!(client.head().await.status(), 101, "{:?}", scene.door);
        client.finish().await;
        // The app says nothing and keeps its half.
        client.end().await;
        all_is_free(&scene).await;
    }
}
