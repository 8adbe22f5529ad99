//! Arguments of `kernels/adam.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::adam::Rates;

#[derive(Clone, Copy)]
#[repr(C)]
struct AdamArgs<T> {
    addresses: [u64; 5],
    ema_beta: T,
    beta1: T,
    beta2: T,
    eps: T,
    step_size: T,
    root_correction: T,
}

/// Updates parameters `p` and moments (m, v) from gradients `g`; before that, with `ema`, the
/// average from the old parameters.
pub(in crate::ops) fn step<M: Machine, T: Element<Compute = T>>(
    gpu: &M,
    (p, g): (View<T>, View<T>),
    (m, v): (View<T>, View<T>),
    ema: Option<(View<T>, f64)>,
    rates: Rates,
) -> Result<()> {
    let touched = 7 + 2 * usize::from(ema.is_some()); // p, m, v and ema are read and written
    let work = Work { num_threads: p.len, bytes: touched * p.bytes(), flop: 14 * p.len };
    let (ema, beta) = ema.map_or((0, 0.0), |(ema, beta)| (ema.address, beta));
    let args = AdamArgs {
        addresses: [p.address, g.address, m.address, v.address, ema],
        ema_beta: T::constant(beta),
        beta1: T::constant(rates.beta1),
        beta2: T::constant(rates.beta2),
        eps: T::constant(rates.eps),
        step_size: T::constant(rates.step_size),
        root_correction: T::constant(rates.root_correction),
    };
    gpu.launch::<T, _>("adam", args, work)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct BlendArgs<T> {
    ema: u64,
    value: u64,
    beta: T,
}

/// `e = p + beta (e - p)`.
pub(in crate::ops) fn blend<M: Machine, T: Element<Compute = T>>(
    gpu: &M,
    ema: View<T>,
    value: View<T>,
    beta: f64,
) -> Result<()> {
    let args = BlendArgs { ema: ema.address, value: value.address, beta: T::constant(beta) };
    let work = Work { num_threads: value.len, bytes: 3 * value.bytes(), flop: 3 * value.len };
    gpu.launch::<T, _>("blend", args, work)
}
