//! Two hundred hostile files, each alone and all together, before decoders in processes of their own.
//!
//! Forking needs a process of one thread, so this test has no harness: `main` starts the host of the
//! decoders first thing, as the program does. It says what the files took.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "its own harness")]

mod archives;
mod attack;
mod decoders;
mod gif_bmp;
mod jpeg;
#[path = "../common/pictures.rs"]
mod pictures;
mod png;
mod program;
mod texts;
mod tiff_webp;
mod zips;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use attack::Attack;
use stylegan2_c2d::data::{
    Asset, DataError, Dataset, LoadOptions, SkipReason, decoder, load, scan,
};

/// Part of every name here; no message may contain it.
pub(crate) const NAME: &str = "Zqx7";
/// What a decoder may take.
const MAX_BYTES: u64 = 2 << 30;
/// What a file may take, by the clock of a machine that does other things too: ten seconds of a
/// processor are the bound, and 60 by the clock.
const MAX_TIME: Duration = Duration::from_secs(65);

/// Pixels that tell pictures apart.
pub(crate) fn picture_of(seed: u8, side: u32) -> Vec<u8> {
    (0..side * side * 3).map(|i| (i.wrapping_mul(u32::from(seed) + 7) >> 3) as u8 ^ seed).collect()
}

pub(crate) fn options() -> LoadOptions {
    LoadOptions { resolution: Some(8), ..LoadOptions::default() }
}

pub(crate) fn load_path(path: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    let assets = [Asset { roots: vec![path.to_path_buf()] }];
    let stop = AtomicBool::new(false);
    scan(&assets, options, &stop).and_then(|found| load(&assets, options, &found, &stop))
}

/// Numbers of entries by reason.
pub(crate) type Counts = BTreeMap<SkipReason, usize>;

pub(crate) fn counts(attacks: &[Attack]) -> Counts {
    let mut counts = Counts::new();
    for reason in attacks.iter().flat_map(|attack| &attack.skipped) {
        *counts.entry(*reason).or_default() += 1;
    }
    counts
}

fn attacks() -> Vec<Attack> {
    let parts: [fn() -> Vec<Attack>; 11] = [
        png::attacks,
        jpeg::attacks,
        gif_bmp::gif_attacks,
        gif_bmp::bmp_attacks,
        tiff_webp::tiff_attacks,
        tiff_webp::webp_attacks,
        zips::zips,
        archives::tars,
        archives::gzips,
        archives::others,
        texts::attacks,
    ];
    parts.iter().flat_map(|part| part()).collect()
}

/// Each beside a good picture, which must come through. Says what the slowest took: of those that are
/// skipped for their time, and of the others.
fn each_alone(attacks: &[Attack]) -> [(Duration, String); 2] {
    let mut longest = [const { (Duration::ZERO, String::new()) }; 2];
    let mut wrong = Vec::new();
    for attack in attacks {
        let root = tempfile::Builder::new().prefix(NAME).tempdir().unwrap();
        fs::write(root.path().join(format!("{NAME}.png")), &attack.bytes).unwrap();
        fs::write(root.path().join("good"), pictures::png(255, 8)).unwrap();
        let start = Instant::now();
        let set = load_path(root.path(), &options())
            .unwrap_or_else(|error| panic!("{}: {error}", attack.name));
        let time = start.elapsed();
        let longest = &mut longest[usize::from(!attack.skipped.contains(&SkipReason::OutOfTime))];
        if time > longest.0 {
            *longest = (time, attack.name.clone());
        }
        let skipped: Counts = set.report().skipped.iter().collect();
        let expected = (attack.num_loaded, counts(std::slice::from_ref(attack)));
        if (set.len() - 1, &skipped) != (expected.0, &expected.1) {
            wrong.push(format!(
                "{}: {:?}, expected {expected:?}",
                attack.name,
                (set.len() - 1, skipped)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
    longest
}

fn all_together(folder: &Path, attacks: &[Attack]) {
    let set = load_path(folder, &options()).unwrap();
    let skipped: Counts = set.report().skipped.iter().collect();
    assert_eq!(skipped, counts(attacks));
    assert_eq!(set.len(), attacks.iter().map(|attack| attack.num_loaded).sum::<usize>());
}

/// The most memory that one of the processes which have ended held.
#[expect(unsafe_code, reason = "no safe binding of getrusage")]
fn peak_of_children() -> u64 {
    // SAFETY: zeros are a value of it, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage), 0);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}

fn main() {
    if decoders::prints_fingerprints() {
        return;
    }
    let host = decoder::start().unwrap();
    let attacks = attacks();
    assert!(attacks.len() >= 150, "{}", attacks.len());
    println!("{} files, each alone; the longest times by the clock:", attacks.len());
    for (longest, slowest) in each_alone(&attacks) {
        println!("  {longest:.1?} {slowest}");
        assert!(longest < MAX_TIME, "{slowest}: {longest:?}");
    }

    let folder = tempfile::Builder::new().prefix(NAME).tempdir().unwrap();
    for (i, attack) in attacks.iter().enumerate() {
        fs::write(folder.path().join(format!("{NAME}{i}")), &attack.bytes).unwrap();
    }
    let start = Instant::now();
    all_together(folder.path(), &attacks);
    println!("all together: {:.1?}", start.elapsed());
    for (reason, count) in counts(&attacks) {
        println!("  {count} {reason}");
    }
    decoders::all();
    drop(host);
    let peak = peak_of_children();
    println!("the most memory of a decoder: {} MB", peak >> 20);
    assert!(peak <= MAX_BYTES, "{peak}");

    program::all(folder.path(), &attacks);
    println!("test result: ok");
}
