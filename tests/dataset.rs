//! The set depends on the content of the files alone: not on names, mounts, archives, order.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/pictures.rs"]
mod pictures;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pictures::{gz, png, tar, zip, zip_streamed};
use stylegan2_c2d::data::{Asset, Cond, DataError, Dataset, LoadOptions, SkipReason, load, scan};
use zip::CompressionMethod;

fn options(cond: Cond) -> LoadOptions {
    LoadOptions { resolution: Some(16), cond, ..LoadOptions::default() }
}

fn load_assets(assets: &[Asset], options: &LoadOptions) -> Result<Dataset, DataError> {
    let stop = AtomicBool::new(false);
    let found = scan(assets, options, &stop)?;
    let set = load(assets, options, &found, &stop)?;
    assert_eq!(found.num_images(), set.len());
    assert_eq!(found.report(), set.report());
    assert_eq!(found.label_dim(), set.label_dim());
    Ok(set)
}

fn asset(root: &Path) -> Asset {
    Asset { roots: vec![root.to_path_buf()] }
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn assert_same(a: &Dataset, b: &Dataset) {
    assert_eq!((a.len(), a.resolution(), a.label_dim()), (b.len(), b.resolution(), b.label_dim()));
    for idx in 0..a.len() {
        assert!(a.image(idx).expose() == b.image(idx).expose());
        assert_eq!(a.label(idx), b.label(idx));
    }
}

fn label_counts(set: &Dataset) -> Vec<usize> {
    let mut counts = vec![0; set.label_dim()];
    for idx in 0..set.len() {
        let label = set.label(idx);
        assert_eq!(label.iter().sum::<f32>(), 1.0);
        counts[label.iter().position(|&value| value == 1.0).unwrap()] += 1;
    }
    counts
}

#[test]
fn any_mixture_of_the_same_files_is_the_same_set() {
    let p: Vec<Vec<u8>> = (0..8).map(|seed| png(seed, 24)).collect();
    let plain = folder(&[
        ("a.png", p[0].clone()),
        ("b.png", p[1].clone()),
        ("c.png", p[2].clone()),
        ("d.png", p[3].clone()),
        ("e.png", p[4].clone()),
        ("f.png", p[5].clone()),
        ("g.png", p[6].clone()),
        ("h.png", p[7].clone()),
    ]);
    let inner = zip(&[("0", p[4].clone()), ("deep/folder/x.jpg", p[7].clone())]);
    let descriptors = zip_streamed(&[("z", p[6].clone())], CompressionMethod::Deflated);
    let mixed = folder(&[
        ("1", p[3].clone()),
        ("sub/2.txt", p[2].clone()),
        ("3.bin", zip(&[("x.png", p[5].clone()), ("y/inner", gz(&tar(&[("q", p[0].clone())])))])),
        ("4.png", gz(&tar(&[("i.zip", inner), ("stream.zip", descriptors)]))),
        ("5", tar(&[("w", p[1].clone()), ("again", p[3].clone())])),
        ("6", gz(&p[2])),
    ]);
    let a = load_assets(&[asset(plain.path())], &options(Cond::Off)).unwrap();
    let b = load_assets(&[asset(mixed.path())], &options(Cond::Off)).unwrap();
    assert_eq!(a.len(), 8);
    assert_same(&a, &b);
    assert_eq!((a.report().num_duplicates, b.report().num_duplicates), (0, 2));
    assert_eq!(b.report().num_archives, 6);
    assert_eq!(b.report().skipped.total(), 0);

    let split: Vec<Asset> =
        fs::read_dir(plain.path()).unwrap().map(|entry| asset(&entry.unwrap().path())).collect();
    assert_same(&a, &load_assets(&split, &options(Cond::Off)).unwrap());
}

#[test]
fn long_names_in_tars_are_read() {
    let long = format!("{}/{}.png", "d".repeat(150), "n".repeat(200));
    let root = folder(&[("t", tar(&[(&long, png(1, 8)), ("short", png(2, 8))]))]);
    let set = load_assets(&[asset(root.path())], &options(Cond::Off)).unwrap();
    assert_eq!(set.len(), 2);
}

#[test]
fn renamed_folders_are_the_same_classes() {
    let p: Vec<Vec<u8>> = (0..5).map(|seed| png(seed, 16)).collect();
    let class_of = |names: [&str; 2]| {
        let files: Vec<(String, Vec<u8>)> = (0..5)
            .map(|i| (format!("set/{}/{i}", names[usize::from(i >= 2)]), p[i].clone()))
            .collect();
        let files: Vec<(&str, Vec<u8>)> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        zip(&files)
    };
    let (cats, dogs) =
        (folder(&[("x", class_of(["cats", "dogs"]))]), folder(&[("y", class_of(["z", "a"]))]));
    let a = load_assets(&[asset(cats.path())], &options(Cond::Folders)).unwrap();
    let b = load_assets(&[asset(dogs.path())], &options(Cond::Auto)).unwrap();
    assert_same(&a, &b);
    let mut counts = label_counts(&a);
    assert_eq!(a.report().class_counts, counts);
    counts.sort_unstable();
    assert_eq!(counts, [2, 3]);
}

#[test]
fn assets_in_any_order_are_the_same_classes() {
    let (a, b) = (folder(&[("1", png(1, 16)), ("2", png(2, 16))]), folder(&[("3", png(3, 16))]));
    let empty = folder(&[("4", vec![])]);
    let assets = [a.path(), b.path(), empty.path()].map(asset);
    let there = load_assets(&assets, &options(Cond::Assets)).unwrap();
    let back: Vec<Asset> = assets.into_iter().rev().collect();
    assert_same(&there, &load_assets(&back, &options(Cond::Auto)).unwrap());
    assert_eq!(there.label_dim(), 2);
    assert!(matches!(
        load_assets(&back[1..2], &options(Cond::Assets)),
        Err(DataError::TooFewClasses { count: 1 })
    ));
}

#[test]
fn a_picture_in_two_classes_goes_to_the_same_one_always() {
    let [x, y, z] = [1, 2, 3].map(|seed| png(seed, 16));
    let one =
        folder(&[("a/1", x.clone()), ("a/2", y.clone()), ("b/1", x.clone()), ("b/2", z.clone())]);
    let two = folder(&[("q/1", x.clone()), ("q/2", z), ("p/1", x), ("p/2", y)]);
    let one = load_assets(&[asset(one.path())], &options(Cond::Folders)).unwrap();
    let two = load_assets(&[asset(two.path())], &options(Cond::Folders)).unwrap();
    assert_same(&one, &two);
    assert_eq!(one.report().num_duplicates, 1);
}

fn labelled(json: &str, cond: Cond) -> Result<Dataset, DataError> {
    let root = folder(&[(
        "set.zip",
        zip(&[
            ("00000/img00000000.png", png(1, 16)),
            ("00000/img00000001.png", png(2, 16)),
            ("dataset.json", json.into()),
        ]),
    )]);
    load_assets(&[asset(root.path())], &options(cond))
}

#[test]
fn integers_of_dataset_json_are_one_hot() {
    let json = r#"{"labels": [["00000/img00000001.png", 2], ["00000/img00000000.png", 0]]}"#;
    let set = labelled(json, Cond::Labels).unwrap();
    assert_eq!(set.label_dim(), 3);
    assert_eq!(label_counts(&set), [1, 0, 1]);
    assert_same(&set, &labelled(json, Cond::Auto).unwrap());
    assert_eq!(labelled(json, Cond::Off).unwrap().label_dim(), 0);
}

#[test]
fn vectors_of_dataset_json_are_kept() {
    let json = r#"{"x": 1, "labels": [["00000/img00000001.png", [1, -0.5]],
                  ["./00000/img00000000.png", [0.25, 4e3]]]}"#;
    let set = labelled(json, Cond::Auto).unwrap();
    let mut labels = [set.label(0), set.label(1)];
    labels.sort_by(|a, b| a[0].total_cmp(&b[0]));
    assert_eq!(labels, [[0.25, 4000.0], [1.0, -0.5]]);
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let refused = |json, cond| labelled(json, cond).err().unwrap();
    let one = r#"{"labels": [["00000/img00000001.png", 2]]}"#;
    assert!(matches!(refused(one, Cond::Labels), DataError::Unlabelled { count: 1 }));
    let mixed = r#"{"labels": [["00000/img00000001.png", 2], ["00000/img00000000.png", [1.0]]]}"#;
    assert!(matches!(refused(mixed, Cond::Labels), DataError::MixedLabels));
    let huge =
        r#"{"labels": [["00000/img00000001.png", 4000000000], ["00000/img00000000.png", 0]]}"#;
    assert!(matches!(refused(huge, Cond::Labels), DataError::LabelDim { .. }));
    let empty = r#"{"labels": [["00000/img00000001.png", []], ["00000/img00000000.png", []]]}"#;
    assert!(matches!(refused(empty, Cond::Labels), DataError::LabelDim { dim: 0, .. }));
    assert!(matches!(refused(r#"{"labels": null}"#, Cond::Labels), DataError::NoLabels));
    assert!(matches!(refused(r#"{"labels": null}"#, Cond::Auto), DataError::NoClasses));
    assert!(matches!(refused("{}", Cond::Folders), DataError::LooseImages { count: 2 }));
    let deep = "[".repeat(100_000);
    for broken in ["7", r#"{"labels": [["a", -1]]}"#, r#"{"labels": [["a", 1e999]]}"#, &deep] {
        assert!(matches!(refused(broken, Cond::Labels), DataError::BrokenLabels), "{broken:.20}");
        assert!(labelled(broken, Cond::Off).is_ok());
    }
}

#[test]
fn a_dataset_json_reaches_its_own_container_only() {
    let json = br#"{"labels": [["a", 0], ["b", 1]]}"#.to_vec();
    let pictures = [("a", png(1, 16)), ("b", png(2, 16))];
    let beside = folder(&[("dataset.json", json), ("set.zip", zip(&pictures))]);
    assert!(matches!(
        load_assets(&[asset(beside.path())], &options(Cond::Labels)),
        Err(DataError::Unlabelled { count: 2 })
    ));
}

#[test]
fn a_set_over_half_of_the_memory_is_refused() {
    let files: Vec<(String, Vec<u8>)> = (0..40).map(|i| (i.to_string(), png(i, 64))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let root = folder(&files);
    let assets = [asset(root.path())];
    let with = |limit| LoadOptions { memory_limit: Some(limit), ..LoadOptions::default() };
    let whole = 2 * 40 * 3 * 64 * 64;
    assert_eq!(load_assets(&assets, &with(2 * whole)).unwrap().resolution(), 64);
    let stop = AtomicBool::new(false);
    let err = scan(&assets, &LoadOptions { resolution: Some(128), ..with(2 * whole) }, &stop);
    assert!(matches!(err, Err(DataError::TooLargeForMemory { largest_resolution: 64 })));
}

#[test]
fn the_report_is_numbers_and_reasons() {
    let root = folder(&[
        ("secretname.png", png(1, 16)),
        ("secretdir/secretname2", zip(&[("secretname3", png(2, 40)), ("secretname4", vec![])])),
    ]);
    let set = load_assets(&[asset(root.path())], &options(Cond::Off)).unwrap();
    let shown = format!("{}\n{:?}", set.report(), set.report());
    assert!(shown.contains("1 empty files"));
    assert!(!shown.contains("secret"));
}

#[test]
fn the_same_set_for_any_number_of_threads() {
    let files: Vec<(String, Vec<u8>)> = (0..30).map(|i| (i.to_string(), png(i, 20))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let root = folder(&files);
    let sets: Vec<Dataset> = [1, 7]
        .map(|num_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
            pool.install(|| load_assets(&[asset(root.path())], &options(Cond::Off))).unwrap()
        })
        .into();
    assert_same(&sets[0], &sets[1]);
}

#[test]
fn a_file_gone_between_the_passes_is_left_out() {
    let root = folder(&[("a", png(1, 16)), ("b", png(2, 16)), ("c", png(3, 16))]);
    let assets = [asset(root.path())];
    let stop = AtomicBool::new(false);
    let found = scan(&assets, &options(Cond::Off), &stop).unwrap();
    let gone: PathBuf = root.path().join("b");
    fs::remove_file(gone).unwrap();
    let set = load(&assets, &options(Cond::Off), &found, &stop).ok().unwrap();
    assert_eq!((set.len(), set.report().skipped.total()), (2, 1));
}

#[test]
fn a_name_makes_no_difference_to_what_a_file_is() {
    let root =
        folder(&[("dataset.json", png(1, 16)), ("a.zip", png(2, 16)), (".hidden", png(3, 16))]);
    let set = load_assets(&[asset(root.path())], &options(Cond::Off)).unwrap();
    assert_eq!((set.len(), set.report().skipped.count(SkipReason::Hidden)), (2, 1));
    let pointed_at = asset(&root.path().join(".hidden"));
    assert_eq!(load_assets(&[pointed_at], &options(Cond::Off)).unwrap().len(), 1);
}
