//! Tar, gzip, and archives that are not read: bombs, lies about sizes, links, devices, names.

use std::io::Write;
use std::path::Path;

use stylegan2_c2d::data::SkipReason::{
    Bomb, BrokenArchive, BrokenImage, Bzip2, Empty, Link, NestedArchive, NotAnImage, Rar, SevenZip,
    SpecialFile, TooManyBytes, Xz, Zstd,
};
use tar::{EntryType, Header};
use zip::CompressionMethod;

use crate::attack::{Attack, loads, noise, partly, patched, skips};
use crate::pictures::{gz, png, tar, zip, zip_streamed};
use crate::zips::swollen;

/// A tar of one entry of a kind, with a size that is said and data that are there.
fn entry(kind: EntryType, size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_path("a").unwrap();
    header.set_size(size);
    header.set_cksum();
    let padding = vec![0; data.len().next_multiple_of(512) - data.len()];
    [header.as_bytes(), data, &padding].concat()
}

fn link(kind: EntryType, target: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    archive.append_link(&mut header, "a", Path::new(target)).unwrap();
    archive.into_inner().unwrap()
}

fn whole(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn picture(seed: u8) -> Vec<u8> {
    let picture = png(seed, 8);
    entry(EntryType::Regular, picture.len() as u64, &picture)
}

pub(crate) fn tars() -> Vec<Attack> {
    [kinds(), sizes_and_names()].into_iter().flatten().collect()
}

/// Entries that are no files.
fn kinds() -> Vec<Attack> {
    vec![
        skips("tar: a link to the users", link(EntryType::Symlink, "/etc/passwd"), Link),
        skips("tar: a hard link to the users", link(EntryType::Link, "/etc/passwd"), Link),
        skips("tar: a link to itself", link(EntryType::Symlink, "a"), Link),
        skips("tar: a device of characters", whole(&[entry(EntryType::Char, 0, &[])]), SpecialFile),
        skips("tar: a device of blocks", whole(&[entry(EntryType::Block, 0, &[])]), SpecialFile),
        skips("tar: a pipe", whole(&[entry(EntryType::Fifo, 0, &[])]), SpecialFile),
        skips(
            "tar: a sparse file",
            whole(&[entry(EntryType::GNUSparse, 512, &[1; 512])]),
            SpecialFile,
        ),
        partly(
            "tar: an entry of an unknown kind",
            whole(&[entry(EntryType::new(b'Z'), 0, &[]), picture(131)]),
            1,
            &[SpecialFile],
        ),
    ]
}

fn sizes_and_names() -> Vec<Attack> {
    let end = [0; 1024];
    let pax = |record: &[u8]| entry(EntryType::XHeader, record.len() as u64, record);
    let good = tar(&[("a", png(130, 8))]);
    let mut negative = Header::new_gnu();
    negative.set_path("a").unwrap();
    negative.as_mut_bytes()[124..136].fill(0xff);
    negative.set_cksum();
    vec![
        partly(
            "tar: a size by pax that lies",
            whole(&[pax(b"18 size=999999999\n"), picture(132)]),
            1,
            &[],
        ),
        partly(
            "tar: a path by pax that leads up",
            whole(&[pax(b"24 path=../../../../etc\n"), picture(133)]),
            1,
            &[],
        ),
        partly("tar: pax of noise", whole(&[pax(&noise(700)), picture(134)]), 1, &[]),
        partly("tar: pax of 1 MB", whole(&[pax(&[b'1'; 1 << 20]), picture(135)]), 1, &[]),
        partly(
            "tar: a name of 1 MB",
            whole(&[entry(EntryType::GNULongName, 1 << 20, &vec![b'a'; 1 << 20]), picture(136)]),
            1,
            &[],
        ),
        partly(
            "tar: 500 long names and no entry",
            whole(&vec![entry(EntryType::GNULongName, 9, b"long-name"); 500]),
            0,
            &[],
        ),
        skips("tar: a size below zero", whole(&[negative.as_bytes().to_vec()]), BrokenArchive),
        partly(
            "tar: a size of 8 GiB",
            whole(&[entry(EntryType::Regular, 0o77_777_777_777, &png(137, 8))]),
            0,
            &[TooManyBytes, BrokenArchive],
        ),
        partly(
            "tar: an entry that is cut off",
            good[..600].to_vec(),
            0,
            &[BrokenImage, BrokenArchive],
        ),
        partly(
            "tar: a broken header behind a sound one",
            [&good[..good.len() - 1024], &noise(512), &end].concat(),
            1,
            &[BrokenArchive],
        ),
        partly("tar: no end", picture(129), 1, &[]),
        partly(
            "tar: names that lead elsewhere",
            tar_named(&["../../up", "/absolute", "./././x", "a/../../b"]),
            4,
            &[],
        ),
    ]
}

/// Names that the library would refuse to write.
fn tar_named(names: &[&str]) -> Vec<u8> {
    let entries = (140..).zip(names).map(|(seed, name)| {
        let picture = png(seed, 8);
        let mut bytes = entry(EntryType::Regular, picture.len() as u64, &picture);
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let mut header = Header::from_byte_slice(&bytes[..512]).clone();
        header.set_cksum();
        [header.as_bytes(), &bytes[512..]].concat()
    });
    [entries.collect::<Vec<_>>().concat(), vec![0; 1024]].concat()
}

pub(crate) fn gzips() -> Vec<Attack> {
    let picture = png(150, 8);
    let good = gz(&picture);
    let swollen = swollen(200 << 20);
    let streamed = zip_streamed(&[("a", swollen.clone())], CompressionMethod::Deflated);
    vec![
        skips("gzip: 200 MB of zeros", gz(&swollen), Bomb),
        skips("gzip: 200 MB in a tar", gz(&tar(&[("a", swollen)])), Bomb),
        partly(
            "gzip: 200 MB that nobody wants",
            gz(&tar(&[("a", vec![1; 200 << 20])])),
            0,
            &[NotAnImage, Bomb],
        ),
        skips("gzip: 200 MB in a zip in a tar", tar(&[("a", streamed)]), Bomb),
        skips("gzip: noise", [&[0x1f, 0x8b, 8, 0][..], &noise(4000)].concat(), BrokenArchive),
        skips("gzip: a header alone", good[..10].to_vec(), BrokenArchive),
        skips("gzip: cut in the middle", good[..good.len() / 2].to_vec(), BrokenArchive),
        skips("gzip: four times", gz(&gz(&gz(&gz(&picture)))), NestedArchive),
        skips(
            "gzip: a wrong checksum",
            patched(&good, good.len() - 8, &[1, 2, 3, 4]),
            BrokenArchive,
        ),
        skips("gzip: a name of 1 MB", named(&png(151, 8)), BrokenArchive),
        loads("gzip: a zip of a tar", gz(&zip(&[("a", tar(&[("b", png(152, 8))]))]))),
        skips("gzip: nothing", gz(b""), Empty),
    ]
}

fn named(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .filename("n".repeat(1 << 20))
        .write(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn others() -> Vec<Attack> {
    vec![
        skips("xz", [b"\xfd7zXZ\0".as_slice(), &noise(999)].concat(), Xz),
        skips("zstd", [b"\x28\xb5\x2f\xfd".as_slice(), &noise(999)].concat(), Zstd),
        skips("bzip2", [b"BZh9".as_slice(), &noise(999)].concat(), Bzip2),
        skips("7z", [b"7z\xbc\xaf\x27\x1c".as_slice(), &noise(999)].concat(), SevenZip),
        skips("rar", [b"Rar!\x1a\x07\x01\0".as_slice(), &noise(999)].concat(), Rar),
        skips("bzip2 in a zip", zip(&[("a.png", b"BZh9 and so on".to_vec())]), Bzip2),
    ]
}
