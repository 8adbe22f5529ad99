//! Decoders that are ended: by time, by memory, by a signal; how that is told, and what is left.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stylegan2_c2d::data::{Asset, DataError, LoadOptions, SkipReason, load, scan};

use crate::{jpeg, load_path, options, pictures, png};

/// Set for a process that decodes by itself and prints what came of a folder.
const ROLE: &str = "STYLEGAN2_C2D_TEST_FINGERPRINTS";

pub(crate) fn all() {
    let checks: [(&str, fn()); 7] = [
        ("pixels are those of decoding in one's own process", pixels_are_the_same),
        ("too much time costs one picture", time_is_bounded),
        ("too much memory costs one picture", memory_is_bounded),
        ("a crash costs one picture, and a decoder has nothing", crashes_cost_one_picture),
        ("pictures that do nothing but crash are refused", crashes_are_bounded),
        ("a stop is heard while a picture is decoded", stops_are_heard),
        ("without its host the program does not decode in its own process", hosts_are_needed),
    ];
    for (name, check) in checks {
        check();
        println!("test {name} ... ok");
    }
}

fn folder(files: &[Vec<u8>]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (i, bytes) in files.iter().enumerate() {
        fs::write(root.path().join(format!("{i}.png")), bytes).unwrap();
    }
    root
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn fingerprints(resolution: usize) -> String {
    let options = LoadOptions { resolution: Some(resolution), ..LoadOptions::default() };
    format!("{:?}", load_path(&fixtures(), &options).unwrap().fingerprints())
}

/// True if this process was started for that alone.
pub(crate) fn prints_fingerprints() -> bool {
    let Ok(resolution) = env::var(ROLE) else { return false };
    println!("{}", fingerprints(resolution.parse().unwrap()));
    true
}

fn pixels_are_the_same() {
    for (resolution, num_threads) in [(8, "1"), (64, "3"), (256, "2")] {
        let alone = Command::new(env::current_exe().unwrap())
            .env(ROLE, resolution.to_string())
            .env("RAYON_NUM_THREADS", num_threads)
            .output()
            .unwrap();
        let alone = String::from_utf8(alone.stdout).unwrap();
        assert_eq!(alone.trim(), fingerprints(resolution), "{resolution}");
    }
}

fn bomb() -> Vec<u8> {
    jpeg::progressive(8192, 100)
}

fn time_is_bounded() {
    let root = folder(&[pictures::png(1, 8), bomb(), pictures::png(2, 8)]);
    let start = Instant::now();
    let set = load_path(root.path(), &LoadOptions { decode_seconds: 1, ..options() }).unwrap();
    assert_eq!((set.len(), set.report().skipped.count(SkipReason::OutOfTime)), (2, 1));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// What a load says whose decoders have less memory than the scan believed.
fn load_in_little_memory(files: &[Vec<u8>]) -> Result<(usize, usize), DataError> {
    let root = folder(files);
    let assets = [Asset { roots: vec![root.path().to_path_buf()] }];
    let stop = AtomicBool::new(false);
    let found = scan(&assets, &options(), &stop).unwrap();
    let little = LoadOptions { memory_limit: Some(64 << 20), ..options() };
    let set = load(&assets, &little, &found, &stop)?;
    Ok((set.len(), set.report().skipped.count(SkipReason::OutOfMemory)))
}

fn memory_is_bounded() {
    let files = [pictures::png(1, 8), png::gray(3000, 1), png::gray(3000, 2), pictures::png(2, 8)];
    // 9 MB fit into 16 MB, 36 MB do not
    assert_eq!(load_in_little_memory(&files).unwrap(), (4, 0));
    let files = [pictures::png(1, 8), png::gray(6000, 1), png::gray(6000, 2), pictures::png(2, 8)];
    assert_eq!(load_in_little_memory(&files).unwrap(), (2, 2));
}

fn crashes_are_bounded() {
    let files: Vec<Vec<u8>> = (0..60).map(|seed| png::gray(6000, seed)).collect();
    assert!(matches!(load_in_little_memory(&files), Err(DataError::TooManyCrashes)));
    host_alone();
}

/// The host, once the decoders of what was read are gone.
fn host_alone() -> u32 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let [host] = descendants_of(process::id())[..] {
            return host;
        }
        assert!(Instant::now() < deadline, "decoders are left behind");
        thread::yield_now();
    }
}

/// Processes below the program: the host, and decoders.
pub(crate) fn descendants_of(program: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let after_name = stat.rsplit_once(") ")?.1;
        after_name.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_below = |pid: &u32| {
        let parent = parent_of(*pid);
        parent == Some(program) || parent.and_then(parent_of) == Some(program)
    };
    pids.filter(is_below).collect()
}

fn busy() -> Option<u32> {
    busy_below(process::id())
}

/// A decoder that has been busy for a while.
pub(crate) fn busy_below(program: u32) -> Option<u32> {
    let ticks = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let user = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split_whitespace().nth(11)?.parse().ok());
        user.unwrap_or(0u64)
    };
    descendants_of(program).into_iter().find(|pid| ticks(*pid) > 50) // half a second
}

fn crashes_cost_one_picture() {
    let root = folder(&[pictures::png(1, 8), bomb(), pictures::png(2, 8)]);
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ender = scope.spawn(|| {
            let mut ended = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                if let Some(pid) = busy().filter(|pid| !ended.contains(pid)) {
                    assert_confined(pid);
                    let kill = Command::new("kill").args(["-ABRT", &pid.to_string()]).status();
                    assert!(kill.unwrap().success());
                    ended.push(pid);
                }
                thread::yield_now();
            }
            ended.len()
        });
        let set = load_path(root.path(), &options()).unwrap();
        is_done.store(true, Ordering::Relaxed);
        assert_eq!((set.len(), set.report().skipped.count(SkipReason::Crashed)), (2, 1));
        assert!(ender.join().unwrap() >= 1);
    });
}

/// What the kernel says of a decoder; what it could do, the program tries and says in its log.
fn assert_confined(pid: u32) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let status = read("status");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Threads:\t1"] {
        assert!(status.contains(line), "{line} in:\n{status}");
    }
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    for name in ["Max core file size", "Max file size", "Max open files", "Max processes"] {
        assert_eq!(limit(name), "0", "{name}");
    }
    assert!(limit("Max address space").parse::<u64>().unwrap() <= 2 << 30);
    // Nobody but root may look at the descriptors of a process that cannot be dumped.
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut links: Vec<String> = links.map(|link| link.display().to_string()).collect();
    links.sort();
    assert_eq!(links.len(), 4, "{links:?}");
    assert_eq!(links[..2], ["/dev/null", "/dev/null"]);
    assert!(links[2].starts_with("pipe:") && links[3].starts_with("socket:"), "{links:?}");
}

fn stops_are_heard() {
    let root = folder(&[bomb()]);
    let assets = [Asset { roots: vec![root.path().to_path_buf()] }];
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let found = scan(&assets, &options(), &go).unwrap();
    thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let loaded = load(&assets, &options(), &found, &stop);
            (matches!(loaded, Err(DataError::Stopped)), Instant::now())
        });
        while busy().is_none() {
            thread::yield_now();
        }
        let stopped = Instant::now();
        stop.store(true, Ordering::Relaxed);
        let (is_stopped, ended) = loading.join().unwrap();
        assert!(is_stopped && ended - stopped < Duration::from_secs(2));
    });
}

/// The last of all.
fn hosts_are_needed() {
    let root = folder(&[pictures::png(1, 8)]);
    let host = host_alone().to_string();
    assert!(Command::new("kill").args(["-KILL", &host]).status().unwrap().success());
    assert!(matches!(load_path(root.path(), &options()), Err(DataError::NoDecoder)));
}
