//! Networks of other tools: read rightly, or refused in words, at once and without being run.
//!
//! `FUZZ_ROUNDS=N cargo test --release --test convert fuzz` tries more broken files.
#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

#[path = "convert/bytes.rs"]
mod bytes;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::{Rng, hostile};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;
use stylegan2_c2d::convert::{Config, Network, Target, Which, open, write};
use stylegan2_c2d::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};
use stylegan2_c2d::model::weights::from_bytes;
use stylegan2_c2d::model::{Noise, Store, Truncation, discriminator, generator};

/// Files of one small network, as the script beside them writes it.
const SMALL: [&str; 4] = ["small3.pkl", "small4.pkl", "small.pt", "small_old.pt"];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn converted(name: &str) -> Network {
    open(&fixture(&format!("convert/{name}")), Which::GEma).unwrap()
}

fn tensors(name: &str) -> std::collections::HashMap<String, Tensor> {
    candle_core::safetensors::load_buffer(&fixture(name), &Device::Cpu).unwrap()
}

/// Largest difference of two pictures.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// The picture of a converted file, by way of the weights that are written.
fn picture(network: &Network, z: &Tensor, psi: f64) -> Tensor {
    let (_, g) = from_bytes(&write(network, Target::Safetensors).unwrap(), &Device::Cpu).unwrap();
    g.forward(z, None, Truncation { psi, cutoff: None }, Noise::Const).unwrap()
}

#[test]
fn every_container_gives_the_picture_that_torch_computed() {
    let expected = tensors("convert/expected.safetensors");
    for name in SMALL {
        let network = converted(name);
        // rosinality's networks have no bound on activations
        let key = if name.ends_with("pkl") { "img_clamped" } else { "img" };
        let img = picture(&network, &expected["z"], 0.7);
        let error = difference(&img, &expected[key]);
        assert!(error < 1e-4, "{name}: {error}"); // rounding of f32 over five layers
        assert!(network.has_own_mean, "{name}");
    }
}

#[test]
fn a_snapshot_gives_the_references_picture() {
    let golden = tensors("golden/e_arch_variants.safetensors");
    let network = converted("golden_orig.pkl");
    let img = picture(&network, &golden["0.z"], 1.0);
    let error = difference(&img, &golden["0.img"]);
    assert!(error < 1e-4, "{error}"); // a step of a pixel is 8e-3
    let Config::Generator(config) = network.config else { panic!("expected a generator") };
    assert_eq!(config.architecture, Architecture::Orig);
}

/// Where a checkpoint has no mean of w, it is that of many latents: close to that of others.
#[test]
fn a_mean_of_w_is_computed_where_there_is_none() {
    let stored = converted("small.pt");
    let mut bytes = fixture("convert/small_old.pt");
    let at = bytes.windows(10).position(|window| window == b"latent_avg").unwrap();
    bytes[at..at + 10].copy_from_slice(b"latent_aVg");
    let computed = open(&bytes, Which::GEma).unwrap();
    assert!(!computed.has_own_mean);
    let mean = |network: &Network| {
        let tensors = network.store.tensors();
        let (_, var) = tensors.iter().find(|(name, _)| name == "mapping.w_avg").unwrap();
        var.as_detached_tensor()
    };
    assert!(difference(&mean(&stored), &mean(&computed)) > 0.1, "that of the file is random");
    let (_, g) = from_bytes(&write(&computed, Target::Safetensors).unwrap(), &Device::Cpu).unwrap();
    let z = Tensor::from_vec(
        stylegan2_c2d::ops::rng::numpy_randn(1, 20_000 * 6),
        (20_000, 6),
        &Device::Cpu,
    );
    let z = z.unwrap().to_dtype(DType::F32).unwrap();
    let w = g.mapping.forward(Some(&z), None).unwrap();
    let error = difference(&w.value().mean(0).unwrap(), &mean(&computed));
    assert!(error < 0.1, "{error}"); // 1 / sqrt(4096) of a w of about 1, six times
}

#[test]
fn weights_of_this_program_keep_their_header() {
    let bytes = write(&converted("small4.pkl"), Target::Safetensors).unwrap();
    let again = open(&bytes, Which::GEma).unwrap();
    assert_eq!(write(&again, Target::Safetensors).unwrap(), bytes);
    let error = open(&bytes, Which::D).err().unwrap().to_string();
    assert!(error.contains("no choice of a network"), "{error}");
}

/// Names and shapes in a safetensors file below a prefix.
fn names(bytes: &[u8], prefix: &str) -> Vec<(String, Vec<usize>)> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    let shape = |(name, view): (String, safetensors::tensor::TensorView)| {
        Some((name.strip_prefix(prefix)?.to_owned(), view.shape().to_vec()))
    };
    let mut names: Vec<_> = tensors.tensors().into_iter().filter_map(shape).collect();
    names.sort();
    names
}

/// Networks of the shape that a golden file states.
fn networks(spec: &Value, [g, d]: [Architecture; 2]) -> [Network; 2] {
    let size = |key: &str| spec[key].as_u64().unwrap() as usize;
    let g = GeneratorConfig {
        z_dim: size("z_dim"),
        c_dim: size("c_dim"),
        w_dim: size("w_dim"),
        img_resolution: size("res"),
        img_channels: size("ch"),
        mapping_layers: size("map"),
        channel_base: size("cbase"),
        channel_max: size("cmax"),
        conv_clamp: None,
        architecture: g,
    };
    let d = DiscriminatorConfig {
        c_dim: g.c_dim,
        img_resolution: g.img_resolution,
        img_channels: g.img_channels,
        channel_base: g.channel_base,
        channel_max: g.channel_max,
        conv_clamp: None,
        architecture: d,
        mbstd_group_size: Some(4),
        mbstd_num_channels: 1,
        mapping_layers: 8,
    };
    let stores = [(); 2].map(|()| Store::new(DType::F32, &Device::Cpu));
    generator(&g, &stores[0].init(0)).unwrap();
    discriminator(&d, &stores[1].init(0)).unwrap();
    let [g_store, d_store] = stores;
    let network = |config, store| Network {
        config,
        store,
        source: "a test",
        header: None,
        has_own_mean: true,
    };
    [network(Config::Generator(g), g_store), network(Config::Discriminator(d), d_store)]
}

#[test]
fn state_dictionaries_have_the_references_names_and_no_other() {
    let metadata = |bytes: &[u8], key: &str| -> Value {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        serde_json::from_str(&header.metadata().as_ref().unwrap()[key]).unwrap()
    };
    let variants = fixture("golden/e_arch_variants.safetensors");
    let listed = metadata(&variants, "variants");
    let mut cases: Vec<(Vec<u8>, String, Value, [Architecture; 2])> = Vec::new();
    for (key, variant) in listed.as_object().unwrap() {
        let of = |key: &str| serde_json::from_value(variant[key].clone()).unwrap();
        let architectures = [of("g_arch"), of("d_arch")];
        cases.push((variants.clone(), format!("{key}."), variant["spec"].clone(), architectures));
    }
    for stem in ["tiny32", "tiny32cond"] {
        let bytes = fixture(&format!("golden/e_{stem}_networks.safetensors"));
        let spec = metadata(&bytes, "spec");
        let architectures = [Architecture::Skip, Architecture::Resnet];
        cases.push((bytes, String::new(), spec, architectures));
    }
    for (bytes, prefix, spec, architectures) in cases {
        for (network, letter) in networks(&spec, architectures).iter().zip(["G", "D"]) {
            let ours = names(&write(network, Target::Pytorch).unwrap(), "");
            assert_eq!(ours, names(&bytes, &format!("{prefix}{letter}.")), "{prefix}{letter}");
        }
    }
}

#[test]
fn a_discriminator_is_no_generator() {
    let [_, d] = networks(
        &serde_json::json!({"z_dim": 4, "c_dim": 0, "w_dim": 4, "res": 8, "ch": 3, "map": 1, "cbase": 32, "cmax": 8}),
        [Architecture::Skip, Architecture::Resnet],
    );
    for target in [Target::Safetensors, Target::Onnx] {
        let error = write(&d, target).unwrap_err().to_string();
        assert!(error.contains("expected a generator for such a file"), "{error}");
    }
    let error = open(&fixture("convert/small4.pkl"), Which::D).err().unwrap().to_string();
    assert!(error.contains("the snapshot: expected an entry \"D\""), "{error}");
}

#[test]
fn every_truncation_is_refused() {
    for name in SMALL {
        let bytes = fixture(&format!("convert/{name}"));
        for len in 0..bytes.len() {
            assert!(open(&bytes[..len], Which::GEma).is_err(), "{name} cut at {len}");
        }
    }
}

/// What a snapshot says is compared with what is computed: attributes as well as tensors.
#[test]
fn a_network_that_differs_is_refused_by_name() {
    let bytes = fixture("convert/small4.pkl");
    for (from, to, expected) in [
        ("noise_strength", "noise_strengtX", "noise_strength: missing tensor"),
        ("lrelu", "swish", "expected activation lrelu, got swish"),
        ("Generator", "Geenrator", "expected a Generator, got a Geenrator"),
        ("G_ema", "G_emb", "expected an entry \"G_ema\", got training_set_kwargs, G_emb"),
        ("skip", "orig", "expected architecture skip, got orig"),
        ("FloatStorage", "DoublStorage", "torch.DoublStorage is not known here"),
        ("conv_clamp", "conv_clamP", ""),
    ] {
        let changed = bytes::replaced(&bytes, from.as_bytes(), to.as_bytes());
        match open(&changed, Which::GEma).err() {
            Some(error) => assert!(error.to_string().contains(expected), "{from}: {error}"),
            None => assert!(expected.is_empty(), "{from} was not missed"),
        }
    }
}

fn program(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d")).args(args).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {log}");
    log
}

/// From the snapshot to the picture of seed 3, which torch computed: at most a step apart.
#[test]
fn the_command_converts_what_generate_draws() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/convert/small3.pkl");
    let snapshot = snapshot.to_str().unwrap();
    let log = program(&["convert", snapshot, "--out", &path("g.safetensors")]);
    assert!(log.contains("8x8 pixels, 3 channels, 0 classes, Skip"), "{log}");
    let flags = ["--seeds", "3", "--trunc", "0.7", "--device", "cpu"];
    let files = ["--weights", &path("g.safetensors"), "--out", &path("pictures")];
    program(&[&["generate"], &flags[..], &files[..]].concat());
    let drawn = image::open(path("pictures/seed0003.png")).unwrap().to_rgb8();
    let expected = &tensors("convert/expected.safetensors")["img_clamped"];
    let expected = expected.get(0).unwrap().permute((1, 2, 0)).unwrap().flatten_all().unwrap();
    for (drawn, expected) in drawn.into_raw().iter().zip(expected.to_vec1::<f32>().unwrap()) {
        let expected = (expected * 127.5 + 128.0).clamp(0.0, 255.0).floor();
        assert!((f32::from(*drawn) - expected).abs() <= 1.0, "{drawn} {expected}");
    }
    for target in ["onnx", "pytorch"] {
        program(&["convert", snapshot, "--to", target, "--out", &path(target)]);
        assert!(fs::metadata(path(target)).unwrap().len() > 1000, "{target}");
    }
}

/// Each within a second and 100 MB, in words, and nothing of it is done.
#[test]
fn hostile_files_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let planted = folder.path().join("planted");
    for (what, bytes, expected) in hostile(&planted) {
        let file = folder.path().join("hostile.pkl");
        fs::write(&file, &bytes).unwrap();
        let started = Instant::now();
        let output = Command::new("sh")
            .args(["-c", "ulimit -d 102400 && exec \"$0\" \"$@\""])
            .args([env!("CARGO_BIN_EXE_stylegan2-c2d"), "convert", "--threads", "1", "--out"])
            .args([folder.path().join("out"), file])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{what}: {log}");
        assert!(log.contains(expected), "{what}: {log}");
        assert!(started.elapsed() < Duration::from_secs(1), "{what}: {:?}", started.elapsed());
        assert!(!planted.exists(), "{what} was run");
        assert!(!folder.path().join("out").exists(), "{what}");
    }
}

/// Broken in small ways, a file is refused or read, and whatever is read can be written.
#[test]
fn fuzz() {
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(4000, |rounds| rounds.parse().unwrap());
    let corpus = SMALL.map(|name| fixture(&format!("convert/{name}")));
    let mut rng = Rng(0x5eed);
    let mut num_read = 0;
    for round in 0..rounds {
        let bytes = rng.broken(&corpus[round % corpus.len()]);
        for which in [Which::GEma, Which::G, Which::D] {
            let Ok(network) = open(&bytes, which) else { continue };
            num_read += 1;
            for target in [Target::Safetensors, Target::Onnx, Target::Pytorch] {
                write(&network, target).unwrap();
            }
        }
    }
    assert!(num_read > 0 && num_read < rounds, "{num_read} of {rounds} files were read");
}
