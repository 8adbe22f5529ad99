//! The page's server, through the binary and over a socket. What a browser makes of the page is
//! looked at by tests/explore/, which `.ci/explore` runs.

#![cfg(feature = "explore")]
#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

#[path = "common/job.rs"]
mod job;
#[path = "common/weights.rs"]
mod weights;

use job::{log_of, program};
use weights::{Home, cell};

/// The longest time that a busy machine may need for an answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program with its page open.
struct Served {
    child: Child,
    port: u16,
}

/// What it said to a request.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Served {
    fn new(home: &Home, more: &[&str]) -> Self {
        let mut program = program();
        program.current_dir(home.path("")).args(["explore", "--weights", "g", "--device", "cpu"]);
        let mut child =
            program.args(["--port", "0"]).args(more).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        let port = url.trim().strip_prefix("http://127.0.0.1:").unwrap().trim_end_matches('/');
        Self { child, port: port.parse().unwrap() }
    }

    /// An answer to a request with these lines behind its first.
    fn ask(&self, first: &str, lines: &[&str]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let first = format!("{first} HTTP/1.1");
        let request =
            [&[first.as_str(), "Connection: close"], lines, &["", ""]].concat().join("\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[&format!("Host: 127.0.0.1:{}", self.port)])
    }

    /// The pixels of a picture.
    fn pixels(&self, path: &str) -> Vec<u8> {
        let answer = self.get(path);
        assert!(answer.status == 200 && answer.head.contains("content-type: image/png"), "{path}");
        image::load_from_memory(&answer.body).unwrap().to_rgb8().into_raw()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// Pictures are made beside the main thread, which is the pool's only one then, and waits for requests.
#[test]
fn one_thread_is_enough() {
    let home = Home::new(16, 2);
    let path = "/api/picture?seed=1&class=1&layers=0-3&by=0,2";
    let [one, two] = ["1", "2"].map(|count| Served::new(&home, &["--threads", count]).pixels(path));
    assert!(one == two);
}

#[test]
fn pictures_are_those_of_the_commands() {
    let home = Home::new(16, 2);
    let served = Served::new(&home, &[]);
    let more = ["--seeds", "85", "--trunc", "0.7", "--class", "1", "--noise-mode"];
    for noise in ["const", "random", "none"] {
        home.done("generate", &[&more[..], &[noise, "--out", noise]].concat());
        let shown = served.pixels(&format!("/api/picture?seed=85&psi=0.7&class=1&noise={noise}"));
        assert!(shown == home.picture(&format!("{noise}/seed0085.png")).into_raw(), "{noise}");
    }
    let class = ["--class", "1"];
    let mix = ["--seeds", "1", "--styles", "2", "--layers", "3-5", "--out", "mix.png"];
    home.done("mix", &[&class[..], &mix].concat());
    let shown = served.pixels("/api/picture?seed=1&class=1&mix=2&mix_layers=3-5");
    assert!(shown == cell(&home.picture("mix.png"), 16, 1, 1));
    let moved = ["--seeds", "1", "--layers", "0-3", "--apply", "1", "--by", "2", "--out", "d"];
    home.done("directions", &[&class[..], &moved].concat());
    let shown = served.pixels("/api/picture?seed=1&class=1&layers=0-3&by=0,2");
    assert!(shown == home.picture("d/seed0001-direction1-by2.png").into_raw());
    let frames = ["--seeds", "1,2", "--frames", "4", "--out", "loop"];
    home.done("interpolate", &[&class[..], &frames].concat());
    let shown =
        served.pixels("/api/frame?from=seed%3D1%26class%3D1&to=seed%3D2%26class%3D1&at=0.25");
    assert!(shown == home.picture("loop/loop-frames/00001.png").into_raw());
}

#[test]
fn what_is_saved_verifies_and_is_made_again() {
    let home = Home::new(16, 0);
    let served = Served::new(&home, &[]);
    let states = [
        "seed=3",
        "seed=3&psi=0.5&noise=random&noise_seed=9",
        "seed=3&psi=0.5&mix=8&mix_layers=2-4&mix_share=0.4&layers=0-2&by=1.5,0,-2",
    ];
    for (idx, state) in states.iter().enumerate() {
        let png = served.get(&format!("/api/picture?{state}")).body;
        fs::write(home.path(&format!("{idx}.png")), png).unwrap();
    }
    let said = home.done("verify", &["0.png", "1.png", "2.png"]);
    assert_eq!(said.matches(": exact").count(), 3, "{said}");

    let answer = served.get(&format!("/api/latents?{}", states[2]));
    assert_eq!(answer.status, 200);
    fs::write(home.path("w.safetensors"), &answer.body).unwrap();
    home.done("generate", &["--w", "w.safetensors", "--out", "again"]);
    assert!(home.picture("again/w0000.png") == home.picture("2.png"));

    let bare = Served::new(&home, &["--no-provenance"]);
    fs::write(home.path("bare.png"), bare.get("/api/picture?seed=3").body).unwrap();
    assert_eq!(weights::chunks(&home.path("bare.png")).0, ["IHDR", "IDAT", "IEND"]);
}

/// States that no command knows are on the way between two all the same.
#[test]
fn a_frame_lies_between_any_two_states() {
    let home = Home::new(8, 0);
    let served = Served::new(&home, &[]);
    let frame = |at: &str| {
        let (from, to) = ("seed%3D1%26by%3D3", "seed%3D2%26psi%3D0.5");
        served.pixels(&format!("/api/frame?from={from}&to={to}&at={at}"))
    };
    assert!(frame("0") == served.pixels("/api/picture?seed=1&by=3"));
    assert!(frame("1") == served.pixels("/api/picture?seed=2&psi=0.5"));
    assert!(frame("0.5") != frame("0") && frame("0.5") != frame("1"));
}

#[test]
fn the_facts_say_what_there_is() {
    let home = Home::new(16, 3);
    let served = Served::new(&home, &["--trunc", "0.5", "--class", "2", "--noise-mode", "none"]);
    let facts = served.get("/api/facts").json();
    let model = blake3::hash(&fs::read(home.path("g")).unwrap()).to_hex().to_string();
    assert_eq!(facts["model"], model[..16]);
    assert_eq!((&facts["resolution"], &facts["num_classes"]), (&json!(16), &json!(3)));
    assert_eq!(facts["layers"], json!([4, 8, 8, 16, 16, 16]));
    assert_eq!(facts["start"], json!({"psi": 0.5, "class": 2, "noise": "none"}));
    let strengths = served.get("/api/directions?layers=0-2").json();
    let strengths: Vec<f64> = serde_json::from_value(strengths["strengths"].clone()).unwrap();
    assert!(strengths.len() == 32 && strengths.is_sorted_by(|a, b| a >= b));
}

#[test]
fn everything_comes_from_the_program_itself() {
    let home = Home::new(8, 0);
    let served = Served::new(&home, &[]);
    let page = served.get("/");
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(page.head.contains("default-src 'none'; script-src 'self'"), "{}", page.head);
    assert!(page.head.contains("frame-ancestors 'none'") && page.head.contains("nosniff"));
    let parts: Vec<&str> = text.split('"').filter(|part| part.starts_with("/page/")).collect();
    assert!(parts.len() > 3 && !text.contains("http"), "{parts:?}");
    for part in parts {
        let answer = served.get(part);
        assert!(answer.status == 200 && !answer.body.is_empty(), "{part}");
        // modules name each other
        let text = String::from_utf8(answer.body).unwrap();
        for other in text.split('"').filter_map(|word| word.strip_prefix("./")) {
            assert_eq!(served.get(&format!("/page/{other}")).status, 200, "{other}");
        }
    }
    assert_eq!(served.get("/page/../../Cargo.toml").status, 404);
}

#[test]
fn requests_of_others_are_refused() {
    let home = Home::new(8, 0);
    let served = Served::new(&home, &[]);
    let host = format!("Host: localhost:{}", served.port);
    let picture = "GET /api/picture?seed=1";
    for (first, lines, status) in [
        (picture, &[host.as_str()][..], 200),
        (picture, &["Host: evil.example"], 403),
        (picture, &[], 403),
        (picture, &[&host, "Origin: https://evil.example"], 403),
        (picture, &[&host, "Sec-Fetch-Site: cross-site"], 403),
        ("POST /api/picture?seed=1", &[&host, "Origin: https://evil.example"], 403),
        ("POST /api/picture?seed=1", &[&host], 405),
        ("GET /", &[&host, "Sec-Fetch-Site: cross-site"], 200),
        ("GET /none", &[&host], 404),
    ] {
        let answer = served.ask(first, lines);
        // a request without any host is refused by the library, in its own words
        let is_refused = lines.is_empty() && answer.status == 400;
        assert!(answer.status == status || is_refused, "{first} {lines:?}: {}", answer.head);
        assert!(is_refused || answer.head.contains("content-security-policy:"), "{}", answer.head);
    }
    let refused = served.ask(picture, &["Host: evil.example"]);
    assert!(refused.error().contains("expected the host 127.0.0.1:"));
}

#[test]
fn parameters_are_refused_in_words() {
    let home = Home::new(8, 0);
    let served = Served::new(&home, &[]);
    for (path, status, expected) in [
        ("/api/picture?psi=3", 400, "psi: expected a number from -2 to 2, came \"3\""),
        ("/api/picture?seed=x", 400, "seed: expected a whole number from 0 to 4294967295"),
        ("/api/picture?class=0", 400, "class: expected none"),
        ("/api/picture?sead=1", 400, "sead: expected one of seed, psi"),
        ("/api/picture?rank=first", 400, "rank: expected shown, frame or wall"),
        ("/api/latents?by=NaN", 400, "by: expected a number from -20 to 20"),
        ("/api/frame?from=psi%3D9&to=&at=0", 400, "from: psi: expected"),
        ("/api/frame?from=&to=&at=2", 400, "at: expected a number from 0 to 1"),
        ("/api/directions?layers=3", 400, "layers: expected a layer of a convolution, 0 to 2"),
        ("/api/picture?seed=1&model=00", 410, "other weights"),
    ] {
        let answer = served.get(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.error().contains(expected), "{path}: {}", answer.error());
    }
}

/// Of one page's shown pictures the newest is made; those whose asker has left are not.
#[test]
fn only_what_is_still_wanted_is_made() {
    let home = Home::new(128, 0);
    let served = Served::new(&home, &[]);
    let alone = Instant::now();
    served.pixels("/api/picture?seed=0");
    let alone = alone.elapsed();
    let ask = |path: String| {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", served.port).unwrap();
        stream
    };
    let gone: Vec<TcpStream> =
        (0..100).map(|seed| ask(format!("/api/picture?seed={seed}&rank=wall"))).collect();
    drop(gone);
    let stale: Vec<TcpStream> =
        (100..150).map(|seed| ask(format!("/api/picture?seed={seed}&page=a"))).collect();
    let begin = Instant::now();
    served.pixels("/api/picture?seed=200&page=a");
    // at most one is in the making when this one is asked for
    assert!(begin.elapsed() < 40 * alone, "{:?} and {alone:?}", begin.elapsed());
    let mut superseded = 0;
    for mut stream in stale {
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        superseded += usize::from(begin.ends_with(b"409"));
    }
    assert!(superseded > 40, "{superseded}");
}

#[test]
fn a_signal_ends_it_well() {
    let home = Home::new(8, 0);
    for signal in ["TERM", "INT"] {
        let mut served = Served::new(&home, &[]);
        let host = format!("Host: 127.0.0.1:{}\r\n\r\n", served.port);
        let mut open = TcpStream::connect(("127.0.0.1", served.port)).unwrap();
        write!(open, "GET /api/facts HTTP/1.1\r\n{host}").unwrap();
        open.read_exact(&mut [0; 12]).unwrap(); // and stays open, as browsers do
        let signalled = Instant::now();
        let id = served.child.id().to_string();
        Command::new("kill").args(["-s", signal, &id]).status().unwrap();
        assert_eq!(served.child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
    }
}

#[test]
fn a_port_in_use_is_refused_with_the_cure() {
    let home = Home::new(8, 0);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = home.output("explore", &["--port", &port]);
    let log = log_of(&output);
    let expected = format!("--port {port}: ");
    assert!(output.status.code() == Some(2) && log.contains(&expected), "{log}");
    assert!(log.contains("give another one, or 0 for any that is free"), "{log}");
}
