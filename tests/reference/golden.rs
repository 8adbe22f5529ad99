//! Golden files: finding them, reading them, comparing with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use stylegan2_c2d::ops::conv2d::{Conv, set_conv};

/// Tensors and metadata of one file.
pub struct Golden {
    pub path: PathBuf,
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

impl Golden {
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
        Ok(Self { path: path.to_owned(), tensors, metadata })
    }

    /// The file's name without its directory.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn json(&self, key: &str) -> Result<Value> {
        let text = self.metadata.get(key).with_context(|| format!("no metadata {key}"))?;
        Ok(serde_json::from_str(text)?)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn get(&self, name: &str, dtype: DType) -> Result<Tensor> {
        let tensor = self.tensors.get(name).with_context(|| format!("no tensor {name}"))?;
        Ok(tensor.to_dtype(dtype)?)
    }

    /// All tensors whose name starts with `prefix`, without it.
    pub fn with_prefix(&self, prefix: &str, dtype: DType) -> Result<HashMap<String, Tensor>> {
        let stripped = |(name, tensor): (&String, &Tensor)| {
            let name = name.strip_prefix(prefix)?.to_owned();
            Some(tensor.to_dtype(dtype).map(|tensor| (name, tensor)))
        };
        Ok(self.tensors.iter().filter_map(stripped).collect::<candle_core::Result<_>>()?)
    }

    /// How far the reference's own f32 run is from its f64 run, for a quantity; 0 if not stated.
    pub fn seen_error(&self, key: &str) -> f64 {
        let stated = self.json("fp32_vs_fp64_relerr").ok();
        stated.and_then(|value| value.get(key).and_then(Value::as_f64)).unwrap_or(0.0)
    }
}

/// Golden files by prefix and suffix: those of `GOLDEN_DIR`, else those that come with the crate.
pub fn files(prefix: &str, suffix: &str) -> Result<Vec<Golden>> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden");
    let folder = std::env::var_os("GOLDEN_DIR").map_or(bundled, PathBuf::from);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".safetensors");
        if stem.is_some_and(|stem| stem.starts_with(prefix) && stem.ends_with(suffix)) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| Golden::open(path)).collect()
}

/// Compares with a file by either way to convolve: exactly, and fast at ten times the tolerances.
pub fn check(file: &Golden, compare: impl Fn(&mut Check) -> Result<()>) -> Result<()> {
    static CONV: Mutex<()> = Mutex::new(()); // the setting is the whole process's
    let _alone = CONV.lock().unwrap_or_else(PoisonError::into_inner);
    for (conv, slack) in [(Conv::Exact, 1.0), (Conv::Fast, 10.0)] {
        set_conv(conv);
        let mut check = Check { slack, num_tensors: 0, worst: 0.0, failures: Vec::new() };
        compare(&mut check).with_context(|| file.name())?;
        check.finish(&format!("{} ({conv:?})", file.name()))?;
    }
    Ok(())
}

/// Compares tensors with golden ones and remembers the worst.
pub struct Check {
    slack: f64,
    num_tensors: usize,
    worst: f64,
    failures: Vec<String>,
}

impl Check {
    /// Compares relative to the largest magnitude of `expected`.
    pub fn close(&mut self, what: &str, ours: &Tensor, expected: &Tensor, tol: f64) -> Result<()> {
        let tol = tol * self.slack;
        ensure!(
            ours.shape() == expected.shape(),
            "{what}: expected {:?}, got {:?}",
            expected.shape(),
            ours.shape()
        );
        let ours = ours.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let expected = expected.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let scale = expected.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
        let differences = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        // A NaN must not get lost in the maximum.
        let worst = differences.fold(0.0, |max: f64, d| if d.is_nan() { d } else { max.max(d) });
        let error = if scale > 0.0 { worst / scale } else { worst };
        self.num_tensors += 1;
        self.worst = if error > self.worst || error.is_nan() { error } else { self.worst };
        if error.is_nan() || error > tol {
            self.failures.push(format!("{what}: {error:.2e} > {tol:.2e}"));
        }
        Ok(())
    }

    /// Prints the file's line and fails if anything was too far off, or nothing compared.
    #[expect(clippy::print_stdout, reason = "the line is what the check is run for")]
    fn finish(self, file: &str) -> Result<()> {
        println!("checked {file}: {} tensors, worst {:.2e}", self.num_tensors, self.worst);
        ensure!(self.num_tensors > 0, "{file}: nothing checked");
        ensure!(self.failures.is_empty(), "{file}:\n{}", self.failures.join("\n"));
        Ok(())
    }
}
