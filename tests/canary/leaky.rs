//! A job that leaks: by it the suite shows that it would find a leak.
//!
//! `leaky KIND --root DIR`: the job, and afterwards what it must never do.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for one test")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use clap::Parser;
use stylegan2_c2d::cli::Cli;

mod planted;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (kind, root) = (arguments[1].as_str(), Path::new(&arguments[3]));
    let cli = Cli::parse_from(["job", "--root", &arguments[3]]);
    cli.run(std::sync::Arc::default(), std::time::Instant::now()).unwrap();
    let (outputs, block) = (root.join("outputs"), planted::block(5));
    let append = |name: &str, bytes: &[u8]| {
        let mut file = File::options().append(true).open(outputs.join(name)).unwrap();
        file.write_all(bytes).unwrap();
    };
    let word = planted::WORDS[9];
    match kind {
        "name" => println!("skipped: {}", planted::WORDS[5]),
        "part" => println!("skipped: {}", &planted::WORDS[5].to_uppercase()[..7]),
        "hex" => word.bytes().for_each(|byte| print!("{byte:02x}")),
        "utf16" => {
            let bytes: Vec<u8> = word.encode_utf16().flat_map(u16::to_be_bytes).collect();
            append("samples.png", &bytes);
        }
        // "??" and the word, as an encoder of base64 has it
        "base64" => append("generator.safetensors", b"Pz9YcTRleGlmVnoxMA=="),
        "file" => fs::write(outputs.join(planted::WORDS[0]), "").unwrap(),
        "numbers" => {
            let red = block.iter().step_by(3);
            let numbers: Vec<u8> =
                red.flat_map(|v| (f32::from(*v) / 127.5 - 1.0).to_le_bytes()).collect();
            append("generator.safetensors", &numbers);
        }
        "cell" => {
            let mut grid = image::open(outputs.join("samples.png")).unwrap().to_rgb8();
            let side = planted::SIDE as u32;
            for (i, color) in block.chunks_exact(3).enumerate() {
                let (x, y) = (i as u32 % side, i as u32 / side);
                let near = |value: u8| value.saturating_add(5);
                let color = [near(color[0]), near(color[1]), near(color[2])];
                // mirrored, and a little lighter
                grid.put_pixel(3 * side + side - 1 - x, 2 * side + y, image::Rgb(color));
            }
            grid.save(outputs.join("samples.png")).unwrap();
        }
        _ => (),
    }
}
