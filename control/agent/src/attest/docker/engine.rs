//! An engine's API on its Unix socket: one question, bounded in time, size and number.
//!
//! Owns the tries, what is remembered, and telling the operator once when an engine goes and when it is back. It must
//! never take an engine that does not answer for one that does not know the container.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use svidecar_code::Code;
use svidecar_process::{
    clock,
    http::{Get, GetError},
};
use tokio::{
    net::UnixStream,
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::inspect::{self, Inspected};
use crate::attest::container::ContainerId;

/// A container with many mounts and networks has some 50 KiB.
const MAX_ANSWER: usize = 4 << 20;

/// Questions to one engine at the same time, each about another container; more wait.
const AT_ONCE: usize = 16;

/// Containers that are remembered, and how large an answer may be for that.
const MAX_REMEMBERED: usize = 1024;
const MAX_REMEMBERED_ANSWER: usize = 64 << 10;

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// All tries together; and before them, for a place among the questions.
    pub total: Duration,
    /// One try.
    pub one_try: Duration,
    /// After the first try; twice as long after each further one.
    pub pause: Duration,
}

/// Why an engine did not answer the question.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// No such file.
    #[error("there is no socket at {0}")]
    NoSocket(PathBuf),
    /// We may not.
    #[error("the agent may not open {0}")]
    NotPermitted(PathBuf),
    /// A socket without an engine.
    #[error("nobody listens at {0}")]
    NobodyListens(PathBuf),
    /// Somebody else than the user whose engine it should be.
    #[error("{socket} is served by user {found} and not by user {expected}")]
    Owner {
        /// Where.
        socket: PathBuf,
        /// Whose it should be.
        expected: u32,
        /// Whose it is.
        found: u32,
    },
    /// The connection broke.
    #[error("the exchange failed: {0}")]
    Broken(String),
    /// Too slow.
    #[error("it did not answer within {:.1} s", .0.as_secs_f32())]
    Late(Duration),
    /// It was not asked.
    #[error("it was still asked about {AT_ONCE} other containers after {:.1} s", .0.as_secs_f32())]
    Crowded(Duration),
    /// An error of the engine, or a refusal of a proxy before it.
    #[error("it answered {status}: {message}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of what came with it.
        message: String,
    },
    /// Not what the API's documentation describes.
    #[error("its answer cannot be used: {0}")]
    Unusable(String),
}

impl EngineError {
    /// Whether another try may do better: an engine that restarts.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoSocket(_) | Self::NobodyListens(_) | Self::Broken(_) | Self::Late(_) => true,
            Self::Status { status, .. } => status.is_server_error(),
            Self::NotPermitted(_) | Self::Owner { .. } | Self::Crowded(_) | Self::Unusable(_) => false,
        }
    }

    /// What the operator can do.
    fn advice(&self) -> &'static str {
        match self {
            Self::NoSocket(_) => {
                "start the engine (podman: `systemctl enable --now podman.socket`); if the agent runs in a container, mount the socket into it"
            }
            Self::NotPermitted(_) => "run the agent as root, or in the group that owns the socket",
            Self::NobodyListens(_) | Self::Broken(_) | Self::Late(_) | Self::Crowded(_) => {
                "see whether the engine runs and answers"
            }
            Self::Owner { .. } => "the socket was replaced; see what its directory holds",
            Self::Status { status, .. } if status.is_client_error() => {
                "a proxy before the engine has to let `GET /containers/ID/json` pass"
            }
            Self::Status { .. } => "see the engine's log",
            Self::Unusable(_) => "see whether the socket is that of an engine",
        }
    }

    fn of_connect(socket: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSocket(socket.to_owned()),
            io::ErrorKind::PermissionDenied => Self::NotPermitted(socket.to_owned()),
            io::ErrorKind::ConnectionRefused => Self::NobodyListens(socket.to_owned()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// The operator is told at most this often that an engine is away: it may answer about one container and fail at the next.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How an engine was when it was last asked, and what the operator was told.
#[derive(Default)]
struct Health {
    answers: Option<bool>,
    told: Option<bool>,
    told_away_at: Option<Instant>,
}

impl Health {
    /// Takes note, and says whether it is to be told.
    fn note(&mut self, answers: bool, now: Instant) -> bool {
        self.answers = Some(answers);
        let is_soon = self.told_away_at.is_some_and(|at| now.duration_since(at) < TELL_AGAIN);
        if self.told == Some(answers) || (!answers && is_soon) {
            return false;
        }
        self.told = Some(answers);
        if !answers {
            self.told_away_at = Some(now);
        }
        true
    }
}

/// What an engine said of a container.
type Answer = Result<Option<Arc<Inspected>>, EngineError>;

/// See the module.
pub struct Engine {
    /// For sentences, such as `the Docker Engine`.
    name: String,
    socket: PathBuf,
    /// The user who has to be at the other end; none for an engine of root's.
    owner: Option<u32>,
    patience: Patience,
    /// None if a container's answer may change while it lives: `podman update` sets variables.
    remembered: Option<Mutex<HashMap<ContainerId, Arc<Inspected>>>>,
    /// What it is being asked. Whoever waits for an answer holds the question; it ends with the last of them.
    questions: Mutex<HashMap<ContainerId, Weak<OnceCell<Answer>>>>,
    at_once: Semaphore,
    health: Mutex<Health>,
}

impl Engine {
    /// The Docker Engine at `socket`, of the user `owner`, or of root.
    #[must_use]
    pub fn docker(socket: &Path, owner: Option<u32>, patience: Patience) -> Self {
        let name =
            owner.map_or_else(|| "the Docker Engine".into(), |uid| format!("user {uid}'s Docker Engine"));
        Self { remembered: Some(Mutex::default()), ..Self::podman_named(name, socket, owner, patience) }
    }

    /// podman at `socket`, of the user `owner`, or of root.
    #[must_use]
    pub fn podman(socket: &Path, owner: Option<u32>, patience: Patience) -> Self {
        let name = owner.map_or_else(|| "podman".into(), |uid| format!("user {uid}'s podman"));
        Self::podman_named(name, socket, owner, patience)
    }

    fn podman_named(name: String, socket: &Path, owner: Option<u32>, patience: Patience) -> Self {
        Self {
            name,
            socket: socket.to_owned(),
            owner,
            patience,
            remembered: None,
            questions: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE),
            health: Mutex::default(),
        }
    }

    /// For sentences.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the engine says of a container; none if it does not know it. It is asked one question about a container at
    /// a time, for all who call meanwhile: no container has more than one of the places, however often it calls.
    /// Cancel safe: the next of those who wait asks.
    ///
    /// # Errors
    /// When it does not answer, or not as an engine does. The operator has been told.
    pub async fn inspect(&self, id: &ContainerId) -> Answer {
        let remembered = self.remembered().and_then(|all| all.get(id).cloned());
        if remembered.is_some() {
            return Ok(remembered);
        }
        let question = self.question(id);
        question.get_or_init(|| self.inspect_now(id)).await.clone()
    }

    /// The question about a container that is being asked, or a new one.
    fn question(&self, id: &ContainerId) -> Arc<OnceCell<Answer>> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = questions.get(id).and_then(Weak::upgrade);
        if let Some(question) = asked.filter(|question| !question.initialized()) {
            return question;
        }
        questions.retain(|_, question| question.strong_count() > 0);
        let question = Arc::default();
        questions.insert(id.clone(), Arc::downgrade(&question));
        question
    }

    async fn inspect_now(&self, id: &ContainerId) -> Answer {
        let answer = self.ask_patiently(id).await;
        let outcome = match &answer {
            Ok(Some(_)) => "answered",
            Ok(None) => "unknown_container",
            Err(EngineError::Crowded(_)) => "crowded",
            Err(_) => "failed",
        };
        metrics::counter!("svidecar_agent_engine_requests_total", "engine" => self.name.clone(), "outcome" => outcome)
            .increment(1);
        // Those who have the places say how the engine is.
        if !matches!(answer, Err(EngineError::Crowded(_))) {
            self.tell(answer.as_ref().err());
        }
        let Some((found, size)) = answer? else { return Ok(None) };
        if size <= MAX_REMEMBERED_ANSWER
            && let Some(mut all) = self.remembered()
        {
            if all.len() >= MAX_REMEMBERED {
                all.clear();
            }
            all.insert(id.clone(), Arc::clone(&found));
        }
        Ok(Some(found))
    }

    /// Asks whether the engine is there, once, and tells the operator.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let answer = match self.try_once("/_ping", self.patience.one_try).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, body)) => Err(refusal(status, &body)),
            Err(error) => Err(error),
        };
        self.tell(answer.as_ref().err());
        answer
    }

    /// As often as the time allows; only once if the engine is known to be away, so that callers who need
    /// nothing of it do not wait for it over and over.
    async fn ask_patiently(&self, id: &ContainerId) -> Result<Option<(Arc<Inspected>, usize)>, EngineError> {
        let total = self.patience.total;
        let Ok(Ok(_place)) = tokio::time::timeout(total, self.at_once.acquire()).await else {
            return Err(EngineError::Crowded(total));
        };
        // The engine has all of its time, however long we waited for a place.
        let give_up = clock::timer() + total;
        let is_away = self.health().answers == Some(false);
        let mut pause = self.patience.pause;
        loop {
            let left = give_up.saturating_duration_since(clock::timer());
            let error = match self.ask(id, left.min(self.patience.one_try)).await {
                Err(error) if error.may_pass() && !is_away => error,
                answer => return answer,
            };
            if clock::timer() + pause >= give_up {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn ask(
        &self,
        id: &ContainerId,
        patience: Duration,
    ) -> Result<Option<(Arc<Inspected>, usize)>, EngineError> {
        // Without a version the API answers as its newest; the fields that matter have never changed.
        let path = format!("/containers/{}/json", id.as_str());
        match self.try_once(&path, patience).await? {
            (StatusCode::OK, body) => {
                let found = inspect::read(&body, id).map_err(EngineError::Unusable)?;
                Ok(Some((Arc::new(found), body.len())))
            }
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, body) => Err(refusal(status, &body)),
        }
    }

    async fn try_once(&self, path: &str, patience: Duration) -> Result<(StatusCode, Bytes), EngineError> {
        let get = Get { host: "localhost", path, time: patience, body: MAX_ANSWER };
        get.on(self.connect()).await.map_err(|error| match error {
            GetError::Connect(error) => error,
            GetError::Broken(problem) => EngineError::Broken(problem),
            GetError::TooLong(limit) => EngineError::Unusable(format!("it is longer than {limit} bytes")),
            GetError::Late(limit) => EngineError::Late(limit),
        })
    }

    async fn connect(&self) -> Result<UnixStream, EngineError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| EngineError::of_connect(&self.socket, &error))?;
        self.check_owner(&stream)?;
        Ok(stream)
    }

    /// A user can put a link to another engine's socket in the place of its own.
    fn check_owner(&self, stream: &UnixStream) -> Result<(), EngineError> {
        let Some(expected) = self.owner else { return Ok(()) };
        let found = stream.peer_cred().map_err(|error| EngineError::Broken(error.to_string()))?.uid();
        if found == expected {
            return Ok(());
        }
        Err(EngineError::Owner { socket: self.socket.clone(), expected, found })
    }

    /// Tells the operator what changed, and not what each caller met.
    fn tell(&self, error: Option<&EngineError>) {
        let is_news = self.health().note(error.is_none(), clock::timer());
        metrics::gauge!("svidecar_agent_engine_up", "engine" => self.name.clone())
            .set(f64::from(u8::from(error.is_none())));
        let socket = self.socket.display();
        match error {
            Some(error) if is_news => tracing::warn!(
                engine = self.name, %socket, %error, code = Code::EngineUnavailable.name(),
                "the API of {} does not answer, so callers in its containers have no docker selectors: {}",
                self.name, error.advice()
            ),
            None if is_news => {
                tracing::info!(engine = self.name, %socket, "the API of {} answers", self.name);
            }
            _ => {}
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> Option<MutexGuard<'_, HashMap<ContainerId, Arc<Inspected>>>> {
        self.remembered.as_ref().map(|all| all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Engines answer errors with `{"message": …}`.
fn refusal(status: StatusCode, body: &[u8]) -> EngineError {
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    // From outside: what could break a line of the log is taken out.
    let message = message.chars().filter(|c| !c.is_control()).take(200).collect();
    EngineError::Status { status, message }
}
