//! Pictures that say where they come from, and whether that is true, through the binary.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

#[path = "common/job.rs"]
mod job;
#[path = "common/weights.rs"]
mod weights;

use job::{CURRENT, Tree, log_of};
use weights::{Home, cell, chunks};

const BARE: [&str; 3] = ["IHDR", "IDAT", "IEND"];

fn is_png(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "png")
}

#[test]
fn a_picture_says_where_it_comes_from() {
    let home = Home::new(8, 3);
    let more = ["--seeds", "85", "--trunc", "0.7", "--class", "2", "--noise-mode", "random"];
    home.done("generate", &[&more[..], &["--out", "out"]].concat());
    let (kinds, texts) = chunks(&home.path("out/seed0085.png"));
    assert_eq!(kinds, ["IHDR", "tEXt", "IDAT", "IEND"]);
    let program = concat!("stylegan2-c2d ", env!("CARGO_PKG_VERSION"));
    assert_eq!(texts[0], format!("Software\0{program}"));
    let (keyword, said) = texts[1].split_once('\0').unwrap();
    let said: Value = serde_json::from_str(said).unwrap();
    let model = blake3::hash(&fs::read(home.path("g")).unwrap()).to_hex().to_string();
    assert_eq!((keyword, texts.len()), ("stylegan2_c2d", 2));
    let picture = json!({
        "latent": {"of": {"seed": 85}}, "trunc": 0.7, "class": 2, "noise_mode": {"random": 85}
    });
    let expected = json!({
        "program": "stylegan2-c2d", "version": env!("CARGO_PKG_VERSION"), "model": model,
        "layout": {"columns": 1}, "pictures": [picture]
    });
    assert_eq!(said, expected);
}

#[test]
fn without_provenance_there_are_pixels_and_nothing_else() {
    let home = Home::new(8, 0);
    let plain = ["--seeds", "1-2", "--grid", "--sweep=0,1", "--out"];
    home.done("generate", &[&plain[..], &["said"]].concat());
    home.done("generate", &[&plain[..], &["bare", "--no-provenance"]].concat());
    for name in ["seed0001.png", "seed0002.png", "grid.png", "sweep.png"] {
        assert_eq!(chunks(&home.path("bare").join(name)).0, BARE, "{name}");
        let [said, bare] = ["said", "bare"].map(|of| home.picture(&format!("{of}/{name}")));
        assert!(said == bare, "{name}");
    }
    home.done("mix", &["--seeds", "0", "--styles", "1", "--no-provenance", "--out", "mix.png"]);
    home.done("directions", &["--seeds", "0", "--count", "1", "--no-provenance", "--out", "d"]);
    for name in ["mix.png", "d/direction0.png"] {
        assert_eq!(chunks(&home.path(name)).0, BARE, "{name}");
    }
    let loops = ["--frames", "2", "--seeds", "0,1", "--no-provenance", "--out", "loop"];
    home.done("interpolate", &loops);
    assert_eq!(chunks(&home.path("loop/loop-frames/00000.png")).0, BARE);
    assert!(chunks(&home.path("loop/loop.png")).1.is_empty());
}

#[test]
fn a_job_writes_pixels_and_nothing_else() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 8, "kimg": 0.1, "seed": 1}"#);
    let output = tree.job().output().unwrap();
    assert!(output.status.success(), "{}", log_of(&output));
    let outputs = tree.outputs();
    let pictures: Vec<_> = outputs.iter().filter(|name| is_png(name)).collect();
    assert!(!pictures.is_empty());
    for name in pictures {
        assert_eq!(chunks(&tree.path("outputs").join(name)).0, BARE, "{name}");
    }
}

#[test]
fn a_changed_pixel_another_model_and_silence_are_told_apart() {
    let home = Home::new(8, 0);
    home.add_weights("other", 8, 0, 4);
    let args = ["--seeds", "5", "--trunc", "0.5", "--out"];
    home.done("generate", &[&args[..], &["a"]].concat());
    home.done("generate", &[&args[..], &["bare", "--no-provenance"]].concat());
    let picture = "a/seed0005.png";
    assert!(home.done("verify", &[picture]).contains("seed0005.png: exact"));

    let mut pixels = home.picture(picture);
    let value = &mut pixels.get_pixel_mut(3, 4).0[1];
    *value = if *value < 128 { *value + 9 } else { *value - 9 };
    pixels.save(home.path("changed.png")).unwrap(); // says nothing any more
    let by_seed = ["--seed", "5", "--trunc", "0.5"];
    let verify = |more: &[&str]| home.run("verify", &[&by_seed[..], more].concat());
    let (code, log) = verify(&["changed.png"]);
    assert!(code == Some(1) && log.contains("differs by at most 9 of 255"), "{log}");
    assert_eq!(verify(&["changed.png", "--tolerance", "9"]).0, Some(0));
    assert_eq!(verify(&["changed.png", "--tolerance", "8"]).0, Some(1));
    let (code, log) = verify(&["bare/seed0005.png"]);
    assert!(code == Some(0) && log.contains("exact"), "{log}");

    let (code, log) = home.run("verify", &["bare/seed0005.png"]);
    assert!(code == Some(1) && log.contains("give --seed"), "{log}");
    fs::rename(home.path("other"), home.path("g")).unwrap();
    let (code, log) = home.run("verify", &[picture]);
    assert!(code == Some(1) && log.contains("not this model: it says "), "{log}");
    home.add_weights("g", 16, 0, 3);
    let (code, log) = verify(&["changed.png"]);
    assert!(code == Some(1) && log.contains("not this model: another size"), "{log}");
    let (code, log) = home.run("verify", &["g"]);
    assert!(code == Some(2) && log.contains("expected a PNG file"), "{log}");
}

/// Whatever a command writes can be made again from what it says, also several pictures in a file.
#[test]
fn every_kind_of_picture_is_verified() {
    let home = Home::new(8, 2);
    let class = ["--class", "1"];
    let done = |command: &str, more: &[&str]| home.done(command, &[&class[..], more].concat());
    done(
        "generate",
        &["--seeds", "1-3", "--grid", "--sweep", "--noise-mode", "none", "--out", "a"],
    );
    done("mix", &["--seeds", "1-2", "--styles", "3", "--noise-mode", "random", "--out", "a/m.png"]);
    done("directions", &["--seeds", "1", "--count", "2", "--trunc", "0.5", "--out", "a"]);
    done("directions", &["--seeds", "1", "--apply", "1", "--by", "-0.3,1", "--out", "a"]);
    for (out, more) in
        [("b", ["--easing", "smooth"]), ("c", ["--space", "z"]), ("d", ["--noise-loop", "3"])]
    {
        let args = [&["--seeds", "1,2", "--frames", "3", "--out", out], &more[..]].concat();
        done("interpolate", &args);
    }
    let all = ["a", "b", "b/loop-frames", "c", "c/loop-frames", "d", "d/loop-frames"];
    let paths = all
        .iter()
        .flat_map(|of| home.names(of).into_iter().map(move |name| format!("{of}/{name}")));
    let paths: Vec<String> = paths.filter(|path| is_png(path)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let log = home.done("verify", &paths);
    assert_eq!(log.matches(": exact").count(), 10 + 3 + 3 * 6, "{log}");
}

#[test]
fn a_sweep_has_a_row_for_each_seed_and_a_column_for_each_truncation() {
    let home = Home::new(8, 0);
    home.done("generate", &["--seeds", "4,9", "--sweep=-1,0,1", "--out", "a"]);
    let sweep = home.picture("a/sweep.png");
    assert_eq!(sweep.dimensions(), (24, 16));
    for (row, seed) in (0..).zip([4, 9]) {
        let plain = home.picture(&format!("a/seed{seed:04}.png")).into_raw();
        assert!(cell(&sweep, 8, 2, row) == plain && cell(&sweep, 8, 0, row) != plain);
    }
    assert!(cell(&sweep, 8, 1, 0) == cell(&sweep, 8, 1, 1), "at 0 all are the average picture");
    let (code, log) = home.run("generate", &["--seeds", "1", "--sweep", "0,3", "--out", "b"]);
    assert!(code == Some(2) && log.contains("--sweep: expected numbers from -2 to 2"), "{log}");
}

#[test]
fn metadata_has_what_the_picture_says() {
    let home = Home::new(8, 2);
    home.done("generate", &["--seeds", "7", "--trunc", "0.5", "--class", "1", "--out", "a"]);
    let more = ["a/seed0007.png", "--image-base", "ipfs://CID/", "--name", "No {seed} of {class}"];
    home.done("metadata", &more);
    let token = home.json("a/seed0007.json");
    assert_eq!(token["name"], "No 7 of 1");
    assert_eq!(token["image"], "ipfs://CID/seed0007.png");
    let of = |name: &str| {
        let attributes = token["attributes"].as_array().unwrap();
        attributes.iter().find(|of| of["trait_type"] == name).unwrap()["value"].clone()
    };
    let model = blake3::hash(&fs::read(home.path("g")).unwrap()).to_hex().to_string();
    assert_eq!(
        ["Seed", "Truncation psi", "Class", "Model (BLAKE3)"].map(of),
        [json!(7), json!(0.5), json!(1), json!(model)]
    );
    home.done("generate", &["--seeds", "8", "--class", "1", "--no-provenance", "--out", "a"]);
    let (code, log) = home.run("metadata", &["a/seed0007.png", "a/seed0008.png", "--out", "b"]);
    assert!(code == Some(2) && log.contains("--no-provenance"), "{log}");
    assert!(!home.path("b").exists(), "all or none");
    home.add_weights("g", 8, 2, 4);
    let (code, log) = home.run("metadata", &["a/seed0007.png"]);
    assert!(code == Some(2) && log.contains("not what these weights make"), "{log}");
}
