//! The corpus of the fuzzers, each file once: what was found by them stays found.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../fuzz/targets.rs"]
mod targets;

/// The longest that a file of the corpus may take, on a machine that does other work.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn every_file_of_the_corpus_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let mut num_files = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let start = Instant::now();
            target(&fs::read(&path).unwrap());
            assert!(start.elapsed() < LONGEST, "{}: {:?}", path.display(), start.elapsed());
            num_files += 1;
        }
        assert!(num_files >= 5, "{name}: {num_files} files");
    }
}
