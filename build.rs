//! Compiles the GPU kernels: to PTX with the feature `cuda`, to C++ for this processor with the
//! feature `emulate-cuda`. A build with neither needs no other compiler and does nothing here.

use std::env;
use std::path::PathBuf;
use std::process::Command;

const KERNELS: &str = "src/ops/cuda/kernels";
const EMULATION: &str = "src/ops/cuda/emulate";
/// The oldest GPUs that are supported; the driver translates for newer ones.
const ARCHITECTURE: &str = "compute_75";
/// The PTX of CUDA 12.0: what the drivers of the whole 12 series accept.
const PTX_VERSION: (u32, u32) = (8, 0);

fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-changed={EMULATION}");
    println!("cargo:rerun-if-env-changed=NVCC");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_to_ptx();
    }
    if env::var_os("CARGO_FEATURE_EMULATE_CUDA").is_some() {
        compile_for_this_processor();
    }
}

fn compile_to_ptx() {
    let nvcc = env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("kernels.ptx");
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17", &format!("-arch={ARCHITECTURE}"), "-o"])
        .arg(&out)
        .arg(format!("{KERNELS}/all.cu"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{nvcc}: {status}; see above"),
        Err(error) => panic!("the feature cuda needs nvcc on the PATH or named by NVCC: {error}"),
    }
    let ptx = std::fs::read_to_string(&out).expect("nvcc has written it");
    std::fs::write(&out, lowered(&ptx)).expect("the folder takes files");
}

/// The same code under the header of an older PTX version, which older drivers accept: a newer
/// compiler writes its own version, whether it uses anything of it or not. Hints that the older
/// version does not know are dropped; an instruction that it does not know would be a mistake of
/// ours, which `.ci/cuda` finds with the older assembler.
fn lowered(ptx: &str) -> String {
    let (major, minor) = PTX_VERSION;
    let line = ptx.lines().find(|line| line.starts_with(".version ")).expect("every PTX has one");
    let (a, b) = line[".version ".len()..].trim().split_once('.').expect("two numbers");
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let is_newer = (number(a), number(b)) > (major, minor);
    let header = if is_newer { format!(".version {major}.{minor}") } else { line.to_owned() };
    let kept = ptx.lines().filter(|line| !line.contains("used_bytes_mask"));
    let lowered = kept.map(|kept| if kept == line { header.as_str() } else { kept });
    lowered.collect::<Vec<_>>().join("\n") + "\n"
}

fn compile_for_this_processor() {
    let sanitizers = "-fsanitize=address,undefined";
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(1)
        .flag(sanitizers)
        .flag("-fno-sanitize-recover=all")
        .include(EMULATION)
        .file(format!("{EMULATION}/emulate.cpp"))
        .compile("emulated_kernels");
    // rustc links without the compiler's default libraries, so these are named. The address
    // sanitizer also has to be loaded first: run the tests with it in LD_PRELOAD, as .ci/cuda does.
    println!("cargo:rustc-link-lib=asan");
    println!("cargo:rustc-link-lib=ubsan");
}
