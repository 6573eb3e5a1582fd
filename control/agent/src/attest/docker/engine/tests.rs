//! Engines that are slow, gone, broken or hostile: a stand-in on a Unix socket that does what a real one cannot be
//! made to do. What a healthy one says is tested with the real ones, in `tests/containers`.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use svidecar_process::clock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use super::*;
use crate::selector::Selector;

/// Times that no test waits for, but for the pause between two tries.
fn patient() -> Patience {
    let minute = Duration::from_secs(60);
    Patience { total: minute, one_try: minute, pause: Duration::from_millis(1) }
}

fn id() -> ContainerId {
    ContainerId::parse(&"ab".repeat(32)).unwrap()
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn container() -> String {
    let body = serde_json::json!({"Id": id().as_str(), "Config": {"Labels": {"a": "b"}}});
    answer("200 OK", &body.to_string())
}

/// Answers connection after connection with `answers`, the last one for ever. Nothing is an answer that never comes.
struct StandIn {
    directory: tempfile::TempDir,
    asked: Arc<AtomicUsize>,
}

impl StandIn {
    fn start(answers: Vec<Option<String>>) -> Self {
        let stand_in = Self { directory: tempfile::tempdir().unwrap(), asked: Arc::default() };
        let listener = UnixListener::bind(stand_in.socket()).unwrap();
        let asked = Arc::clone(&stand_in.asked);
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let turn = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                let mut request = [0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(request.starts_with(&format!("GET /containers/{}/json HTTP/1.1\r\n", id().as_str())));
                match &answers[turn] {
                    // A client that has read enough hangs up.
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => held.push(stream),
                }
            }
        });
        stand_in
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("engine.sock")
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn an_answer_is_remembered() {
    let stand_in = StandIn::start(vec![Some(container()), None]);
    let engine = Engine::docker(&stand_in.socket(), None, patient());
    for _ in 0..3 {
        let found = engine.inspect(&id()).await.unwrap().unwrap();
        assert_eq!(found.selectors, [Selector::new("docker", "label:a:b")]);
    }
    assert_eq!(stand_in.asked(), 1);
}

/// `podman update` changes what a container has.
#[tokio::test]
async fn podman_is_asked_each_time() {
    let stand_in = StandIn::start(vec![Some(container())]);
    let engine = Engine::podman(&stand_in.socket(), None, patient());
    for _ in 0..3 {
        assert!(engine.inspect(&id()).await.unwrap().is_some());
    }
    assert_eq!(stand_in.asked(), 3);
}

/// Else a container that calls often would take all places, and the others' callers had no selectors.
#[tokio::test]
async fn a_container_is_asked_about_once_at_a_time() {
    let unknown = answer("404 Not Found", "{}");
    let stand_in = StandIn::start(vec![Some(container()), Some(unknown)]);
    let engine = Engine::podman(&stand_in.socket(), None, patient());
    let id = id();
    let answers = join_all((0..3 * AT_ONCE).map(|_| engine.inspect(&id))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_some()));
    assert_eq!(stand_in.asked(), 1);
    let answers = join_all((0..3 * AT_ONCE).map(|_| engine.inspect(&id))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_none()));
    assert_eq!(stand_in.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_fails_no_other() {
    let stand_in = StandIn::start(vec![None, Some(container())]);
    let engine = Engine::docker(&stand_in.socket(), None, patient());
    let id = id();
    let mut asking = Box::pin(engine.inspect(&id));
    let mut waiting = Box::pin(engine.inspect(&id));
    while stand_in.asked() == 0 {
        tokio::select! {
            biased;
            _ = &mut asking => panic!("nobody answered"),
            _ = &mut waiting => panic!("nobody answered"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(asking);
    assert!(waiting.await.unwrap().is_some());
    assert_eq!(stand_in.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_is_no_failure_of_the_engine() {
    let stand_in = StandIn::start(vec![Some(container())]);
    let engine = Engine::podman(&stand_in.socket(), None, patient());
    assert!(engine.inspect(&id()).await.unwrap().is_some());
    let places = engine.at_once.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    let error = engine.inspect(&id()).await.unwrap_err();
    assert!(matches!(error, EngineError::Crowded(_)), "{error}");
    assert_eq!(engine.health().answers, Some(true));
    drop(places);
    assert!(engine.inspect(&id()).await.unwrap().is_some());
    assert_eq!(stand_in.asked(), 2);
}

#[tokio::test]
async fn an_unknown_container_is_an_answer() {
    let body = r#"{"message":"No such container: abab"}"#;
    let stand_in = StandIn::start(vec![Some(answer("404 Not Found", body))]);
    let engine = Engine::docker(&stand_in.socket(), None, patient());
    assert!(engine.inspect(&id()).await.unwrap().is_none());
    assert_eq!(stand_in.asked(), 1);
}

#[tokio::test]
async fn an_engine_that_restarts_is_asked_again() {
    let down = answer("500 Internal Server Error", r#"{"message":"shutting down"}"#);
    let broken = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Id\"".to_owned();
    let stand_in = StandIn::start(vec![Some(down), Some(String::new()), Some(broken), Some(container())]);
    let engine = Engine::docker(&stand_in.socket(), None, patient());
    assert!(engine.inspect(&id()).await.unwrap().is_some());
    assert_eq!(stand_in.asked(), 4);
}

/// The clock runs by itself while everybody waits.
#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_given_up() {
    let stand_in = StandIn::start(vec![None]);
    let patience = Patience { total: Duration::from_secs(5), one_try: Duration::from_secs(2), ..patient() };
    let engine = Engine::docker(&stand_in.socket(), None, patience);
    let begun = clock::timer();
    let error = engine.inspect(&id()).await.unwrap_err();
    assert!(matches!(error, EngineError::Late(_)), "{error}");
    assert!(clock::timer() - begun <= Duration::from_secs(5), "{:?}", clock::timer() - begun);
    let tries = stand_in.asked();
    assert!(tries >= 2, "{tries}");
    // Now that it is known to be away, nobody waits for more than one try.
    engine.inspect(&id()).await.unwrap_err();
    assert_eq!(stand_in.asked(), tries + 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_socket_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let engine = Engine::docker(&socket, None, Patience { total: Duration::from_secs(1), ..patient() });
    assert!(matches!(engine.inspect(&id()).await.unwrap_err(), EngineError::NoSocket(_)));
    // A file that is no socket, or one that nobody listens at.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(matches!(engine.inspect(&id()).await.unwrap_err(), EngineError::NobodyListens(_)));
    assert!(matches!(engine.ping().await.unwrap_err(), EngineError::NobodyListens(_)));
}

#[tokio::test]
async fn refusals_and_nonsense_are_not_tried_again() {
    let other = serde_json::json!({"Id": "cd".repeat(32), "Config": {"Labels": {"a": "b"}}}).to_string();
    for (text, expected) in [
        (answer("403 Forbidden", "<html>\r\nno\x07"), "it answered 403 Forbidden: <html>no"),
        (answer("302 Found", ""), "it answered 302 Found"),
        (answer("200 OK", "[]"), "its answer cannot be used"),
        (answer("200 OK", &other), "another container"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_ANSWER + 1)), "longer than 4194304 bytes"),
    ] {
        let stand_in = StandIn::start(vec![Some(text)]);
        let engine = Engine::docker(&stand_in.socket(), None, patient());
        let error = engine.inspect(&id()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(stand_in.asked(), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_users_socket_is_served_by_that_user() {
    let stand_in = StandIn::start(vec![Some(container())]);
    let me = nix::unistd::geteuid().as_raw();
    let engine = Engine::podman(&stand_in.socket(), Some(me), patient());
    assert!(engine.inspect(&id()).await.unwrap().is_some());
    let engine = Engine::podman(&stand_in.socket(), Some(me + 1), patient());
    let error = engine.inspect(&id()).await.unwrap_err();
    assert!(matches!(error, EngineError::Owner { .. }), "{error}");
}

#[tokio::test]
async fn what_is_remembered_is_bounded() {
    let large = serde_json::json!({"Id": id().as_str(), "Config": {"Labels": {"a": "x".repeat(70_000)}}});
    let stand_in = StandIn::start(vec![Some(answer("200 OK", &large.to_string()))]);
    let engine = Engine::docker(&stand_in.socket(), None, patient());
    assert!(engine.inspect(&id()).await.unwrap().is_some());
    assert!(engine.remembered().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_told_of_changes_and_not_too_often() {
    let (mut health, start) = (Health::default(), clock::timer());
    let at = |seconds| start + Duration::from_secs(seconds);
    let told = [
        (0, true),
        (1, true),
        (2, false),
        (3, false),
        (4, true),
        (5, false),
        (6, true),
        (62, false),
        (63, true),
    ]
    .map(|(seconds, answers)| health.note(answers, at(seconds)));
    assert_eq!(told, [true, false, true, false, true, false, false, true, true]);
}
