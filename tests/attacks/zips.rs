//! Zips: bombs, lies about sizes and places, links, names, passwords, nests.

use std::io::Cursor;

use stylegan2_c2d::data::SkipReason::{
    Bomb, BrokenArchive, BrokenImage, Empty, Encrypted, Hidden, Link, NestedArchive, NotAnImage,
    TooDeep, Unstreamable, ZipMethod,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::attack::{Attack, loads, noise, partly, patched, skips};
use crate::pictures::{png, tar, zip, zip_streamed};

/// Bytes that start as a picture and go on with zeros.
pub(crate) fn swollen(num_bytes: usize) -> Vec<u8> {
    let mut bytes = png(1, 8);
    bytes.resize(num_bytes, 0);
    bytes
}

fn find(bytes: &[u8], signature: &[u8]) -> usize {
    bytes.windows(4).position(|window| window == signature).unwrap()
}

/// A zip of one picture with bits set in its local header and in its directory.
fn marked(seed: u8, [local, central]: [usize; 2], bits: u8) -> Vec<u8> {
    let mut bytes = zip(&[("a", png(seed, 8))]);
    let directory = find(&bytes, b"PK\x01\x02");
    bytes[local] |= bits;
    bytes[directory + central] |= bits;
    bytes
}

/// Many entries of a directory that all mean the same data.
fn overlapping(count: u16) -> Vec<u8> {
    let archive = zip(&[("aaaa", swollen(1 << 20))]);
    let (central, end) = (find(&archive, b"PK\x01\x02"), find(&archive, b"PK\x05\x06"));
    let entries = archive[central..end].repeat(usize::from(count));
    let length = (entries.len() as u32).to_le_bytes();
    let tail = patched(&archive[end..], 8, &[count.to_le_bytes(), count.to_le_bytes()].concat());
    [&archive[..central], &entries, &patched(&tail, 12, &length)].concat()
}

fn empties(count: usize) -> Vec<u8> {
    let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    let entries: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), vec![])).collect();
    zip(&entries)
}

pub(crate) fn zips() -> Vec<Attack> {
    [contents(), lies()].into_iter().flatten().collect()
}

/// Sound archives of what is not taken, or not all of it.
fn contents() -> Vec<Attack> {
    let stored = zip_streamed(&[("a", png(102, 8))], CompressionMethod::Stored);
    let nested = |seed| zip(&[("a", zip(&[("b", png(seed, 8))]))]);
    let mut link = ZipWriter::new(Cursor::new(Vec::new()));
    link.add_symlink("a", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    let names = [
        "../../up",
        "/etc/absolute",
        "C:\\x\\y",
        "..\\..\\z",
        "a\u{202e}gnp",
        "con",
        "x\ny",
        &"n".repeat(60_000),
    ];
    let names: Vec<(&str, Vec<u8>)> =
        (103..).zip(names).map(|(seed, name)| (name, png(seed, 8))).collect();
    vec![
        skips("zip: 200 MB of zeros", zip(&[("a", swollen(200 << 20))]), Bomb),
        partly("zip: entries that overlap", overlapping(2000), 1, &[Bomb]),
        skips("zip: a password", marked(111, [6, 8], 1), Encrypted),
        skips("zip: method 93", marked(112, [8, 10], 93), ZipMethod),
        skips("zip: a password, inside a tar", tar(&[("a", marked(113, [6, 8], 1))]), Encrypted),
        skips("zip: a link", link.finish().unwrap().into_inner(), Link),
        partly("zip: names that lead elsewhere", zip(&names), 8, &[]),
        partly(
            "zip: one name for all",
            [zip(&[("A", png(114, 8)), ("a", png(115, 8))])].concat(),
            2,
            &[],
        ),
        skips("zip: nested twice more", zip(&[("a", nested(116))]), NestedArchive),
        skips("zip: a stream that has no end", tar(&[("a", stored)]), Unstreamable),
        partly(
            "zip: hidden entries",
            zip(&[
                ("__MACOSX/._a.png", png(118, 8)),
                (".DS_Store", vec![1]),
                ("a/.b/c", png(119, 8)),
            ]),
            0,
            &[Hidden; 3],
        ),
        partly(
            "zip: folders 60 deep",
            zip(&[(&format!("{}a", "x/".repeat(60)), png(120, 8))]),
            0,
            &[TooDeep],
        ),
        partly(
            "zip: a file for a folder",
            zip(&[("a/", vec![]), ("a/b", png(121, 8)), ("a", png(122, 8))]),
            2,
            &[],
        ),
        partly("zip: 9,000 empty entries", empties(9000), 0, &[Empty; 9000]),
    ]
}

/// Archives that are not what they say.
fn lies() -> Vec<Attack> {
    let good = zip(&[("a", png(101, 8))]);
    let (central, end) = (find(&good, b"PK\x01\x02"), find(&good, b"PK\x05\x06"));
    let other = zip(&[("a", png(100, 8))]);
    let other_size = find(&other, b"PK\x01\x02") + 20;
    vec![
        skips("zip: no directory", good[..central].to_vec(), BrokenArchive),
        skips("zip: no end", good[..end].to_vec(), BrokenArchive),
        skips(
            "zip: a directory behind the end",
            patched(&good, end + 16, &[255, 255, 255, 127]),
            BrokenArchive,
        ),
        skips(
            "zip: data behind the end",
            patched(&good, central + 42, &[255, 255, 255, 127]),
            BrokenArchive,
        ),
        skips(
            "zip: 65535 entries that are not there",
            patched(&good, end + 8, &[255; 4]),
            BrokenArchive,
        ),
        loads("zip: a size of 4 GiB", patched(&other, other_size, &[254, 255, 255, 255])),
        skips("zip: noise for deflate", patched(&good, 31, &noise(40)), BrokenImage),
        skips("zip: noise", [b"PK\x03\x04".as_slice(), &noise(4000)].concat(), BrokenArchive),
        skips(
            "zip: 2 MB of false ends",
            [&good[..], &b"PK\x05\x06".repeat(500_000)].concat(),
            BrokenArchive,
        ),
        partly(
            "zip: a comment that holds a zip",
            [&good[..end], &patched(&good[end..], 20, &[4, 0]), b"PK\x03\x04"].concat(),
            1,
            &[],
        ),
        partly(
            "zip: behind noise",
            [noise(3000), zip(&[("a", png(117, 8))])].concat(),
            0,
            &[NotAnImage],
        ),
    ]
}
