//! The machine of any processor: what the compiler makes of plain loops.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::ops::{Add, Mul, Sub};

use super::machine::{Lane, Level, Machine, PANEL, Product, Stage, Vector};
use crate::ops::cpu::Element;

pub(super) struct Portable;

/// As many lanes as every processor has in a register of f32.
#[derive(Clone, Copy)]
pub(super) struct Pack<T>([T; 4]);

impl<T: Element> Add for Pack<T> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

impl<T: Element> Sub for Pack<T> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
}

impl<T: Element> Mul<f64> for Pack<T> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, factor: f64) -> Self {
        let factor = T::from_f64(factor);
        Self(self.0.map(|x| x * factor))
    }
}

impl<T: Element> Vector<T> for Pack<T> {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: readable by the caller's promise.
        Self(unsafe { from.cast::<[T; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: writable by the caller's promise.
        unsafe { to.cast::<[T; 4]>().write(self.0) }
    }
}

impl<T: Element> Machine<T> for Portable {
    type Vector = Pack<T>;
    const ROWS: usize = 4;
    const PANELS: usize = 1;

    #[inline(always)]
    unsafe fn multiply<const R: usize, const P: usize, const ROW: usize, const STEP: usize>(
        p: &Product<T>,
    ) {
        for panel in 0..P {
            // SAFETY: all elements are accessible by the caller's promise.
            unsafe {
                let b = p.b.add(panel * p.b_panel);
                let c = p.c.add(panel * p.c_panel).cast::<[T; PANEL]>();
                let mut sums = [[T::zero(); PANEL]; R];
                if p.accumulate {
                    sums.iter_mut().enumerate().for_each(|(i, sums)| *sums = *c.add(i));
                }
                for k in 0..p.k {
                    let a = p.a.add(k / PANEL * p.a_panel + k % PANEL * STEP);
                    let b = &*b.add(k * PANEL).cast::<[T; PANEL]>();
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = *a.add(i * ROW);
                        sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * *b);
                    }
                }
                sums.iter().enumerate().for_each(|(i, sums)| *c.add(i) = *sums);
            }
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const T, from_stride: usize, to: *mut T, to_stride: usize) {
        for i in 0..PANEL {
            for j in 0..PANEL {
                // SAFETY: accessible by the caller's promise.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
}

impl Lane for f64 {
    fn levels() -> &'static [Level] {
        &[Level::Portable]
    }

    unsafe fn run<S: Stage<Self>>(_level: Level, stage: S) {
        // SAFETY: every processor is portable; the stage's promise is the caller's.
        unsafe { stage.run::<Portable>() }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Lane for f32 {
    fn levels() -> &'static [Level] {
        &[Level::Portable]
    }

    unsafe fn run<S: Stage<Self>>(_level: Level, stage: S) {
        // SAFETY: every processor is portable; the stage's promise is the caller's.
        unsafe { stage.run::<Portable>() }
    }
}
