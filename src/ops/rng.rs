//! Randomness without state: each draw is a pure function of (seed, stream, step, index).
//!
//! So the same seed gives the same training for any number of threads, and a run that continues
//! needs to store nothing but its step. [`numpy_randn`] is the exception: it follows numpy, so that
//! "seed 85" shows the same picture as in the artists' other tools.
//!
//! Reference: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (Philox4x32-10);
//! Matsumoto and Nishimura 1998 (MT19937); Marsaglia and Bray 1964 (polar method).

/// What draws are for; streams never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Initial weights and noise constants; the step is a hash of the tensor's name.
    Weights,
    /// Latents `z` of a training phase.
    Latents,
    /// Labels of generated images.
    Labels,
    /// Whether and where styles are mixed.
    StyleMixing,
    /// Noise inputs of the synthesis layers.
    LayerNoise,
    /// Direction of the path length penalty.
    PathLength,
    /// Order of the pictures.
    Order,
    /// Latents and labels of the sample grid.
    Samples,
    /// Made-up pictures.
    Pictures,
    /// Places and directions in which sets of images are compared.
    Metric,
    /// What is done to pictures before D sees them.
    Augment,
    /// Copies that are planted, and pictures that are chosen, for an audit.
    Audit,
    /// How a projection shakes its latents.
    Projection,
}

/// The draws of one stream at one step.
#[derive(Clone, Copy, Debug)]
pub struct Rng {
    pub(super) key: [u32; 2],
    pub(super) step: u64,
    pub(super) stream: Stream,
}

impl Rng {
    /// The draws of `stream` at `step`, for a training with `seed`.
    pub fn new(seed: u64, stream: Stream, step: u64) -> Self {
        Self { key: split(seed), step, stream }
    }

    /// Uniform in `[0, 1)`, the `index`-th.
    pub fn uniform(&self, index: u64) -> f64 {
        let [a, b, _, _] = self.block(index);
        (f64::from(a >> 5) * 67_108_864.0 + f64::from(b >> 6)) / 9_007_199_254_740_992.0
    }

    /// Of the normal distribution N(0, 1), the `index`-th, from the same bits as the uniform one.
    pub fn normal(&self, index: u64) -> f64 {
        let [a, b, _, _] = self.block(index);
        let [a, b] = [a, b].map(|bits| (f64::from(bits) + 0.5) / 4_294_967_296.0);
        box_muller(a, b)[0]
    }

    /// Uniform in `0..bound`, the `index`-th.
    pub fn below(&self, index: u64, bound: usize) -> usize {
        ((self.uniform(index) * bound as f64) as usize).min(bound - 1)
    }

    /// `count` draws of the normal distribution N(0, 1).
    pub fn normals(&self, count: usize) -> Vec<f64> {
        self.normals_of_part(0, count)
    }

    /// As [`Rng::normals`], other ones for each `part` (below 2^24).
    pub fn normals_of_part(&self, part: u64, count: usize) -> Vec<f64> {
        let mut values = Vec::with_capacity(count + 3);
        for index in (part << 32)..(part << 32) + count.div_ceil(4) as u64 {
            let [a, b, c, d] =
                self.block(index).map(|bits| (f64::from(bits) + 0.5) / 4_294_967_296.0);
            values.extend(box_muller(a, b));
            values.extend(box_muller(c, d));
        }
        values.truncate(count);
        values
    }

    /// A permutation of `0..len` (Fisher and Yates).
    pub fn permutation(&self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for i in (1..len).rev() {
            order.swap(i, self.below(i as u64, i + 1));
        }
        order
    }

    fn block(&self, index: u64) -> [u32; 4] {
        let ([index_low, index_high], [step_low, step_high]) = (split(index), split(self.step));
        let last = (self.stream as u32) << 24 | (index_high & 0xff_ffff);
        philox([index_low, step_low, step_high, last], self.key)
    }
}

pub(super) fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn box_muller(u: f64, v: f64) -> [f64; 2] {
    let radius = (-2.0 * u.ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
    [radius * cos, radius * sin]
}

/// Philox4x32-10: a block of 128 random bits for a counter and a key.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let ([mut a, mut b, mut c, mut d], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let [low0, high0] = split(u64::from(a) * u64::from(MULTIPLIERS[0]));
        let [low1, high1] = split(u64::from(c) * u64::from(MULTIPLIERS[1]));
        [a, b, c, d] = [high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0];
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [a, b, c, d]
}

/// `numpy.random.RandomState(seed).randn(count)`.
pub fn numpy_randn(seed: u32, count: usize) -> Vec<f64> {
    let mut twister = Mt19937::new(seed);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let (x, y) = (2.0 * twister.uniform() - 1.0, 2.0 * twister.uniform() - 1.0);
        let square = x * x + y * y;
        if square < 1.0 && square != 0.0 {
            let scale = (-2.0 * square.ln() / square).sqrt();
            values.extend([scale * y, scale * x]);
        }
    }
    values.truncate(count);
    values
}

/// The Mersenne Twister.
struct Mt19937 {
    state: [u32; 624],
    next: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let last = state[i - 1];
            state[i] = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn twist(&mut self) {
        for i in 0..624 {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `[0, 1)` with 53 bits.
    fn uniform(&mut self) -> f64 {
        let (a, b) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`).
    #[test]
    fn philox_known_answers() {
        let zeros = philox([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    /// numpy 1.26: `RandomState(seed).randn(512)[[0, 1, 2, 3, 511]]`.
    #[test]
    fn numpy_randn_known_answers() {
        #[expect(clippy::unreadable_literal, reason = "as numpy prints them")]
        let known: [(u32, [f64; 5]); 5] = [
            (
                0,
                [
                    1.764052345967664,
                    0.4001572083672233,
                    0.9787379841057392,
                    2.240893199201458,
                    1.3749640663929898,
                ],
            ),
            (
                1,
                [
                    1.6243453636632417,
                    -0.6117564136500754,
                    -0.5281717522634557,
                    -1.0729686221561705,
                    0.19686977925029145,
                ],
            ),
            (
                42,
                [
                    0.4967141530112327,
                    -0.13826430117118466,
                    0.6476885381006925,
                    1.5230298564080254,
                    -0.05023810944913695,
                ],
            ),
            (
                85,
                [
                    0.1768507210788626,
                    2.3777541249700573,
                    0.998732857053734,
                    -1.3101507969798436,
                    0.8217957110292099,
                ],
            ),
            (
                600,
                [
                    0.04527855593816062,
                    -0.4992667462316012,
                    -1.271601955752985,
                    -0.5179830775841611,
                    0.4417074835941578,
                ],
            ),
        ];
        for (seed, expected) in known {
            let z = numpy_randn(seed, 512);
            assert_eq!([z[0], z[1], z[2], z[3], z[511]], expected, "seed {seed}");
        }
    }

    #[test]
    fn draws_have_the_moments_of_their_distribution() {
        let rng = Rng::new(7, Stream::Latents, 3);
        let normals = rng.normals(100_000);
        let mean = |power: i32| normals.iter().map(|z| z.powi(power)).sum::<f64>() / 1e5;
        assert!(mean(1).abs() < 0.02 && (mean(2) - 1.0).abs() < 0.02);
        assert!(mean(3).abs() < 0.05 && (mean(4) - 3.0).abs() < 0.1);
        assert_eq!(rng.normal(0), normals[0]);
        let mean = (0..10_000).map(|i| rng.uniform(i)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.01);
    }

    #[test]
    fn draws_differ_between_seeds_streams_steps_and_indices() {
        let base = Rng::new(1, Stream::Latents, 1);
        let others = [
            Rng::new(2, Stream::Latents, 1),
            Rng::new(1 << 32 | 1, Stream::Latents, 1),
            Rng::new(1, Stream::Labels, 1),
            Rng::new(1, Stream::Latents, 2),
            Rng::new(1, Stream::Latents, 1 << 32 | 1),
        ];
        for other in others {
            assert_ne!(base.block(0), other.block(0));
        }
        assert_ne!(base.block(0), base.block(1));
        assert_ne!(base.block(0), base.block(1 << 32));
    }

    #[test]
    fn a_permutation_holds_each_index_once() {
        let mut order = Rng::new(5, Stream::Order, 0).permutation(100);
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
