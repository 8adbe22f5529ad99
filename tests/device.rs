//! Choosing the device through the binary, with made-up drivers in place of NVIDIA's.
//!
//! A made-up driver is a `libcuda.so.1` of a few lines of C, put first into the loader's path. What
//! a build without GPU support says of one differs from what a build with it says, so both are
//! written down.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use candle_core::utils::cuda_is_available as has_gpu_support;
use stylegan2_c2d::ops::device::{Probe, probe};
use tempfile::TempDir;

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_promised_names_only, log_of, program};

/// A driver that answers with `INIT`, knows `DRIVER`, and has no memory left for a context.
const DRIVER: &str = r#"
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = DRIVER; return 0; }
int cuDeviceGetCount(int *count) { *count = DEVICES; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Made-up GPU", size); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 8000000000; return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 : which == 76 ? 6 : 0;
    return 0;
}
int cuMemGetInfo_v2(size_t *free, size_t *total) { return 201; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return 2; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_OUT_OF_MEMORY"; return 0; }
int cuGetErrorString(int code, const char **text) { *text = "out of memory"; return 0; }
"#;

/// A folder with a driver that was made with these definitions.
fn driver(init: i32, version: i32, num_devices: i32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("driver.c");
    fs::write(&source, DRIVER).unwrap();
    let definitions = [("INIT", init), ("DRIVER", version), ("DEVICES", num_devices)];
    let status = Command::new("cc")
        .args(definitions.map(|(name, value)| format!("-D{name}={value}")))
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&folder.path().join("libcuda.so.1"), &source])
        .status()
        .unwrap();
    assert!(status.success());
    folder
}

/// A job of one step with `device`, on a machine with this driver.
fn job(device: &str, driver: Option<&Path>) -> (Tree, Output) {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(&format!(
        r#"{{"resolution": 8, "cfg": "tiny", "kimg": 0.008, "device": "{device}"}}"#
    ));
    let mut command = tree.job();
    if let Some(driver) = driver {
        command.env("LD_LIBRARY_PATH", driver);
    }
    let output = command.output().unwrap();
    (tree, output)
}

/// Asserts that a job trains on the processor, and why.
fn assert_on_cpu(device: &str, driver: Option<&Path>, why: &str) {
    let (tree, output) = job(device, driver);
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    let line = log.lines().nth(1).unwrap(); // after that about the sandbox
    let version = env!("CARGO_PKG_VERSION");
    assert!(line.starts_with(&format!("stylegan2-c2d {version} | {why}: CPU, ")), "{line}");
    assert!(line.contains(" threads, memory "), "{line}");
    assert!(log.contains("done: 0.0"), "{log}");
    assert_promised_names_only(&tree);
}

/// Asserts that a job ends before it has read anything, with one line of its own and this code.
fn assert_refused(device: &str, driver: Option<&Path>, (code, line): (i32, &str)) {
    let (tree, output) = job(device, driver);
    let log = log_of(&output);
    let sandbox = "sandbox: none (started without the launcher)";
    assert_eq!(log, format!("{sandbox}\nERROR device: {line}\n"));
    assert_eq!(output.status.code(), Some(code));
    assert!(tree.outputs().is_empty());
}

const NO_SUPPORT: &str = "expected a GPU, but this build has no GPU support; take the image that \
                          has, or ask for auto or cpu";

#[test]
fn without_a_driver_auto_is_the_processor_and_cuda_is_refused() {
    let emptied = tempfile::tempdir().unwrap();
    fs::write(emptied.path().join("libcuda.so.1"), "").unwrap();
    let mut machines = vec![Some(emptied.path())];
    if probe() == Probe::Absent("there is no driver") {
        machines.push(None);
    }
    for driver in machines {
        assert_on_cpu("auto", driver, "no GPU found (there is no driver)");
        let line = "expected a GPU, found none (there is no driver); take a machine with one, or \
                    ask for auto or cpu";
        assert_refused("cuda", driver, (2, line));
    }
}

#[test]
fn a_driver_without_a_gpu_is_no_gpu() {
    for (driver, why) in [
        (driver(100, 12080, 0), "the driver finds none"),
        (driver(34, 12080, 0), "the driver is a stand-in for linking"),
        (driver(0, 12080, 0), "the driver knows none"),
    ] {
        assert_on_cpu("auto", Some(driver.path()), &format!("no GPU found ({why})"));
        let line = format!(
            "expected a GPU, found none ({why}); take a machine with one, or ask for auto or cpu"
        );
        assert_refused("cuda", Some(driver.path()), (2, &line));
    }
}

/// What a GPU that cannot be used leads to, by the build; without support for it, `why` tells.
fn assert_unusable(driver: &Path, reason: &str, why: &str) {
    assert_on_cpu("cpu", Some(driver), "as asked");
    if has_gpu_support() {
        let line =
            format!("a GPU is there but cannot be used: {reason}; or ask for cpu, which is slow");
        assert_refused("auto", Some(driver), (1, &line));
        assert_refused("cuda", Some(driver), (1, &line));
    } else {
        let why = format!("{why} this build has no GPU support");
        assert_on_cpu("auto", Some(driver), &why);
        assert_refused("cuda", Some(driver), (2, NO_SUPPORT));
    }
}

const UNUSABLE: &str = "a GPU that cannot be used, and";

#[test]
fn an_old_driver_stops_a_job_that_has_a_gpu() {
    let reason = "expected a driver for CUDA 12.0 or later, came one for 11.4; update the driver";
    assert_unusable(driver(0, 11040, 1).path(), reason, UNUSABLE);
}

#[test]
fn a_gpu_without_memory_stops_a_job_that_has_it() {
    let reason = "its memory is taken (CUDA_ERROR_OUT_OF_MEMORY); end what else runs on it";
    let gpu = "GPU: Made-up GPU, 8.0 GB, compute capability 8.6, driver for CUDA 12.8";
    assert_unusable(driver(0, 12080, 1).path(), reason, &format!("{gpu}, but"));
    let others = format!("{gpu}, the first of 3, but");
    assert_unusable(driver(0, 12080, 3).path(), reason, &others);
}

#[test]
fn a_driver_that_does_not_match_its_kernel_stops_a_job() {
    let reason = "the driver answers with error 803 (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)";
    assert_unusable(driver(803, 12080, 1).path(), reason, UNUSABLE);
}

#[test]
fn every_command_takes_a_device() {
    let (tree, output) = job("auto", None);
    assert!(output.status.success(), "{}", log_of(&output));
    let weights = tree.path("outputs/generator.safetensors");
    let commands: [&[&str]; 5] = [
        &["demo", "--out", "out"],
        &["estimate", "--resolution", "8"],
        &["train", "--kimg", "0.008", "--resolution", "8", "--data", "inputs", "--out", "out"],
        &["generate", "--seeds", "0", "--out", "out", "--weights", weights.to_str().unwrap()],
        &["augment", "--out", "out/a.png", "--weights", weights.to_str().unwrap()],
    ];
    let driver = driver(100, 12080, 0);
    for command in commands {
        for (device, code) in [("cuda", 2), ("gpu", 2), ("CPU", 0)] {
            if (command[0], code) == ("demo", 0) {
                continue; // that takes minutes
            }
            let output = program()
                .args(command)
                .args(["--device", device])
                .env("LD_LIBRARY_PATH", driver.path())
                .current_dir(tree.path(""))
                .output()
                .unwrap();
            let log = log_of(&output);
            assert_eq!(output.status.code(), Some(code), "{command:?} {device}: {log}");
            assert!(code == 0 || log.contains("expected "), "{log}");
        }
    }
}

#[test]
fn check_tells_what_a_gpu_would_read() {
    let tree = Tree::copy(CURRENT, true);
    let log = |device: &str| {
        let output = program()
            .args(["check", "--device", device, "--data"])
            .arg(tree.path("inputs"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        log_of(&output)
    };
    assert!(log("cpu").contains("training on a CPU about"), "{}", log("cpu"));
    assert!(log("cuda").contains("training on a GPU, of its own memory, about"), "{}", log("cuda"));
}
