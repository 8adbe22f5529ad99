//! A kept state opens for who has the pictures, as a whole, and for nobody else.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use candle_core::Device;
use stylegan2_c2d::data::Dataset;
use stylegan2_c2d::job::keeper::{Keeper, Set};
use stylegan2_c2d::job::outputs::Outputs;
use stylegan2_c2d::job::params::Params;
use stylegan2_c2d::job::resume::{self, Source};
use stylegan2_c2d::job::state::StateError;
use stylegan2_c2d::job::statistics::Findings;
use stylegan2_c2d::job::table::StateKind;
use stylegan2_c2d::ops::cancel::Cancel;
use stylegan2_c2d::ops::collective::connect;
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use stylegan2_c2d::train::ranks::Ranks;
use tempfile::TempDir;

/// Networks whose state has some ten thousand bytes.
fn ranks() -> Ranks {
    let mut config = train_config(Cfg::Tiny, 8, 2, &Overrides::default());
    (config.g.z_dim, config.g.w_dim) = (4, 4);
    (config.g.channel_max, config.d.channel_max) = (4, 4);
    config.d.mapping_layers = 2;
    Ranks::new(&config, connect(&[Device::Cpu]).unwrap()).unwrap()
}

/// Pictures of noise with labels; the first `num_odd` labels are of the second class.
fn dataset(pictures: std::ops::Range<u64>, num_odd: usize) -> Dataset {
    let draw = |i: u64| Rng::new(1, Stream::Pictures, i);
    let images =
        pictures.clone().flat_map(|i| (0..192).map(move |at| draw(i).below(at, 256) as u8));
    let label = |i: usize| [f32::from(i >= num_odd), f32::from(i < num_odd)];
    let labels = (0..pictures.clone().count()).flat_map(label).collect();
    Dataset::from_raw(8, images.collect(), 2, labels).unwrap()
}

fn set(pictures: std::ops::Range<u64>) -> Set {
    Set::of(&dataset(pictures, 1), &Params::default())
}

/// A folder with the state of a fresh run on pictures 0 to 5.
fn kept(kind: StateKind, cancel: &Cancel) -> (TempDir, PathBuf, bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut outputs = Outputs::open_folder(folder.path()).unwrap();
    let ranks = ranks();
    let mut keeper = Keeper::new(set(0..5), kind).unwrap();
    keeper.announce(ranks.lead());
    let is_written = keeper.write(&mut outputs, &ranks, &Findings::default(), cancel).unwrap();
    let path = folder.path().join("state.safetensors");
    (folder, path, is_written)
}

fn restored(path: &Path, set: &Set, ranks: &mut Ranks) -> Result<(), StateError> {
    let Source::State(file) = resume::at(path)? else { return Err(StateError::NotOurs) };
    set.open(file)?.restore(ranks)?;
    Ok(())
}

#[test]
fn a_change_of_any_byte_is_refused() {
    for kind in [StateKind::Sealed, StateKind::Plain] {
        let (_folder, path, _) = kept(kind, &Cancel::default());
        let (set, mut ranks) = (set(0..5), ranks());
        let bytes = fs::read(&path).unwrap();
        assert!((20_000..200_000).contains(&bytes.len()), "{}", bytes.len());
        restored(&path, &set, &mut ranks).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let rng = Rng::new(2, Stream::Pictures, 0);
        for change in 0..10_000 {
            // a third in the header, which is short
            let range = if change % 3 == 0 { 400 } else { bytes.len() };
            let at = rng.below(2 * change, range);
            let value = bytes[at] ^ (1 + rng.below(2 * change + 1, 255) as u8);
            file.write_all_at(&[value], at as u64).unwrap();
            assert!(restored(&path, &set, &mut ranks).is_err(), "byte {at} is {value}");
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
        restored(&path, &set, &mut ranks).unwrap();
    }
}

#[test]
fn a_state_that_was_cut_or_grew_is_refused() {
    for kind in [StateKind::Sealed, StateKind::Plain] {
        let (_folder, path, _) = kept(kind, &Cancel::default());
        let (set, mut ranks) = (set(0..5), ranks());
        let bytes = fs::read(&path).unwrap();
        let cuts = (0..bytes.len()).step_by(997).chain([bytes.len() - 1]);
        for content in cuts.map(|len| bytes[..len].to_vec()).chain([[&bytes[..], b"\0"].concat()]) {
            fs::write(&path, &content).unwrap();
            assert!(restored(&path, &set, &mut ranks).is_err(), "{} bytes", content.len());
        }
    }
}

#[test]
fn one_picture_more_or_less_or_another_class_is_refused() {
    for kind in [StateKind::Sealed, StateKind::Plain] {
        let (_folder, path, _) = kept(kind, &Cancel::default());
        let refused = |set: &Set| restored(&path, set, &mut ranks()).unwrap_err();
        for pictures in [0..4, 0..6, 1..6] {
            assert!(matches!(refused(&set(pictures)), StateError::OtherPictures));
        }
        let other_class = Set::of(&dataset(0..5, 2), &Params::default());
        assert!(matches!(refused(&other_class), StateError::OtherLabels));
        let mirrored = Params { mirror: true, ..Params::default() };
        let text = refused(&Set::of(&dataset(0..5, 1), &mirrored)).to_string();
        assert!(text.contains("mirror: expected false"), "{text}");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let (_folder, path, _) = kept(StateKind::Sealed, &Cancel::default());
    let bytes = fs::read(&path).unwrap();
    let ours = env!("CARGO_PKG_VERSION");
    let header = String::from_utf8(bytes[8..400].to_vec());
    let at = 8 + String::from_utf8_lossy(&bytes[8..400])
        .find(ours)
        .unwrap_or_else(|| panic!("{header:?}"));
    let theirs = "9".repeat(ours.len());
    fs::write(&path, [&bytes[..at], theirs.as_bytes(), &bytes[at + ours.len()..]].concat())
        .unwrap();
    let text = restored(&path, &set(0..5), &mut ranks()).unwrap_err().to_string();
    assert!(text.contains(&theirs) && text.contains(ours), "{text}");
}

#[test]
fn nothing_of_the_content_can_be_read() {
    let (_folder, path, _) = kept(StateKind::Sealed, &Cancel::default());
    let (_other, plain, _) = kept(StateKind::Plain, &Cancel::default());
    let (sealed, plain) = (fs::read(path).unwrap(), fs::read(plain).unwrap());
    let tensors = safetensors::SafeTensors::deserialize(&plain).unwrap();
    assert!(tensors.tensor("d.b8.conv0.weight").is_ok() && tensors.tensor("blake3").is_ok());
    for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.data().len() >= 64) {
        let part = &tensor.data()[..64];
        let is_constant = part.windows(2).all(|pair| pair[0] == pair[1]);
        assert!(is_constant || !sealed.windows(64).any(|window| window == part), "{name}");
    }
    let names = safetensors::SafeTensors::deserialize(&sealed).unwrap();
    assert_eq!(names.names(), ["sealed"]);
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("mapping") && !text.contains("pl_mean"));
}

#[test]
fn a_write_that_is_given_up_leaves_the_one_before() {
    let due = Cancel { deadline: Some(std::time::Instant::now()), flag: None };
    let (folder, path, is_written) = kept(StateKind::Sealed, &due);
    assert!(!is_written && !path.exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn other_files_are_told_from_states() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let headers: [&[u8]; 5] = [
        b"",
        b"\x89PNG\r\n\x1a\n{",
        b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x08\0\0\0\0\0\0\0{\"a\":{}}",
    ];
    for content in headers {
        fs::write(&path, content).unwrap();
        assert!(matches!(resume::at(&path), Err(StateError::NotOurs)), "{content:?}");
    }
}
