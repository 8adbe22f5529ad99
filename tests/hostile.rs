//! Input made to break the reader: each is skipped or refused under its reason, nothing hangs,
//! and no message names anything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/pictures.rs"]
mod pictures;

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use pictures::{gz, png, tar, zip, zip_streamed};
use stylegan2_c2d::data::{
    Asset, Cond, DataError, Dataset, LoadOptions, SkipReason, Skipped, load, scan,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Part of every name here, of folders too; no message may contain it.
const NAME: &str = "Zqx7";

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(NAME).tempdir().unwrap()
}

fn load_path(path: &Path) -> Result<Dataset, DataError> {
    let assets = [Asset { roots: vec![path.to_path_buf()] }];
    let options = LoadOptions { resolution: Some(8), ..LoadOptions::default() };
    let stop = AtomicBool::new(false);
    let loaded =
        scan(&assets, &options, &stop).and_then(|found| load(&assets, &options, &found, &stop));
    let said = match &loaded {
        Ok(set) => format!("{} {:?}", set.report(), set.report()),
        Err(err) => format!("{err} {err:?}"),
    };
    assert!(!said.contains(NAME), "a name leaked");
    loaded
}

fn load_bytes(bytes: &[u8]) -> Result<Dataset, DataError> {
    let root = folder();
    fs::write(root.path().join(format!("{NAME}.png")), bytes).unwrap();
    load_path(root.path())
}

/// What is skipped of `bytes` beside one good picture, which must come through.
fn skipped(bytes: &[u8]) -> Skipped {
    let root = folder();
    fs::write(root.path().join(format!("{NAME}.png")), bytes).unwrap();
    fs::write(root.path().join("good"), png(200, 8)).unwrap();
    let set = load_path(root.path()).ok().unwrap();
    assert_eq!(set.len(), 1);
    set.report().skipped.clone()
}

fn assert_skipped(bytes: &[u8], reason: SkipReason) {
    let skipped = skipped(bytes);
    assert_eq!((skipped.count(reason), skipped.total()), (1, 1), "{skipped}");
}

fn fixtures() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images");
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension() != Some(OsStr::new("json"))).collect()
}

/// What lies beyond the cut may be padding or a second frame; then the picture is the whole one.
#[test]
fn a_cut_picture_is_skipped_or_the_whole_one() {
    for path in fixtures() {
        let bytes = fs::read(&path).unwrap();
        let root = folder();
        for i in 1..16 {
            let cut = &bytes[..bytes.len() * i / 16];
            fs::write(root.path().join(format!("{NAME}{i}")), cut).unwrap();
        }
        fs::write(root.path().join("whole"), &bytes).unwrap();
        let whole = load_path(&path).ok().unwrap();
        let cuts = load_path(root.path()).ok().unwrap();
        for idx in 0..cuts.len() {
            assert!(cuts.image(idx).expose() == whole.image(0).expose(), "{}", path.display());
        }
    }
}

#[test]
fn a_cut_archive_gives_whole_pictures_or_none() {
    let entries: Vec<(String, Vec<u8>)> =
        (0..6).map(|i| (format!("{NAME}{i}"), png(i, 20))).collect();
    let entries: Vec<(&str, Vec<u8>)> =
        entries.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let whole = load_bytes(&zip(&entries)).ok().unwrap();
    let images: Vec<&[u8]> = (0..whole.len()).map(|idx| *whole.image(idx).expose()).collect();
    let inner = [("zip", zip(&entries))];
    let streamed = [("zip", zip_streamed(&entries, CompressionMethod::Deflated))];
    for archive in [
        zip(&entries),
        tar(&entries),
        gz(&tar(&entries)),
        gz(&zip(&entries)),
        tar(&inner),
        zip(&inner),
        gz(&tar(&streamed)),
    ] {
        assert_eq!(load_bytes(&archive).ok().unwrap().len(), 6);
        for i in 1..16 {
            match load_bytes(&archive[..archive.len() * i / 16]) {
                Ok(set) => {
                    assert!((0..set.len()).all(|idx| images.contains(set.image(idx).expose())));
                }
                Err(err) => assert!(matches!(err, DataError::NoImages { .. })),
            }
        }
    }
}

/// Every bit of the first bytes and some of the rest: no panic gets out, no hang.
#[test]
fn flipped_bits_break_one_file_only() {
    for path in fixtures() {
        let bytes = fs::read(&path).unwrap();
        let root = folder();
        fs::write(root.path().join("good"), png(200, 8)).unwrap();
        for i in 0..64 {
            let at = if i < 48 { i } else { (i * 7919) % bytes.len() };
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (i % 8);
            fs::write(root.path().join(format!("{NAME}{i}")), flipped).unwrap();
        }
        assert!(load_path(root.path()).is_ok_and(|set| !set.is_empty()));
    }
}

#[test]
fn flipped_bits_of_archives_do_not_get_out() {
    let entries = [("a", png(1, 16)), ("b", png(2, 16)), ("z", zip(&[("c", png(3, 16))]))];
    for archive in [zip(&entries), tar(&entries), gz(&tar(&entries))] {
        for at in (0..archive.len()).step_by(archive.len() / 97 + 1) {
            let mut flipped = archive.clone();
            flipped[at] ^= 0x81;
            let loaded = load_bytes(&flipped);
            assert!(matches!(loaded, Ok(_) | Err(DataError::NoImages { .. })));
        }
    }
}

#[test]
fn giant_declared_sizes_are_refused() {
    let mut bomb = png(1, 8);
    bomb[16..24].copy_from_slice(&[0, 0, 0x7f, 0xff, 0, 0, 0x7f, 0xff]);
    let mut crc = flate2::Crc::new();
    crc.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    assert_skipped(&bomb, SkipReason::TooManyPixels);

    let file = |name| fixtures().into_iter().find(|path| path.ends_with(name)).unwrap();
    for (name, at, size) in [
        ("two_frames.gif", 6, vec![0xff; 4]),
        ("rgb.bmp", 18, vec![0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]),
    ] {
        let mut bytes = fs::read(file(name)).unwrap();
        bytes[at..at + size.len()].copy_from_slice(&size);
        assert_skipped(&bytes, SkipReason::TooManyPixels);
    }
    // A JPEG frame header of 65535 x 65535.
    let mut bytes = fs::read(file("rgb.jpg")).unwrap();
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[at + 5..at + 9].fill(0xff);
    assert_skipped(&bytes, SkipReason::TooManyPixels);
}

/// Bytes that start as a picture and go on with zeros.
fn swollen(num_bytes: usize) -> Vec<u8> {
    let mut bytes = png(1, 8);
    bytes.resize(num_bytes, 0);
    bytes
}

#[test]
fn bombs_are_cut_off() {
    let swollen = swollen(200 << 20);
    for bomb in [
        zip(&[(NAME, swollen.clone())]),
        gz(&swollen),
        gz(&tar(&[(NAME, swollen.clone())])),
        gz(&tar(&[("skipped", vec![1; 200 << 20])])),
        tar(&[("zip", zip_streamed(&[(NAME, swollen)], CompressionMethod::Deflated))]),
    ] {
        assert!(bomb.len() < 3 << 20);
        assert_eq!(skipped(&bomb).count(SkipReason::Bomb), 1);
    }
}

#[test]
fn a_tar_header_longer_than_names_are_is_not_taken() {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_path("@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    archive.append(&header, vec![b'a'; 1 << 20].as_slice()).unwrap();
    let picture = png(1, 8);
    let mut header = tar::Header::new_gnu();
    header.set_size(picture.len() as u64);
    header.set_cksum();
    archive.append_data(&mut header, "short", picture.as_slice()).unwrap();
    assert_eq!(load_bytes(&archive.into_inner().unwrap()).ok().unwrap().len(), 1);
}

#[test]
fn archives_nest_once() {
    let once = zip(&[(NAME, png(1, 8))]);
    let twice = zip(&[(NAME, once.clone())]);
    let thrice = zip(&[(NAME, twice.clone())]);
    assert_eq!(load_bytes(&once).ok().unwrap().len(), 1);
    assert_eq!(load_bytes(&twice).ok().unwrap().len(), 1);
    assert_skipped(&thrice, SkipReason::NestedArchive);
    assert_skipped(&gz(&tar(&[("a", twice)])), SkipReason::NestedArchive);
    assert_skipped(&gz(&gz(&gz(&gz(&png(1, 8))))), SkipReason::NestedArchive);
}

#[test]
fn a_zip_that_cannot_be_streamed_has_its_own_reason() {
    let stored = zip_streamed(&[(NAME, png(1, 8))], CompressionMethod::Stored);
    assert_eq!(load_bytes(&stored).ok().unwrap().len(), 1);
    assert_skipped(&tar(&[("a", stored)]), SkipReason::Unstreamable);
}

#[test]
fn zips_with_passwords_or_other_methods_are_told_apart() {
    let archive = zip(&[(NAME, png(1, 8))]);
    let central = archive.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
    let patched = |local_at: usize, central_at: usize, value: u8| {
        let mut bytes = archive.clone();
        bytes[local_at] |= value;
        bytes[central + central_at] |= value;
        bytes
    };
    let (encrypted, method) = (patched(6, 8, 1), patched(8, 10, 93));
    assert_skipped(&encrypted, SkipReason::Encrypted);
    assert_skipped(&method, SkipReason::ZipMethod);
    assert_skipped(&tar(&[("a", encrypted)]), SkipReason::Encrypted);
    assert_skipped(&tar(&[("a", method)]), SkipReason::ZipMethod);
}

#[test]
fn links_and_special_files_are_left_alone() {
    let (root, outside) = (folder(), folder());
    let at = |name: &str| root.path().join(format!("{NAME}{name}"));
    fs::write(at("good"), png(1, 8)).unwrap();
    fs::write(outside.path().join("x"), png(2, 8)).unwrap();
    symlink(outside.path().join("x"), at("file link")).unwrap();
    symlink(outside.path(), at("folder link")).unwrap();
    symlink(root.path(), at("loop")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let set = load_path(root.path()).ok().unwrap();
    let skipped = &set.report().skipped;
    assert_eq!(set.len(), 1);
    assert_eq!((skipped.count(SkipReason::Link), skipped.count(SkipReason::SpecialFile)), (3, 2));
    assert!(matches!(load_path(&at("pipe")), Err(DataError::NoImages { .. })));
    assert!(matches!(load_path(&at("missing")), Err(DataError::NoImages { .. })));
}

#[test]
fn links_in_archives_are_left_alone() {
    let mut archive = tar::Builder::new(Vec::new());
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        archive.append_link(&mut header, NAME, "/etc/passwd").unwrap();
    }
    let skipped_of_tar = skipped(&archive.into_inner().unwrap());
    assert_eq!(skipped_of_tar.count(SkipReason::Link), 2);
    assert_eq!(skipped_of_tar.count(SkipReason::SpecialFile), 1);

    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.add_symlink(NAME, "/etc/passwd", SimpleFileOptions::default()).unwrap();
    assert_skipped(&archive.finish().unwrap().into_inner(), SkipReason::Link);
}

#[test]
fn odd_names_are_only_bytes() {
    let root = folder();
    let names: [&[u8]; 5] =
        [b"\xff\xfe", b"new\nline", b"\x1b[31m", b"a\\b", "\u{202e}gnp".as_bytes()];
    for (i, name) in names.iter().enumerate() {
        fs::write(root.path().join(OsStr::from_bytes(name)), png(i as u8, 8)).unwrap();
    }
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (i, name) in ["../../up", "/etc/absolute", "C:\\x\\y", "..\\..\\z"].iter().enumerate() {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(&png(i as u8 + 100, 8)).unwrap();
    }
    fs::write(root.path().join("zip"), archive.finish().unwrap().into_inner()).unwrap();
    let set = load_path(root.path()).ok().unwrap();
    assert_eq!((set.len(), set.report().skipped.total()), (9, 0));
}

#[test]
fn what_is_no_picture_has_its_reason() {
    use SkipReason as R;
    let cases: [(&[u8], R); 14] = [
        (b"", R::Empty),
        (b"plain text", R::NotAnImage),
        (b"{\"a\": 1}", R::NotAnImage),
        (b"<!DOCTYPE html><title>Log in</title>", R::HtmlPage),
        (b"\xfd7zXZ\0rest", R::Xz),
        (b"\x28\xb5\x2f\xfdrest", R::Zstd),
        (b"BZh91AY", R::Bzip2),
        (b"7z\xbc\xaf\x27\x1c", R::SevenZip),
        (b"Rar!\x1a\x07\x01\0", R::Rar),
        (b"\0\0\0\x18ftypheic", R::UnsupportedImage),
        (b"\x89PNG\r\n\x1a\n", R::BrokenImage),
        (b"\xff\xd8\xff\xd9", R::BrokenImage),
        (b"PK\x03\x04rest", R::BrokenArchive),
        (b"\x1f\x8brest", R::BrokenArchive),
    ];
    for (bytes, reason) in cases {
        assert_skipped(bytes, reason);
    }
    let hidden =
        zip(&[("__MACOSX/._a.png", png(1, 8)), (".DS_Store", vec![1]), ("a/.b/c", png(2, 8))]);
    assert_eq!(skipped(&hidden).count(R::Hidden), 3);
}

#[test]
fn a_web_page_alone_has_its_own_message() {
    let page = b"\n<html><body>expired</body></html>";
    assert!(matches!(load_bytes(page), Err(DataError::HtmlPage)));
    assert!(matches!(load_bytes(&gz(page)), Err(DataError::HtmlPage)));
    let with_text = zip(&[(NAME, page.to_vec()), ("b", b"text".to_vec())]);
    match load_bytes(&with_text) {
        Err(err @ DataError::NoImages { .. }) => {
            assert!(
                err.to_string().contains("web pages") || err.to_string().contains("not pictures")
            );
        }
        _ => panic!("expected no images"),
    }
}

#[test]
fn folders_too_deep_are_counted() {
    let root = folder();
    let deep: PathBuf = std::iter::repeat_n(NAME, 60).collect();
    fs::create_dir_all(root.path().join(&deep)).unwrap();
    fs::write(root.path().join(&deep).join("a"), png(1, 8)).unwrap();
    let long_path = format!("{}a", "x/".repeat(60));
    fs::write(root.path().join("zip"), zip(&[(&long_path, png(2, 8))])).unwrap();
    fs::write(root.path().join("good"), png(3, 8)).unwrap();
    let set = load_path(root.path()).ok().unwrap();
    assert_eq!((set.len(), set.report().skipped.count(SkipReason::TooDeep)), (1, 2));
}

#[test]
fn a_set_flag_stops_both_passes() {
    let root = folder();
    fs::write(root.path().join("a"), zip(&[(NAME, png(1, 8))])).unwrap();
    let assets = [Asset { roots: vec![root.path().to_path_buf()] }];
    let options = LoadOptions { cond: Cond::Off, ..LoadOptions::default() };
    let (stop, go) = (AtomicBool::new(true), AtomicBool::new(false));
    assert!(matches!(scan(&assets, &options, &stop), Err(DataError::Stopped)));
    let found = scan(&assets, &options, &go).unwrap();
    assert!(matches!(load(&assets, &options, &found, &stop), Err(DataError::Stopped)));
}

/// Entries that all point to the same data unpack to far more than the file holds.
#[test]
fn a_zip_of_overlapping_entries_is_a_bomb() {
    let archive = zip(&[("aaaa", swollen(1 << 20))]);
    let central = archive.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
    let end = archive.windows(4).position(|magic| magic == b"PK\x05\x06").unwrap();
    let (data, entry, tail) = (&archive[..central], &archive[central..end], &archive[end..]);
    let count: u16 = 2000;
    let mut bomb = [data, &entry.repeat(usize::from(count)), tail].concat();
    let end = bomb.len() - tail.len();
    bomb[end + 8..end + 10].copy_from_slice(&count.to_le_bytes());
    bomb[end + 10..end + 12].copy_from_slice(&count.to_le_bytes());
    let directory = (entry.len() * usize::from(count)) as u32;
    bomb[end + 12..end + 16].copy_from_slice(&directory.to_le_bytes());
    let loaded = load_bytes(&bomb);
    // The first copy is a sound picture with zeros behind; what matters is that it ends.
    match loaded {
        Ok(set) => assert_eq!((set.len(), set.report().skipped.count(SkipReason::Bomb)), (1, 1)),
        Err(err) => assert!(err.to_string().contains("far more than their size")),
    }
}
