//! The machines AVX2 with FMA and AVX-512, for f32.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]
#![expect(clippy::needless_range_loop, reason = "registers are named by row and column")]

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps,
    _mm256_sub_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};
use std::ops::{Add, Mul, Sub};

use super::machine::{Lane, Level, Machine, PANEL, Product, Stage, Vector};
use super::portable::Portable;

impl Lane for f32 {
    fn levels() -> &'static [Level] {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        match (has_avx2, is_x86_feature_detected!("avx512f")) {
            (true, true) => &[Level::Portable, Level::Avx2, Level::Avx512],
            (true, false) => &[Level::Portable, Level::Avx2],
            (false, _) => &[Level::Portable],
        }
    }

    unsafe fn run<S: Stage<Self>>(level: Level, stage: S) {
        // SAFETY: the level is there and the stage's promise holds, says the caller.
        unsafe {
            match level {
                Level::Portable => stage.run::<Portable>(),
                Level::Avx2 => on_avx2(stage),
                Level::Avx512 => on_avx512(stage),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<S: Stage<f32>>(stage: S) {
    // SAFETY: the features are enabled here; the stage's promise is the caller's.
    unsafe { stage.run::<Avx2>() }
}

#[target_feature(enable = "avx2,fma,avx512f")]
unsafe fn on_avx512<S: Stage<f32>>(stage: S) {
    // SAFETY: the features are enabled here; the stage's promise is the caller's.
    unsafe { stage.run::<Avx512>() }
}

/// A newtype of a register with the arithmetic of [`Vector`].
macro_rules! vector {
    ($name:ident, $register:ty, $lanes:expr, $load:ident, $store:ident, $set:ident, $add:ident, $sub:ident, $mul:ident) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name($register);

        impl Add for $name {
            type Output = Self;

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: only the machine's stages make such vectors.
                Self(unsafe { $add(self.0, other.0) })
            }
        }

        impl Sub for $name {
            type Output = Self;

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: only the machine's stages make such vectors.
                Self(unsafe { $sub(self.0, other.0) })
            }
        }

        impl Mul<f64> for $name {
            type Output = Self;

            #[inline(always)]
            fn mul(self, factor: f64) -> Self {
                // SAFETY: only the machine's stages make such vectors.
                Self(unsafe { $mul(self.0, $set(factor as f32)) })
            }
        }

        impl Vector<f32> for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                // SAFETY: readable by the caller's promise.
                Self(unsafe { $load(from) })
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                // SAFETY: writable by the caller's promise.
                unsafe { $store(to, self.0) }
            }
        }
    };
}

vector!(
    F32x8,
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps
);
vector!(
    F32x16,
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps
);

/// 16 registers of 8 lanes: 6 rows of one panel are 12 sums, two registers hold a row of `b`.
pub(super) struct Avx2;

impl Machine<f32> for Avx2 {
    type Vector = F32x8;
    const ROWS: usize = 6;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn multiply<const R: usize, const P: usize, const ROW: usize, const STEP: usize>(
        p: &Product<f32>,
    ) {
        for panel in 0..P {
            // SAFETY: all elements are accessible by the caller's promise.
            unsafe {
                let c = p.c.add(panel * p.c_panel);
                let mut sums = [[_mm256_setzero_ps(); 2]; R];
                if p.accumulate {
                    for i in 0..R {
                        sums[i] = [
                            _mm256_loadu_ps(c.add(i * PANEL)),
                            _mm256_loadu_ps(c.add(i * PANEL + 8)),
                        ];
                    }
                }
                let (mut a, mut b, mut left) = (p.a, p.b.add(panel * p.b_panel), p.k);
                while left > 0 {
                    let len = left.min(PANEL);
                    for k in 0..len {
                        let row = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                        for i in 0..R {
                            let x = _mm256_set1_ps(*a.add(i * ROW + k * STEP));
                            sums[i][0] = _mm256_fmadd_ps(x, row[0], sums[i][0]);
                            sums[i][1] = _mm256_fmadd_ps(x, row[1], sums[i][1]);
                        }
                        b = b.add(PANEL);
                    }
                    a = a.add(p.a_panel);
                    left -= len;
                }
                for i in 0..R {
                    _mm256_storeu_ps(c.add(i * PANEL), sums[i][0]);
                    _mm256_storeu_ps(c.add(i * PANEL + 8), sums[i][1]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: accessible by the caller's promise.
        unsafe { transpose_by_eights(from, from_stride, to, to_stride) }
    }
}

/// 32 registers of 16 lanes: 12 rows of two panels are 24 sums.
pub(super) struct Avx512;

impl Machine<f32> for Avx512 {
    type Vector = F32x16;
    const ROWS: usize = 12;
    const PANELS: usize = 2;

    #[inline(always)]
    unsafe fn multiply<const R: usize, const P: usize, const ROW: usize, const STEP: usize>(
        p: &Product<f32>,
    ) {
        // SAFETY: all elements are accessible by the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); P]; R];
            if p.accumulate {
                for i in 0..R {
                    for j in 0..P {
                        sums[i][j] = _mm512_loadu_ps(p.c.add(j * p.c_panel + i * PANEL));
                    }
                }
            }
            let (mut a, mut b, mut left) = (p.a, p.b, p.k);
            while left > 0 {
                let len = left.min(PANEL);
                for k in 0..len {
                    let mut row = [_mm512_setzero_ps(); P];
                    for j in 0..P {
                        row[j] = _mm512_loadu_ps(b.add(j * p.b_panel));
                    }
                    for i in 0..R {
                        let x = _mm512_set1_ps(*a.add(i * ROW + k * STEP));
                        for j in 0..P {
                            sums[i][j] = _mm512_fmadd_ps(x, row[j], sums[i][j]);
                        }
                    }
                    b = b.add(PANEL);
                }
                a = a.add(p.a_panel);
                left -= len;
            }
            for i in 0..R {
                for j in 0..P {
                    _mm512_storeu_ps(p.c.add(j * p.c_panel + i * PANEL), sums[i][j]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: accessible by the caller's promise.
        unsafe { transpose_by_eights(from, from_stride, to, to_stride) }
    }
}

/// Four blocks of 8x8.
#[inline(always)]
unsafe fn transpose_by_eights(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        // SAFETY: the four blocks are the accessible 16x16.
        unsafe {
            let (from, to) = (from.add(i * from_stride + j), to.add(j * to_stride + i));
            transpose_8x8(from, from_stride, to, to_stride);
        }
    }
}

/// Interleaves pairs of rows, then pairs of pairs, then the halves.
#[inline(always)]
unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: accessible by the caller's promise.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(i * from_stride));
        }
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = rows; // columns j and j + 4 of rows 0..4, then of rows 4..8
        for i in 0..2 {
            for j in 0..2 {
                let (upper, lower) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
                fours[4 * i + 2 * j] = _mm256_shuffle_ps(upper, lower, 0x44);
                fours[4 * i + 2 * j + 1] = _mm256_shuffle_ps(upper, lower, 0xEE);
            }
        }
        for j in 0..4 {
            let left = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x20);
            let right = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x31);
            _mm256_storeu_ps(to.add(j * to_stride), left);
            _mm256_storeu_ps(to.add((j + 4) * to_stride), right);
        }
    }
}
