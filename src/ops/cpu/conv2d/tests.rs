//! The maps against direct convolution, the algorithms against im2col in f64, threads.

use candle_core::WithDType;

use super::machine::{Level, Vector};
use super::maps::*;
use super::portable::Pack;
use super::*;
use crate::ops::rng::{Rng, Stream};

fn numbers(len: usize, seed: u64) -> Vec<f64> {
    Rng::new(seed, Stream::Samples, 0).normals(len)
}

/// The matrix of a map: `[TO, FROM]`.
#[expect(unsafe_code, reason = "vectors are loaded from memory")]
fn matrix<A: Map>() -> Vec<Vec<f64>> {
    let mut columns = vec![vec![0.0; A::TO]; A::FROM];
    for (column, values) in columns.iter_mut().enumerate() {
        // SAFETY: as many elements as a pack has.
        let x = |i: usize| unsafe { Pack::load([f64::from(u8::from(i == column)); 4].as_ptr()) };
        A::map(x, |i, value| {
            let mut lanes = [0.0; 4];
            // SAFETY: as above.
            unsafe { value.store(lanes.as_mut_ptr()) };
            values[i] = lanes[0];
        });
    }
    (0..A::TO).map(|i| columns.iter().map(|column| column[i]).collect()).collect()
}

fn apply(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

/// `A^T ((G w) * (B^T x))` is the convolution with three taps; the maps of the gradients are the
/// transposed ones.
fn is_a_convolution<I: Map, K: Map, O: Map>(stride: usize, transposed: [Option<Vec<Vec<f64>>>; 3]) {
    let (x, w) = (numbers(I::FROM, 1), numbers(3, 2));
    let weights = apply(&matrix::<K>(), &w);
    let products = apply(&matrix::<I>(), &x);
    let products: Vec<f64> =
        products.iter().enumerate().map(|(i, x)| x * weights[i.min(K::TO - 1)]).collect();
    let y = apply(&matrix::<O>(), &products);
    assert_eq!((y.len() - 1) * stride + 3, x.len());
    for (i, y) in y.iter().enumerate() {
        let direct: f64 = (0..3).map(|tap| w[tap] * x[i * stride + tap]).sum();
        assert!((y - direct).abs() < 1e-14, "output {i}: {y} instead of {direct}");
    }
    let forward = [matrix::<I>(), matrix::<K>(), matrix::<O>()];
    for (forward, transposed) in forward.iter().zip(transposed) {
        let Some(transposed) = transposed else { continue };
        for (i, row) in forward.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                assert!((transposed[j][i] - value).abs() < 1e-15, "element {i}, {j}");
            }
        }
    }
}

#[test]
fn the_maps_convolve_with_three_taps_and_their_transposes_are_such() {
    let (k, o) = (matrix::<KernelF2T>(), matrix::<OutputF2T>());
    is_a_convolution::<InputF2, KernelF2, OutputF2>(1, [None, Some(k), Some(o)]);
    let (k, o) = (matrix::<KernelF4T>(), matrix::<OutputF4T>());
    is_a_convolution::<InputF4, KernelF4, OutputF4>(1, [None, Some(k), Some(o)]);
    let (i, k, o) = (matrix::<InputS2T>(), matrix::<KernelS2T>(), matrix::<OutputS2T>());
    is_a_convolution::<InputS2, KernelS2, OutputS2>(2, [i, k, o].map(Some));
    let (i, k, o) = (matrix::<InputS4T>(), matrix::<KernelS4T>(), matrix::<OutputS4T>());
    is_a_convolution::<InputS4, KernelS4, OutputS4>(2, [i, k, o].map(Some));
}

/// Sizes that are no multiples of tiles or panels, and enough of each to be cut into blocks, into
/// stripes of an image, and into tasks of output channels.
fn geometries() -> Vec<Geometry> {
    let sizes = [
        (3, 17, 35, 13, 9),
        (1, 33, 20, 4, 5),
        (2, 16, 50, 90, 81),
        (3, 513, 160, 8, 7),
        (1, 160, 180, 46, 53),
    ];
    let all = sizes.into_iter().flat_map(|size| (1..=2).map(move |stride| (size, stride)));
    let all = all.flat_map(|size| (0..=2).map(move |padding| (size, padding)));
    let geometry = |(((n, c, o, h, w), stride), padding)| Geometry {
        n,
        c,
        h,
        w,
        o,
        kh: 3,
        kw: 3,
        stride,
        padding,
        gain: 0.7,
    };
    all.map(geometry).collect()
}

/// `x`, `w` and `dy`.
fn arguments<T: Element>(g: &Geometry) -> [Vec<T>; 3] {
    let sizes = [g.n * g.c * g.h * g.w, g.o * g.c * 9, g.n * g.o * g.oh() * g.ow()];
    let mut seed = 0;
    sizes.map(|len| {
        seed += 1;
        numbers(len, seed).into_iter().map(T::from_f64).collect()
    })
}

fn all_three<T: Element>(way: Way, g: &Geometry, [x, w, dy]: &[Vec<T>; 3]) -> [Vec<T>; 3] {
    [
        winograd::forward(way, x, w, g),
        winograd::grad_input(way, dy, w, g),
        winograd::grad_weight(way, x, dy, g),
    ]
}

/// Largest error relative to the largest value of im2col in f64, of the three.
fn errors<T: Element>(way: Way, g: &Geometry, expected: &[Vec<f64>; 3]) -> [f64; 3] {
    let ours = all_three(way, g, &arguments::<T>(g));
    std::array::from_fn(|i| {
        assert_eq!(ours[i].len(), expected[i].len());
        let scale = expected[i].iter().fold(0.0, |max, y| f64::max(max, y.abs()));
        let errors =
            ours[i].iter().zip(&expected[i]).map(|(y, z)| (WithDType::to_f64(*y) - z).abs());
        errors.fold(0.0, crate::ops::check::larger) / scale
    })
}

/// In f32, tiles of two err as im2col does: by the roundings of a sum of up to 4608 terms. The
/// transforms of tiles of four amplify roundings, about tenfold.
#[test]
#[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
fn every_algorithm_on_every_machine_equals_im2col() {
    for g in geometries() {
        let [x, w, dy] = arguments::<f64>(&g);
        let expected = [
            im2col::forward(&x, &w, &g),
            im2col::grad_input(&dy, &w, &g),
            im2col::grad_weight(&x, &dy, &g),
        ];
        for (tile, tolerance) in [(Tile::Two, 4e-6), (Tile::Four, 4e-5)] {
            let exact = errors::<f64>(Way { tile, level: Level::Portable }, &g, &expected);
            assert!(exact.iter().all(|&error| error < 1e-12), "{tile:?}, {g:?}: {exact:?}");
            for &level in f32::levels() {
                let errors = errors::<f32>(Way { tile, level }, &g, &expected);
                let [y, dx, dw] = errors;
                println!("{tile:?} {level:?}: {y:.1e} {dx:.1e} {dw:.1e} for {g:?}");
                let is_close = errors.iter().all(|&error| error < tolerance);
                assert!(is_close, "{tile:?}, {level:?}, {g:?}: {errors:?}");
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for g in geometries() {
        let arguments = arguments::<f32>(&g);
        for tile in [Tile::Two, Tile::Four] {
            let way = Way { tile, level: *f32::levels().last().unwrap() };
            let bits = [1, 2, 3].map(|num_threads| {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
                let values = pool.install(|| all_three(way, &g, &arguments)).concat();
                values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert!(bits[0] == bits[1] && bits[0] == bits[2], "{tile:?}, {g:?}");
        }
    }
}

/// Of 9 products for an output, tiles of four leave 36 / 16 at stride 1 and 81 / 16 at stride 2.
#[test]
fn products_are_those_of_the_tiles() {
    let (n, c, o, gain) = (4, 64, 32, 1.0);
    let g = Geometry { n, c, h: 16, w: 16, o, kh: 3, kw: 3, stride: 1, padding: 1, gain };
    let halved = Geometry { h: 33, w: 33, stride: 2, padding: 0, ..g };
    for kind in [Kind::Forward, Kind::GradInput, Kind::GradWeight] {
        let of_tile = |tile, g| [None, Some(tile)].map(|tile| products(tile, kind, g));
        assert_eq!(of_tile(4, &g), [256 * 9, 16 * 36]);
        assert_eq!(of_tile(2, &g), [256 * 9, 64 * 16]);
        assert_eq!(of_tile(4, &halved), [256 * 9, 16 * 81]);
        assert_eq!(of_tile(2, &halved), [256 * 9, 64 * 25]);
        let pointwise = Geometry { kh: 1, kw: 1, padding: 0, ..g };
        assert_eq!(flop(kind, &pointwise), 2.0 * (n * c * o * 256) as f64);
    }
    // 4 x 6 tiles for 15 x 22 outputs, and for as many inputs
    let odd = Geometry { h: 15, w: 22, ..g };
    assert_eq!(products(Some(4), Kind::Forward, &odd), 4 * 6 * 36);
    assert_eq!(products(Some(4), Kind::GradInput, &Geometry { padding: 2, ..odd }), 4 * 6 * 36);
}
