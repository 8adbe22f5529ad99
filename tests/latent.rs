//! Loops, mixtures, directions, projections and blends, through the binary.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;

use candle_core::Device;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::{AnimationDecoder, Frame};
use serde_json::{Value, json};
use stylegan2_c2d::latent::recipe::{Latent, Move, NoiseMode, Source, Style};
use stylegan2_c2d::latent::{Model, Recipe};

#[path = "common/job.rs"]
mod job;
#[path = "common/weights.rs"]
mod weights;

use weights::{Home, cell};

/// Frames of an animation as RGB, and the milliseconds that each is shown.
fn frames(home: &Home, below: &str) -> Vec<(Vec<u8>, u32)> {
    let file = BufReader::new(fs::File::open(home.path(below)).unwrap());
    let frames = if below.ends_with("gif") {
        GifDecoder::new(file).unwrap().into_frames().collect_frames()
    } else {
        PngDecoder::new(file).unwrap().apng().unwrap().into_frames().collect_frames()
    };
    let of = |frame: Frame| {
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let image = image::DynamicImage::from(frame.into_buffer());
        (image.to_rgb8().into_raw(), numerator / denominator)
    };
    frames.unwrap().into_iter().map(of).collect()
}

#[test]
fn a_loop_visits_its_seeds_and_closes() {
    let home = Home::new(8, 0);
    home.done("generate", &["--seeds", "2-4", "--trunc", "0.7", "--out", "plain"]);
    let plain = |seed: u32| home.picture(&format!("plain/seed{seed:04}.png")).into_raw();
    for (out, more) in [
        ("w", &[][..]),
        ("z", &["--space", "z", "--easing", "smooth"]),
        ("s", &["--curve", "slerp"]),
    ] {
        let args =
            ["--seeds", "2-4", "--trunc", "0.7", "--frames", "5", "--fps", "20", "--out", out];
        home.done("interpolate", &[&args[..], more].concat());
        let apng = frames(&home, &format!("{out}/loop.png"));
        assert_eq!(apng.len(), 15);
        assert!(apng.iter().all(|(_, delay)| *delay == 50));
        for (leg, seed) in [2, 3, 4].into_iter().enumerate() {
            assert!(apng[5 * leg].0 == plain(seed), "{out}: seed {seed}");
        }
        assert!(apng.windows(2).all(|pair| pair[0].0 != pair[1].0), "{out}: it moves");
        // 64 pixels have at most 64 colors, which a palette holds
        assert!(frames(&home, &format!("{out}/loop.gif")) == apng, "{out}");
        let names = home.names(&format!("{out}/loop-frames"));
        assert_eq!((names.len(), names[14].as_str()), (15, "00014.png"));
        assert!(home.picture(&format!("{out}/loop-frames/00014.png")).into_raw() == apng[14].0);
    }
}

#[test]
fn noise_turns_and_comes_back() {
    let home = Home::new(8, 0);
    home.done("interpolate", &["--seeds", "1", "--noise-loop", "2", "--frames", "8", "--out", "a"]);
    let frames = frames(&home, "a/loop.png");
    assert_eq!(frames.len(), 8);
    let off = |a: usize, b: usize| -> u32 {
        frames[a].0.iter().zip(&frames[b].0).map(|(a, b)| u32::from(a.abs_diff(*b))).max().unwrap()
    };
    assert!(
        (0..4).all(|frame| off(frame, frame + 4) <= 1),
        "two turns: the second half is the first"
    );
    assert!(off(0, 1) > 1 && off(0, 2) > 1);
    home.done("generate", &["--seeds", "1", "--noise-mode", "random", "--out", "plain"]);
    assert!(frames[0].0 == home.picture("plain/seed0001.png").into_raw());
    let (code, log) = home.run("interpolate", &["--seeds", "1", "--out", "b"]);
    assert!(code == Some(2) && log.contains("--noise-loop"), "{log}");
}

/// What is on the PATH gets every frame as raw bytes and a fixed list of arguments.
#[test]
fn an_ffmpeg_on_the_path_makes_films() {
    let home = Home::new(8, 0);
    fs::create_dir(home.path("bin")).unwrap();
    let script = "#!/bin/sh\nfor last; do :; done\necho \"$@\" >> args\n/bin/cat > \"$last\"\n";
    let program = home.path("bin/ffmpeg");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["--seeds", "0,1", "--frames", "3", "--fps", "30", "--out", "a b"];
    let output = home.output_with_path("bin", "interpolate", &args);
    assert!(output.status.success(), "{}", job::log_of(&output));
    assert_eq!(home.names("a b"), ["loop.gif", "loop.mp4", "loop.png", "loop.webm"]);
    let raw: Vec<u8> = frames(&home, "a b/loop.png").into_iter().flat_map(|(rgb, _)| rgb).collect();
    assert!(fs::read(home.path("a b/loop.mp4")).unwrap() == raw);
    assert!(fs::read(home.path("a b/loop.webm")).unwrap() == raw);
    let said = fs::read_to_string(home.path("args")).unwrap();
    assert_eq!(said.matches("-f rawvideo -pix_fmt rgb24 -s 8x8 -r 30 -i pipe:0 -an").count(), 2);

    fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    let output = home.output_with_path("bin", "interpolate", &[&args[..7], &["c"]].concat());
    let log = job::log_of(&output);
    assert!(output.status.success() && log.contains("WARN a film is left out"), "{log}");
    assert_eq!(home.names("c"), ["loop.gif", "loop.png"]);
}

#[test]
fn all_layers_of_another_are_the_other() {
    let home = Home::new(16, 0);
    let mix = |layers: &str, out: &str| {
        home.done("mix", &["--seeds", "0,1", "--styles", "2-4", "--layers", layers, "--out", out]);
        home.picture(out)
    };
    let (all, low, high) = (mix("0-5", "all.png"), mix("0-2", "low.png"), mix("3-5", "high.png"));
    assert_eq!(all.dimensions(), (4 * 16, 3 * 16));
    assert!(cell(&all, 16, 0, 0).iter().all(|value| *value == 255));
    home.done("generate", &["--seeds", "0-4", "--out", "plain"]);
    let plain = |seed: u32| home.picture(&format!("plain/seed{seed:04}.png")).into_raw();
    for row in 0..2 {
        assert!(cell(&all, 16, 0, row + 1) == plain(row));
        for column in 0..3 {
            assert!(cell(&all, 16, column + 1, 0) == plain(2 + column));
            assert!(cell(&all, 16, column + 1, row + 1) == plain(2 + column));
            let [low, high] = [&low, &high].map(|grid| cell(grid, 16, column + 1, row + 1));
            assert!(low != high && low != plain(row) && low != plain(2 + column));
        }
    }
    let (code, log) = home.run("mix", &["--layers", "4-6", "--out", "refused.png"]);
    assert!(code == Some(2) && log.contains("--layers: expected layers from 0 to 5"), "{log}");
}

#[test]
fn a_direction_starts_at_the_picture_and_is_applied_alone() {
    let home = Home::new(8, 0);
    home.done("directions", &["--seeds", "3,4", "--count", "2", "--by", "-1,0,1", "--out", "a"]);
    assert_eq!(home.names("a"), ["direction0.png", "direction1.png"]);
    home.done("generate", &["--seeds", "3-4", "--out", "plain"]);
    home.done("directions", &["--seeds", "4", "--apply", "1", "--by", "1", "--out", "b"]);
    let [first, second] = ["a/direction0.png", "a/direction1.png"].map(|name| home.picture(name));
    for (row, seed) in (0..).zip([3, 4]) {
        let plain = home.picture(&format!("plain/seed{seed:04}.png")).into_raw();
        assert!(cell(&first, 8, 1, row) == plain && cell(&second, 8, 1, row) == plain);
        let ends = [0, 2].map(|column| cell(&first, 8, column, row));
        assert!(ends[0] != plain && ends[1] != plain && ends[0] != ends[1]);
    }
    let applied = home.picture("b/seed0004-direction1-by1.png").into_raw();
    assert!(applied == cell(&second, 8, 2, 1));
    for (more, expected) in [
        (["--apply", "128"], "--apply: expected a direction from 0 to 127"),
        (["--layers", "3"], "--layers: expected layers of convolutions, 0 to 2"),
        (["--by", "21"], "--by: expected numbers from -20 to 20"),
    ] {
        let (code, log) = home.run("directions", &[&more[..], &["--out", "c"]].concat());
        assert!(code == Some(2) && log.contains(expected), "{more:?}: {log}");
    }
}

/// Several changes at once are the plain recipe where there is but one.
#[test]
fn a_shaped_picture_of_one_change_is_that_change() {
    let home = Home::new(16, 0);
    let model = Model::from_bytes(&fs::read(home.path("g")).unwrap(), &Device::Cpu).unwrap();
    let pixels = |latent: Latent| {
        let recipe = Recipe { latent, trunc: 0.7, class: None, noise_mode: NoiseMode::Const };
        model.picture(&recipe).unwrap().pixels().to_vec()
    };
    let style = |share| Some(Style { of: Source::Seed(2), layers: vec![1, 4], share });
    let step = |by| Move { direction: 3, layers: vec![0, 1], by };
    let shaped = |style, moves| pixels(Latent::Shaped { base: Source::Seed(1), style, moves });
    let plain = pixels(Latent::Of(Source::Seed(1)));
    let mixed = pixels(Latent::Mix { base: 1, style: 2, layers: vec![1, 4] });
    let (from, layers) = (Source::Seed(1), vec![0, 1]);
    let moved = pixels(Latent::Moved { from, direction: 3, layers, by: 2.0 });
    assert!(shaped(None, vec![]) == plain && shaped(style(0.0), vec![step(0.0)]) == plain);
    assert!(shaped(style(1.0), vec![]) == mixed && shaped(None, vec![step(2.0)]) == moved);
    let all =
        [plain, mixed, moved, shaped(style(0.5), vec![]), shaped(style(1.0), vec![step(2.0)])];
    assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])));
}

#[test]
fn a_picture_of_the_model_is_found_again() {
    let home = Home::new(16, 0);
    home.train();
    home.done("generate", &["--seeds", "6", "--out", "plain"]);
    let args = ["--target", "plain/seed0006.png", "--steps", "300", "--out"];
    let psnr = |out: &str, more: &[&str]| -> f64 {
        let log = home.done("project", &[&args[..], &[out], more].concat());
        let after = log.split("PSNR ").last().unwrap();
        after.split(' ').next().unwrap().parse().unwrap()
    };
    for (out, more) in [("a", &[][..]), ("b", &["--noise-mode", "const"]), ("c", &["--w-plus"])] {
        let psnr = psnr(out, more);
        assert!(psnr >= 30.0, "{out}: {psnr} dB");
        assert_eq!(home.names(out), ["result.png", "strip.png", "w.safetensors"]);
        let strip = home.picture(&format!("{out}/strip.png"));
        assert!(cell(&strip, 16, 0, 0) == home.picture("plain/seed0006.png").into_raw());
        let result = home.picture(&format!("{out}/result.png")).into_raw();
        assert!(cell(&strip, 16, 1, 0) == result);
        let w = format!("{out}/w.safetensors");
        home.done("generate", &["--w", &w, "--out", &format!("{out}/again")]);
        assert!(home.picture(&format!("{out}/again/w0000.png")).into_raw() == result);
        let file = format!("{out}/result.png");
        assert!(home.done("verify", &[&file, "--w", &w]).contains("exact"));
    }
    home.done("directions", &["--w", "a/w.safetensors", "--count", "1", "--by", "0", "--out", "d"]);
    assert!(home.picture("d/direction0.png") == home.picture("a/result.png"));
    let twice = || fs::read(home.path("a/w.safetensors")).unwrap();
    let first = twice();
    psnr("a", &["--threads", "1"]);
    assert!(first == twice(), "the same steps, whatever the threads");
}

#[test]
fn what_cannot_be_projected_is_refused() {
    let home = Home::new(8, 0);
    for (more, expected) in [
        (&["--target", "g"][..], "g: expected a picture"),
        (&["--target", "none.png"], "none.png: expected a picture"),
        (&["--target", "g", "--trunc", "0.5"], "--trunc: a projection has none"),
    ] {
        let (code, log) = home.run("project", &[more, &["--out", "a"]].concat());
        assert!(code == Some(2) && log.contains(expected), "{more:?}: {log}");
    }
    assert!(!home.path("a").exists());
    let (code, log) = home.run("generate", &["--w", "g", "--out", "a"]);
    assert!(code == Some(2) && log.contains("expected a tensor w;"), "{log}");
}

#[test]
fn a_blend_is_the_one_or_the_other_at_its_ends() {
    let home = Home::new(16, 0);
    home.add_weights("h", 16, 0, 9);
    let blend = |out: &str, more: &[&str]| {
        home.done("blend", &[&["--with", "h", "--seeds", "0-1", "--out", out], more].concat());
        home.picture(&format!("{out}/preview.png"))
    };
    let row = |grid: &image::RgbImage, row| [0, 1].map(|column| cell(grid, 16, column, row));
    let none = blend("none", &["--amount", "0"]);
    assert!(row(&none, 1) == row(&none, 0) && row(&none, 1) != row(&none, 2));
    let all = blend("all", &["--from", "4", "--mapping", "second"]);
    assert!(row(&all, 1) == row(&all, 2));
    let some = blend("some", &["--from", "8", "--ramp", "1"]);
    assert!(row(&some, 1) != row(&some, 0) && row(&some, 1) != row(&some, 2));

    let tensors = |name: &str| {
        let bytes = fs::read(home.path(name)).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let of = |name: &str| file.tensor(name).unwrap().data().to_vec();
        ["synthesis.b4.const", "synthesis.b16.conv0.weight", "mapping.fc0.weight"].map(of)
    };
    let (g, h, mixed) = (tensors("g"), tensors("h"), tensors("some/generator.safetensors"));
    assert!(mixed == [g[0].clone(), h[1].clone(), g[2].clone()]);
    home.add_weights("h", 8, 0, 9);
    let (code, log) = home.run("blend", &["--with", "h", "--out", "refused"]);
    assert!(
        code == Some(2) && log.contains("of one shape, came img_resolution 16 and 8;"),
        "{log}"
    );
}

#[test]
fn a_weights_file_tells_what_it_is() {
    let home = Home::new(8, 2);
    let text = home.done("inspect", &["--out", "plots/a.svg"]);
    let model = blake3::hash(&fs::read(home.path("g")).unwrap()).to_hex().to_string();
    for expected in
        ["8 x 8, RGB, 2 classes", "trained     2 kimg", "cfg \"tiny\"", "9 to 7.5", &model]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let svg = fs::read_to_string(home.path("plots/a.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains(">swd</text>"), "{svg}");
    let output = home.output("inspect", &["--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["file"]["blake3"], &json["cur_nimg"]), (&json!(model), &json!(2000)));
    assert_eq!(json["model"]["img_resolution"], 8);
}
