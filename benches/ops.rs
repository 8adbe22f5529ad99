//! How long the ops take at the sizes of training, beside two yardsticks of the machine.
//!
//! Sizes are those of the `auto` configuration at 64 pixels, four images at a time. Memory-bound
//! ops are given in bytes that they must read and write, to be held against `copy`; convolutions
//! in floating-point operations, to be held against `matmul`. Gradients are those of `sum(y)`:
//! they include the passes that turn it into a gradient of `y` (`gradient of a sum`).
//!
//! `cargo bench --bench ops -- --quick` times all, `RAYON_NUM_THREADS=1` before it on one thread.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to report to")]

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use candle_core::{DType, Device, Result, Tensor, Var};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use stylegan2_c2d::augment::{AugPipe, Pipeline};
use stylegan2_c2d::ops::adam::{Adam, AdamConfig};
use stylegan2_c2d::ops::bias_act::Activation;
use stylegan2_c2d::ops::conv2d::conv_transpose2d;
use stylegan2_c2d::ops::conv2d_resample::Resample;
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::ops::upfirdn2d::{Axis, Filter, Upfirdn2d};
use stylegan2_c2d::ops::{self, Traced};

/// Images per call.
const BATCH: usize = 4;

/// Activations of a network at 64 pixels: channels and size.
const LAYERS: [(usize, usize); 5] = [(256, 64), (512, 32), (512, 16), (512, 8), (512, 4)];

/// Normal draws: the one place that makes arguments.
fn draws(shape: &[usize]) -> Tensor {
    let rng = Rng::new(1, Stream::Latents, 0);
    ops::normals(&rng, 0, shape, (DType::F32, &Device::Cpu)).unwrap()
}

fn var(shape: &[usize]) -> Traced {
    Traced::variable(&Var::from_tensor(&draws(shape)).unwrap())
}

fn activations((channels, size): (usize, usize)) -> Traced {
    var(&[BATCH, channels, size, size])
}

/// Memory that `num_tensors` tensors like `x` take.
fn bytes(num_tensors: usize, x: &Traced) -> Throughput {
    Throughput::Bytes((num_tensors * x.elem_count() * 4) as u64)
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn time<T>(group: &mut Group, name: &str, throughput: &Throughput, work: impl Fn() -> Result<T>) {
    group.throughput(throughput.clone());
    group.bench_function(name, |bencher| bencher.iter(|| work().unwrap()));
}

/// Times `op`, then its gradient with respect to each of the named variables alone.
fn time_with_gradients(
    group: &mut Group,
    name: &str,
    throughput: &Throughput,
    vars: &[(&str, &Traced)],
    op: impl Fn() -> Result<Traced>,
) {
    time(group, &format!("{name} forward"), throughput, &op);
    let loss = op().unwrap().sum_all().unwrap();
    for (of, var) in vars {
        time(group, &format!("{name} d{of}"), throughput, || gradient(&loss, var));
    }
}

/// With a graph that stays for the next time.
fn gradient(loss: &Traced, of: &Traced) -> Result<Vec<Traced>> {
    ops::grad_with_graph(loss, std::slice::from_ref(of))
}

/// What the machine can do: memory and arithmetic.
fn yardsticks(c: &mut Criterion) {
    let group = &mut c.benchmark_group("yardstick");
    let x = vec![1f32; 4 << 20];
    let mut y = vec![0f32; x.len()];
    group.throughput(Throughput::Bytes(2 * 4 * x.len() as u64));
    group.bench_function("copy 16 MiB", |bencher| {
        bencher.iter(|| black_box(&mut y).copy_from_slice(black_box(&x)));
    });
    let x = activations(LAYERS[0]);
    let sum = x.sum_all().unwrap();
    time(group, "gradient of a sum, 16 MiB", &bytes(1, &x), || gradient(&sum, &x));
    let (a, b) = (draws(&[1024, 1024]), draws(&[1024, 1024]));
    time(group, "matmul 1024", &Throughput::Elements(2 << 30), || a.matmul(&b));
}

fn conv2d(c: &mut Criterion) {
    let group = &mut c.benchmark_group("conv2d");
    // Input channels and size, output channels, kernel, stride.
    let same = LAYERS.map(|(channels, size)| (channels, size, channels, 3, 1));
    let halved = [(256, 65, 512, 3, 2), (512, 33, 512, 3, 2), (512, 9, 512, 3, 2)];
    let pointwise = [(256, 64, 3, 1, 1), (3, 64, 256, 1, 1), (256, 32, 512, 1, 1)];
    for (in_channels, size, out_channels, k, stride) in
        same.into_iter().chain(halved).chain(pointwise)
    {
        let x = activations((in_channels, size));
        let w = var(&[out_channels, in_channels, k, k]);
        let padding = if stride == 1 { k / 2 } else { 0 };
        let op = || ops::conv2d(&x, &w, stride, padding, 1.0);
        let num_outputs = op().unwrap().elem_count();
        let flops = Throughput::Elements((2 * num_outputs * in_channels * k * k) as u64);
        let name = format!("{k}x{k} stride {stride} {in_channels}@{size} to {out_channels}");
        time_with_gradients(group, &name, &flops, &[("x", &x), ("w", &w)], op);
    }
    for (in_channels, size, out_channels) in [(512, 32, 256), (512, 16, 512), (512, 4, 512)] {
        let x = activations((in_channels, size));
        let w = var(&[in_channels, out_channels, 3, 3]);
        let flops = Throughput::Elements((2 * x.elem_count() * out_channels * 9) as u64);
        let name = format!("3x3 transposed {in_channels}@{size} to {out_channels}");
        time_with_gradients(group, &name, &flops, &[("x", &x), ("w", &w)], || {
            conv_transpose2d(&x, &w, 2, 0, 1.0)
        });
    }
}

fn modulated_conv2d(c: &mut Criterion) {
    let group = &mut c.benchmark_group("modulated_conv2d");
    let filter = Filter::stylegan2();
    for (layer, out_channels, up) in [((512, 32), 256, 2), ((256, 64), 256, 1), ((512, 8), 512, 1)]
    {
        let (channels, size) = layer;
        let (x, styles) = (activations(layer), var(&[BATCH, channels]));
        let w = var(&[out_channels, channels, 3, 3]);
        let resample = Resample { filter: &filter, up, down: 1 };
        let flops = Throughput::Elements((2 * x.elem_count() * out_channels * 9) as u64);
        let name = format!("{channels}@{size} up {up} to {out_channels}");
        let vars = [("x", &x), ("w", &w), ("styles", &styles)];
        time_with_gradients(group, &name, &flops, &vars, || {
            ops::modulated_conv2d(&x, &w, &styles, resample, true)
        });
    }
}

fn upfirdn2d(c: &mut Criterion) {
    let group = &mut c.benchmark_group("upfirdn2d");
    let (filter, blur) = (Filter::stylegan2(), Axis { up: 1, down: 1, pad: [1, 1] });
    let cases = [
        ("blur", Upfirdn2d::convolve(&filter, blur, blur, 4.0), [(256, 65), (512, 33), (512, 9)]),
        ("double", Upfirdn2d::double(&filter), [(256, 32), (512, 16), (3, 32)]),
        ("halve", Upfirdn2d::halve(&filter), [(256, 64), (512, 32), (512, 8)]),
    ];
    for (name, op, layers) in cases {
        for layer in layers {
            let x = activations(layer);
            let op = || ops::upfirdn2d(&x, &op);
            let num_elements = x.elem_count() + op().unwrap().elem_count();
            let bytes = Throughput::Bytes(4 * num_elements as u64);
            time_with_gradients(group, &format!("{name} {layer:?}"), &bytes, &[("x", &x)], op);
        }
    }
}

fn element_wise(c: &mut Criterion) {
    let group = &mut c.benchmark_group("element-wise");
    for layer in [(256, 64), (512, 32), (512, 4)] {
        let (channels, size) = layer;
        let x = activations(layer);
        let bytes = bytes(2, &x);
        let b = var(&[channels]);
        time_with_gradients(
            group,
            &format!("bias_act {layer:?}"),
            &bytes,
            &[("x", &x), ("b", &b)],
            || ops::bias_act(&x, Some(&b), Activation::LRELU, 1.4, Some(256.0)),
        );
        let s = var(&[BATCH, channels]);
        time_with_gradients(
            group,
            &format!("channel_scale {layer:?}"),
            &bytes,
            &[("x", &x), ("s", &s)],
            || ops::channel_scale(&x, &s),
        );
        let (noise, strength) = (draws(&[BATCH, 1, size, size]), var(&[]));
        time_with_gradients(
            group,
            &format!("add_noise {layer:?}"),
            &bytes,
            &[("strength", &strength)],
            || ops::add_noise(&x, &noise, &strength),
        );
    }
}

/// The transforms of StyleGAN2-ADA, blit to color, at the strength that small sets need.
fn augment(c: &mut Criterion) {
    let group = &mut c.benchmark_group("augment");
    let pipeline = Pipeline::new(&AugPipe::Bgc.config(), 3, (DType::F32, &Device::Cpu)).unwrap();
    for (res, batch) in [(32, 16), (64, 8), (128, 4), (256, 2)] {
        let x = var(&[batch, 3, res, res]);
        let dy = Traced::constant(&draws(x.dims()));
        let step = Cell::new(0);
        let images = Throughput::Elements(batch as u64);
        time(group, &format!("bgc, p = 0.3, {res} pixels, both ways"), &images, || {
            step.set(step.get() + 1);
            let rng = Rng::new(1, Stream::Augment, step.get());
            let transforms = pipeline.draw(&rng, 0, (batch, res, res), 0.3)?;
            gradient(&(transforms.apply(&x)? * &dy)?.sum_all()?, &x)
        });
    }
}

/// One step on a network of 24 million parameters, with the moving average.
fn adam(c: &mut Criterion) {
    let group = &mut c.benchmark_group("adam");
    let shape = [512, 512, 3, 3];
    let ten = |()| (0..10).map(|_| Var::from_tensor(&draws(&shape)).unwrap()).collect::<Vec<_>>();
    let [params, grads, ema] = [(); 3].map(ten);
    let grads: Vec<Tensor> = grads.iter().map(|grad| grad.as_tensor().clone()).collect();
    let config = AdamConfig { lr: 0.0025, beta1: 0.0, beta2: 0.99, eps: 1e-8 };
    let num_params = params.iter().map(|param| param.elem_count()).sum::<usize>();
    let mut adam = Adam::new(params, config).unwrap();
    // Five tensors are read and four of them written.
    group.throughput(Throughput::Bytes((9 * 4 * num_params) as u64));
    group.bench_function("24 M parameters", |bencher| {
        bencher.iter(|| adam.step(&grads, Some((&ema, 0.998)), None).unwrap());
    });
}

fn main() {
    ops::raise_allocator_thresholds();
    let mut c = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    yardsticks(&mut c);
    upfirdn2d(&mut c);
    element_wise(&mut c);
    augment(&mut c);
    adam(&mut c);
    conv2d(&mut c);
    modulated_conv2d(&mut c);
    c.final_summary();
}
