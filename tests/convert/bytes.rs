//! Files that nobody means well with.

use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Xorshift, 64 bit (Marsaglia 2003).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// A copy with one to four changes: a byte or a bit, a part left out, doubled or moved.
    pub(crate) fn broken(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(64)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'.', b'(', b'h', b'R'][self.below(9)],
                3 => drop(bytes.drain(at..end)),
                4 => {
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part);
                }
                _ => {
                    let part = bytes[at..end].to_vec();
                    let to = self.below(bytes.len() - part.len() + 1);
                    bytes[to..to + part.len()].copy_from_slice(&part);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}

/// Every occurrence of `from` replaced by `to`, which is as long.
pub(crate) fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    let mut num_found = 0;
    while at + from.len() <= bytes.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
            num_found += 1;
        }
        at += 1;
    }
    assert!(num_found > 0, "there is no {}", String::from_utf8_lossy(from));
    bytes
}

/// A pickle of protocol 4 out of parts.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [&[0x80, 4][..], &parts.concat(), b"."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[0x8c, text.len() as u8], text.as_bytes()].concat()
}

/// A reduce of `module.name` with the arguments that `args` pushes.
fn reduce(module: &str, name: &str, args: &[u8]) -> Vec<u8> {
    [b"c", module.as_bytes(), b"\n", name.as_bytes(), b"\n", args, b"\x85R"].concat()
}

fn entry(key: &str, value: &[u8]) -> Vec<u8> {
    [&text(key), value].concat()
}

/// A module of the state that `state` pushes.
fn of_state(state: &[u8]) -> Vec<u8> {
    let name = [entry("type", &text("class")), entry("class_name", &text("Generator"))].concat();
    let meta = [b"}(", &name[..], &entry("state", state), b"u"].concat();
    reduce("torch_utils.persistence", "_reconstruct_persistent_obj", &meta)
}

/// A module without parameters, whose own state is remembered as 0 before it has modules.
fn module(modules: &[u8]) -> Vec<u8> {
    let groups = [entry("_parameters", b"}"), entry("_buffers", b"}")].concat();
    of_state(&[b"}q\x00(", &groups[..], &entry("_modules", modules), b"u"].concat())
}

fn snapshot(network: &[u8]) -> Vec<u8> {
    pickle(&[b"}", &text("G_ema"), network, b"s"])
}

/// A zip of one entry of a million zeros.
fn zip(name: &str, method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    writer.start_file(name, options).unwrap();
    writer.write_all(&vec![0; 1_000_000]).unwrap();
    writer.finish().unwrap().into_inner()
}

/// Names, files and what the refusal must say; whoever runs one of them leaves a file `planted`.
pub(crate) fn hostile(planted: &Path) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let touch = text(&format!("touch {}", planted.display()));
    let mut bomb = vec![0x80, 4, b']', b'q', 0];
    for level in 1u8..=12 {
        // [a, a] of the list before: four more bytes to a level would be 2^k values
        bomb.extend([b']', b'q', level, b'(', b'h', level - 1, b'h', level - 1, b'e']);
    }
    bomb.truncate(113);
    bomb.push(b'.');
    // Each module has the one before twice.
    let mut tower = module(b"}");
    for _ in 0..100 {
        let twice = [b"}(", &text("a")[..], &tower, b"q\x01", &text("b"), b"h\x01u"].concat();
        tower = module(&twice);
    }
    let ring = module(&[&b"}"[..], &text("again"), &of_state(b"h\x00"), b"s"].concat());
    let million = 1 << 20;
    let long = [&b"X"[..], &(million as u32).to_le_bytes(), &b"x".repeat(million)].concat();
    let names =
        module(&[b"}(", &long[..], b"q\x05K\x01", &b"h\x05K\x01".repeat(4000), b"u"].concat());
    let wide =
        module(&[b"}(", &text("a")[..], &module(b"}"), &b"K\x01N".repeat(5000), b"u"].concat());
    vec![
        ("os.system", pickle(&[&reduce("os", "system", &touch)]), "os.system is not known here"),
        (
            "os.system by name",
            pickle(&[&text("posix"), &text("system"), b"\x93", &touch, b"\x85R"]),
            "posix.system is not known here",
        ),
        (
            "eval",
            pickle(&[&reduce("builtins", "eval", &text("print(1)"))]),
            "builtins.eval is not known here",
        ),
        (
            "a call of a class by keywords",
            pickle(&[b"ccollections\nOrderedDict\n)}\x92"]),
            "opcode 0x92 is not read here",
        ),
        ("an extension", pickle(&[b"\x82\x01"]), "opcode 0x82 is not read here"),
        ("a text pickle", b"(lp0\n.".to_vec(), "expected a snapshot (.pkl), a checkpoint"),
        ("a memo bomb of 114 bytes", bomb, "expected an entry \"G_ema\""),
        ("a tower of modules", snapshot(&tower), "within each other"),
        ("a ring", snapshot(&ring), "within each other"),
        ("long names", snapshot(&names), "expected short names as text"),
        ("many members", snapshot(&wide), "expected at most 4096 members"),
        ("nested lists", pickle(&[&b"]".repeat(million), &b"a".repeat(million - 1)]), "values"),
        ("nested tuples", pickle(&[b")", &b"\x85".repeat(million)]), "values"),
        ("marks", pickle(&[&b"(".repeat(million)]), "expected a value on the stack"),
        ("calls", pickle(&[b"cbuiltins\nset\nq\x00", &b"h\x00)R".repeat(million / 4)]), "values"),
        ("memos", pickle(&[b"N", &b"\x94".repeat(million)]), "values to remember"),
        ("a long text", pickle(&[b"X\xff\xff\xff\x7f"]), "expected 2147483647 more bytes"),
        ("a longer text", pickle(&[b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"]), "more bytes"),
        ("long bytes", pickle(&[b"\x8e\0\0\0\0\0\0\0\x7f"]), "more bytes"),
        ("a long number", pickle(&[b"\x8b\xff\xff\xff\x7f"]), "more bytes"),
        ("a long name", pickle(&[b"c", &b"x".repeat(million)]), "the name of a module"),
        ("no pickle", vec![0x80; 64], "expected pickle protocol 2 to 5, got 128"),
        ("nothing", Vec::new(), "expected a snapshot (.pkl), a checkpoint"),
        ("a packed zip", zip("a/data.pkl", CompressionMethod::Deflated), "stored as it is"),
        ("zeros", zip("a/data.pkl", CompressionMethod::Stored), "opcode 0x00 is not read here"),
        ("another zip", zip("a/picture.png", CompressionMethod::Stored), "not of torch.save"),
        ("half a zip", b"PK\x03\x04half".to_vec(), "expected a whole zip"),
    ]
}
