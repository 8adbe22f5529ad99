//! Arguments of `kernels/adam.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::adam::Rates;

#[derive(Clone, Copy)]
#[repr(C)]
struct AdamArgs<T> {
    addresses: [u64; 6],
    ema_beta: T,
    beta1: T,
    beta2: T,
    eps: T,
    step_size: T,
    root_correction: T,
}

/// Updates parameters `p` and moments (m, v) from gradients `g`; before that, with `ema`, the
/// average from the old parameters. Behind a gate that is not finite only the average moves.
pub(in crate::ops) fn step<M: Machine, T: Element<Compute = T>>(
    gpu: &M,
    (p, g): (View<T>, View<T>),
    (m, v): (View<T>, View<T>),
    ema: Option<(View<T>, f64)>,
    (rates, gate): (Rates, Option<View<f64>>),
) -> Result<()> {
    let touched = 7 + 2 * usize::from(ema.is_some()); // p, m, v and ema are read and written
    let work = Work { num_threads: p.len, bytes: touched * p.bytes(), flop: 14 * p.len };
    let (ema, beta) = ema.map_or((0, 0.0), |(ema, beta)| (ema.address, beta));
    let args = AdamArgs {
        addresses: [p.address, g.address, m.address, v.address, ema, address(gate)],
        ema_beta: T::constant(beta),
        beta1: T::constant(rates.beta1),
        beta2: T::constant(rates.beta2),
        eps: T::constant(rates.eps),
        step_size: T::constant(rates.step_size),
        root_correction: T::constant(rates.root_correction),
    };
    gpu.launch::<T, _>("adam", args, work)
}

/// Where a gate is; 0: there is none.
fn address(gate: Option<View<f64>>) -> u64 {
    gate.map_or(0, |gate| gate.address)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct BlendArgs<T> {
    ema: u64,
    value: u64,
    gate: u64,
    beta: T,
}

/// `e = p + beta (e - p)`, unless the gate is not finite.
pub(in crate::ops) fn blend<M: Machine, T: Element<Compute = T>>(
    gpu: &M,
    ema: View<T>,
    value: View<T>,
    (beta, gate): (f64, Option<View<f64>>),
) -> Result<()> {
    let beta = T::constant(beta);
    let args = BlendArgs { ema: ema.address, value: value.address, gate: address(gate), beta };
    let work = Work { num_threads: value.len, bytes: 3 * value.bytes(), flop: 3 * value.len };
    gpu.launch::<T, _>("blend", args, work)
}
