//! Requests and answers.

use std::future::IntoFuture as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use serde_json::json;

use super::facts::{Start, facts, key};
use super::queue::{Answer, Queue, Rank};
use super::state::{MAX_MOVES, NAMES, Query, Refused, recipe};
use super::{guard, page};
use crate::home::canvas::Canvas;
use crate::home::png::to_bytes;
use crate::home::provenance::Provenance;
use crate::latent::file::Latents;
use crate::latent::path::{Curve, Space, Way, between};
use crate::latent::recipe::{Latent, Source};
use crate::latent::{Model, Recipe};
use crate::model::config::GeneratorConfig;
use crate::ops::device::{Fault, classify};
use crate::sample::Picture;

/// How soon a signal is seen.
const STOP_INTERVAL: Duration = Duration::from_millis(50);
/// Answers that are on their way have so long to arrive after it.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
const JSON: &str = "application/json";
const PNG: &str = "image/png";

/// A place to listen at, on this machine alone.
pub struct Explorer {
    listener: TcpListener,
    port: u16,
}

/// What the model is to make.
enum Task {
    Picture(Recipe),
    Between { from: Recipe, to: Recipe, at: f64 },
    Latents(Recipe),
    Directions(Vec<usize>),
}

/// What answers need.
struct Page {
    facts: String,
    config: GeneratorConfig,
    key: String,
    port: u16,
    queue: Arc<Queue<Task>>,
}

impl Explorer {
    /// Takes a port; 0: any that is free.
    ///
    /// # Errors
    /// Fails if it is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Answers until `stop` is set.
    ///
    /// # Errors
    /// Fails if the system refuses threads or sockets.
    pub fn serve(self, model: &Model, start: &Start, stop: Arc<AtomicBool>) -> Result<()> {
        let queue = Arc::new(Queue::new());
        let page = Page {
            facts: facts(model, start).to_string(),
            config: model.g.config.clone(),
            key: key(model),
            port: self.port,
            queue: Arc::clone(&queue),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("the server cannot start")?;
        thread::scope(|threads| {
            threads.spawn(|| {
                let ends = Ends(&queue);
                ends.0.work(|task| make(model, task, start.has_provenance));
            });
            let ends = Ends(&queue);
            runtime.block_on(answer_all(self.listener, Arc::new(page), stop, ends.0))
        })
    }
}

/// Ends a queue when it is dropped, also by a panic.
struct Ends<'a>(&'a Queue<Task>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

async fn answer_all(
    listener: TcpListener,
    page: Arc<Page>,
    stop: Arc<AtomicBool>,
    queue: &Queue<Task>,
) -> Result<()> {
    // the end of a picture is not to wait for the browser's word that it has the begin
    let listener = tokio::net::TcpListener::from_std(listener)?
        .tap_io(|stream| drop(stream.set_nodelay(true)));
    let router = Router::new()
        .route("/api/facts", get(answer_facts))
        .route("/api/picture", get(answer_picture))
        .route("/api/frame", get(answer_frame))
        .route("/api/latents", get(answer_latents))
        .route("/api/directions", get(answer_directions))
        .fallback(answer_file)
        .layer(from_fn_with_state(Arc::clone(&page), guarded))
        .with_state(page);
    let (is_over, over) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, router).with_graceful_shutdown(async { drop(over.await) });
    let server = tokio::spawn(server.into_future());
    while !stop.load(Ordering::Relaxed) && !queue.has_ended() {
        tokio::time::sleep(STOP_INTERVAL).await;
    }
    queue.end();
    drop(is_over);
    // a browser may keep a connection open for as long as it likes
    drop(tokio::time::timeout(LAST_ANSWERS, server).await);
    Ok(())
}

async fn guarded(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let asked = (request.method(), request.uri());
    let mut response = match guard::check(asked, request.headers(), page.port) {
        Ok(()) => next.run(request).await,
        Err((status, words)) => refusal(status, &words),
    };
    guard::protect(response.headers_mut());
    response
}

async fn answer_file(uri: Uri) -> Response {
    match page::file(uri.path()) {
        Some((kind, content)) => with_type(kind, content.as_bytes().to_vec()),
        None => refusal(StatusCode::NOT_FOUND, "there is no such page; expected /"),
    }
}

async fn answer_facts(State(page): State<Arc<Page>>) -> Response {
    with_type(JSON, page.facts.clone().into_bytes())
}

async fn answer_picture(State(page): State<Arc<Page>>, uri: Uri) -> Response {
    let task = |query: &Query| Ok(Task::Picture(recipe(query, &page.config)?));
    answered(&page, &uri, (&NAMES, PNG), task).await
}

async fn answer_latents(State(page): State<Arc<Page>>, uri: Uri) -> Response {
    let task = |query: &Query| Ok(Task::Latents(recipe(query, &page.config)?));
    answered(&page, &uri, (&NAMES, "application/octet-stream"), task).await
}

async fn answer_directions(State(page): State<Arc<Page>>, uri: Uri) -> Response {
    let num_ws = page.config.num_ws();
    let task = |query: &Query| match query.layers("layers", num_ws)? {
        layers if layers == [num_ws - 1] => {
            let last = num_ws - 2;
            Err(Refused(format!("layers: expected a layer of a convolution, 0 to {last}")))
        }
        layers => Ok(Task::Directions(layers)),
    };
    answered(&page, &uri, (&["layers"], JSON), task).await
}

async fn answer_frame(State(page): State<Arc<Page>>, uri: Uri) -> Response {
    let task = |query: &Query| {
        let state = |name| {
            let state = Query::parse(query.text(name).unwrap_or_default(), &NAMES);
            let recipe = state.and_then(|state| recipe(&state, &page.config));
            recipe.map_err(|Refused(words)| Refused(format!("{name}: {words}")))
        };
        let at = query.number("at", 0.0, (0.0, 1.0))?;
        Ok(between_states(state("from")?, state("to")?, at))
    };
    answered(&page, &uri, (&["from", "to", "at"], PNG), task).await
}

/// What lies between two states: as `interpolate` has it, where it can be asked for that.
fn between_states(from: Recipe, to: Recipe, at: f64) -> Task {
    let rest = |of: &Recipe| (of.trunc, of.class, of.noise_mode);
    match (&from.latent, &to.latent) {
        (Latent::Of(Source::Seed(first)), Latent::Of(Source::Seed(second)))
            if rest(&from) == rest(&to) =>
        {
            let way = Way { space: Space::W, curve: Curve::Linear };
            let latent = Latent::Between { from: *first, to: *second, at, way };
            Task::Picture(Recipe { latent, ..from })
        }
        _ => Task::Between { from, to, at },
    }
}

/// Reads a query, has it done, and answers.
///
/// * `names`, `kind` - the parameters that there are, and the type of the answer.
async fn answered(
    page: &Page,
    uri: &Uri,
    (names, kind): (&[&str], &'static str),
    task: impl Fn(&Query) -> Result<Task, Refused>,
) -> Response {
    let names = [names, &["model", "rank", "page"]].concat();
    let asked = Query::parse(uri.query().unwrap_or_default(), &names).and_then(|query| {
        let rank = match query.text("rank") {
            None | Some("shown") => Rank::Shown,
            Some("frame") => Rank::Frame,
            Some("wall") => Rank::Wall,
            Some(_) => return Err(Refused("rank: expected shown, frame or wall".to_owned())),
        };
        Ok((task(&query)?, rank, query))
    });
    let (task, rank, query) = match asked {
        Ok(asked) => asked,
        Err(Refused(words)) => return refusal(StatusCode::BAD_REQUEST, &words),
    };
    if query.text("model").is_some_and(|model| model != page.key) {
        let words = "the program has been started with other weights; reload the page";
        return refusal(StatusCode::GONE, words);
    }
    let who = query.text("page").unwrap_or_default();
    match page.queue.ask(task, rank, who).answer().await {
        Answer::Done(bytes) => with_type(kind, bytes),
        Answer::Failed(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &words_of(&error)),
        Answer::Superseded => refusal(StatusCode::CONFLICT, "something newer was asked for"),
        Answer::Full => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests wait; close other windows of this page",
        ),
        Answer::Ended => refusal(StatusCode::SERVICE_UNAVAILABLE, "the program ends"),
    }
}

fn words_of(error: &candle_core::Error) -> String {
    match classify(error) {
        Fault::OutOfMemory => "the GPU has no memory left; start with --device cpu".to_owned(),
        Fault::DeviceLost => "the GPU is lost; start the program again".to_owned(),
        Fault::Other => format!("the picture cannot be made: {error}"),
    }
}

/// Does a task: the bytes of the answer.
fn make(model: &Model, task: &Task, has_provenance: bool) -> candle_core::Result<Vec<u8>> {
    let png = |picture: &Picture, said: Option<&Provenance>| {
        to_bytes(&Canvas::from(picture), said)
            .map_err(|error| candle_core::Error::Msg(format!("{error:#}")))
    };
    match task {
        Task::Picture(recipe) => {
            let said = has_provenance.then(|| Provenance::of_one(&model.hash, recipe));
            png(&model.picture(recipe)?, said.as_ref())
        }
        Task::Between { from, to, at } => {
            let ws = between(&model.ws(from)?, &model.ws(to)?, *at, Curve::Linear)?;
            png(&Picture::of_ws(&model.g, &ws, from.noise_mode.noise())?, None)
        }
        Task::Latents(recipe) => {
            let latents = Latents { ws: model.ws(recipe)?, noise_inputs: Vec::new() };
            latents.to_bytes(&model.hash)
        }
        Task::Directions(layers) => {
            let found = model.directions(layers)?;
            let strengths: Vec<f64> = found.strengths.iter().copied().take(MAX_MOVES).collect();
            Ok(json!({ "strengths": strengths }).to_string().into_bytes())
        }
    }
}

fn with_type(kind: &'static str, bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response()
}

fn refusal(status: StatusCode, words: &str) -> Response {
    let json = json!({ "error": words }).to_string().into_bytes();
    (status, with_type(JSON, json)).into_response()
}
