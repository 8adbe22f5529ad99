//! How many pictures a second a generator makes, one at a time and eight at a time.
//!
//! `RAYON_NUM_THREADS=1 cargo bench --bench generation` prints medians for the `auto` configuration,
//! beside the speed of a 1024 x 1024 matrix product, by which other machines can be compared.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to report to")]
#![expect(clippy::print_stdout, reason = "what a bench is for")]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use stylegan2_c2d::model::{Noise, Store, Truncation, generator};
use stylegan2_c2d::ops::raise_allocator_thresholds;
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};

/// Calls that are timed, after one to warm up.
const ROUNDS: usize = 9;
/// Rows and columns of the matrices.
const GEMM: usize = 1024;

fn main() {
    raise_allocator_thresholds(); // as the program does
    let matrix = normals(&[GEMM, GEMM]);
    let seconds = median_seconds(|| matrix.matmul(&matrix).unwrap());
    println!("matrix product: {:.0} GFLOP/s", 2.0 * (GEMM as f64).powi(3) / seconds / 1e9);
    for res in [64, 256] {
        let config = train_config(Cfg::Auto, res, 0, &Overrides::default()).g;
        let store = Store::new(DType::F32, &Device::Cpu);
        let g = generator(&config, &store.init(1)).unwrap();
        for batch in [1, 8] {
            let z = normals(&[batch, config.z_dim]);
            let seconds =
                median_seconds(|| g.forward(&z, None, Truncation::NONE, Noise::Const).unwrap());
            println!("{res} pixels, {batch} at a time: {:.2} img/s", batch as f64 / seconds);
        }
    }
}

fn normals(shape: &[usize]) -> Tensor {
    let values = Rng::new(0, Stream::Latents, 0).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

fn median_seconds(work: impl Fn() -> Tensor) -> f64 {
    let seconds = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    seconds();
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| seconds()).collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}
