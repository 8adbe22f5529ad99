//! What work costs a GPU, counted without one: launches, bytes, FLOP.
//!
//! While an account is open ([`counted`]) this thread's ops on the processor compute nothing. The
//! functions that make a GPU's arguments (`cuda/`) run on a machine that notes every launch in
//! place of doing it, so what is counted is what would be launched; convolutions are noted as one
//! call each. Results are zeros of the right shape: only shapes decide what runs.
//!
//! Candle's own ops run, and are noted by [`super::Traced`] where it calls them: as `candle: ..`,
//! each result as read once and written once (a sum reads more), matrix products as `matmul`. What
//! is done outside of traced tensors, a few numbers per step, is not; nor are the sizes, some tens of
//! bytes, that candle sends along with sums and with ops on strided tensors.
//!
//! The same names serve to measure: [`clocked`] lets ops compute, and notes what each takes.
//!
//! Not here: which phases a step has (`train`), how long a launch really takes (`estimate`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Result, Tensor};

use super::conv2d::Geometry;
use super::cuda::{Element, Machine, View, Work};

/// Launches, and what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Kernels started, and fills of memory.
    pub launches: f64,
    /// Transfers between processor and GPU.
    pub copies: f64,
    /// Read from and written to the GPU's memory, f32 as f32.
    pub bytes: f64,
    /// Additions and multiplications.
    pub flop: f64,
    /// What it took, where that was measured instead ([`clocked`]).
    pub seconds: f64,
}

impl Tally {
    /// Adds `other`, `times` times.
    pub fn add(&mut self, other: &Self, times: f64) {
        self.launches += other.launches * times;
        self.copies += other.copies * times;
        self.bytes += other.bytes * times;
        self.flop += other.flop * times;
        self.seconds += other.seconds * times;
    }

    /// Seconds on `gpu`, if memory and arithmetic wait for each other's end only.
    pub fn seconds_on(&self, gpu: &Gpu) -> f64 {
        let bytes = self.bytes * gpu.share_of_bytes / gpu.bytes_per_s;
        bytes.max(self.flop / gpu.flop_per_s) + self.launches * gpu.s_per_launch
    }
}

/// The speed of a GPU.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    /// Of its memory.
    pub bytes_per_s: f64,
    /// Bytes that move for one that was counted: a half with numbers of 16 bits.
    pub share_of_bytes: f64,
    /// Of its arithmetic.
    pub flop_per_s: f64,
    /// For each launch.
    pub s_per_launch: f64,
}

impl Gpu {
    /// An A100 at half of what `peak_flop_per_s` promises.
    pub const fn a100(peak_flop_per_s: f64) -> Self {
        let flop_per_s = peak_flop_per_s / 2.0;
        Self { bytes_per_s: 1.5e12, share_of_bytes: 1.0, flop_per_s, s_per_launch: 5e-6 }
    }
}

/// Tallies by what was launched: an op's name, of convolutions followed by their sizes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Sorted by name.
    pub entries: BTreeMap<String, Tally>,
}

impl Account {
    /// Adds `other`, `times` times.
    pub fn add(&mut self, other: &Self, times: f64) {
        for (name, tally) in &other.entries {
            self.entries.entry(name.clone()).or_default().add(tally, times);
        }
    }

    /// All entries together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.entries.values().for_each(|tally| total.add(tally, 1.0));
        total
    }

    /// Seconds on `gpu` if each entry waits for the end of the one before, as on one stream.
    pub fn serial_seconds(&self, gpu: &Gpu) -> f64 {
        self.entries.values().map(|tally| tally.seconds_on(gpu)).sum()
    }
}

/// An open account and what is noted in it.
struct Book {
    account: Account,
    /// Ops compute, and their seconds are noted; else they compute nothing, and what they would
    /// ask of a GPU is noted.
    is_clock: bool,
}

thread_local! {
    static BOOK: RefCell<Option<Book>> = const { RefCell::new(None) };
}

/// Runs `work` with ops that note what they would do, and gives their account.
///
/// # Errors
/// Fails if `work` does.
pub fn counted<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Account)> {
    in_book(false, work)
}

/// Runs `work`, and gives the seconds of its ops by name, under [`Tally::seconds`]; of convolutions
/// also the products that the processor makes of them, under [`Tally::flop`].
///
/// # Errors
/// Fails if `work` does.
pub fn clocked<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Account)> {
    in_book(true, work)
}

fn in_book<T>(is_clock: bool, work: impl FnOnce() -> Result<T>) -> Result<(T, Account)> {
    let outer = BOOK.replace(Some(Book { account: Account::default(), is_clock }));
    let result = work();
    let book = BOOK.replace(outer);
    Ok((result?, book.map_or_else(Account::default, |book| book.account)))
}

/// Whether this thread's ops are counted instead of computed.
pub(super) fn is_on() -> bool {
    BOOK.with_borrow(|book| book.as_ref().is_some_and(|book| !book.is_clock))
}

fn is_clock() -> bool {
    BOOK.with_borrow(|book| book.as_ref().is_some_and(|book| book.is_clock))
}

fn note(name: &str, tally: &Tally) {
    BOOK.with_borrow_mut(|book| {
        let Some(Book { account, .. }) = book else { return };
        account.entries.entry(name.to_owned()).or_default().add(tally, 1.0);
    });
}

/// Does `work`, one op; where seconds are noted, they are this name's. Names are those of the
/// launches that are counted.
pub(super) fn clock<T>(name: &str, work: impl FnOnce() -> T) -> T {
    if !is_clock() {
        return work();
    }
    let start = Instant::now();
    let result = work();
    note(name, &Tally { seconds: start.elapsed().as_secs_f64(), ..Tally::default() });
    result
}

/// Notes a transfer between processor and GPU.
pub fn copied() {
    if is_on() {
        note("copy", &Tally { copies: 1.0, ..Tally::default() });
    }
}

/// One of candle's ops whose result is no view; noted under its `name`, `candle: ..`.
///
/// # Errors
/// Fails as `work` does.
pub(super) fn by_candle(name: &str, work: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    let y = clock(name, work)?;
    if is_on() {
        let bytes = (2 * y.elem_count() * y.dtype().size_in_bytes()) as f64;
        note(name, &Tally { launches: 1.0, bytes, ..Tally::default() });
    }
    Ok(y)
}

/// `a [.., N, K]` times `b [.., K, M]`, as candle does it; noted.
///
/// # Errors
/// Fails as candle does.
pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let name = "matmul";
    let y = clock(name, || a.matmul(b))?;
    if is_on() {
        let bytes = (a.elem_count() + b.elem_count() + y.elem_count()) * a.dtype().size_in_bytes();
        let flop = 2 * y.elem_count() * a.dim(a.rank() - 1)?;
        let (bytes, flop) = (bytes as f64, flop as f64);
        note(name, &Tally { launches: 1.0, bytes, flop, ..Tally::default() });
    }
    Ok(y)
}

/// Does one of the three convolutions, as [`clock`]; notes its products here, too, `flop`.
pub(super) fn clock_convolution<T>(
    kind: &str,
    g: &Geometry,
    flop: impl FnOnce() -> f64,
    work: impl FnOnce() -> T,
) -> T {
    if !is_clock() {
        return work();
    }
    let name = name_of(kind, g);
    let result = clock(&name, work);
    note(&name, &Tally { flop: flop(), ..Tally::default() });
    result
}

fn name_of(kind: &str, g: &Geometry) -> String {
    let Geometry { c, h, w, o, kh, kw, stride, .. } = g;
    format!("{kind} {c} x {h}x{w} to {o}, {kh}x{kw} / {stride}")
}

/// Notes one of the three convolutions; gives zeros in place of its result.
pub(super) fn convolution<T: Element>(
    kind: &str,
    g: &Geometry,
    (a, b, c, d): (usize, usize, usize, usize),
) -> Vec<T> {
    let (oh, ow) = (g.oh(), g.ow());
    let weights = g.o * g.c * g.kh * g.kw;
    let len = g.n * (g.c * g.h * g.w + g.o * oh * ow) + weights;
    let tally = Tally {
        launches: 1.0,
        bytes: (len * size_of::<T>()) as f64,
        flop: 2.0 * (g.n * weights * oh * ow) as f64,
        ..Tally::default()
    };
    note(&name_of(kind, g), &tally);
    vec![T::ZERO; a * b * c * d]
}

/// The machine that notes launches and does nothing.
pub(super) struct Ledger;

impl Machine for Ledger {
    type Buffer<T: Element> = Vec<T>;

    fn alloc<T: Element>(&self, len: usize) -> Result<Vec<T>> {
        Ok(vec![T::ZERO; len])
    }

    fn view<T: Element>(&self, buffer: &Vec<T>) -> View<T> {
        View::from(buffer.as_slice())
    }

    fn launch<T: Element, A: Copy>(&self, kernel: &'static str, _: A, work: Work) -> Result<()> {
        let Work { num_threads, bytes, flop } = work;
        if num_threads > 0 {
            let (bytes, flop) = (bytes as f64, flop as f64);
            note(kernel, &Tally { launches: 1.0, bytes, flop, ..Tally::default() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::ops::bias_act::Activation;
    use crate::ops::{Traced, bias_act, conv2d, grad};

    fn zeros(shape: &[usize]) -> Result<Traced> {
        Ok(Traced::variable(&Var::zeros(shape, DType::F32, &Device::Cpu)?))
    }

    fn tally(launches: usize, bytes: usize, flop: usize) -> Tally {
        let (launches, bytes, flop) = (launches as f64, bytes as f64, flop as f64);
        Tally { launches, bytes, flop, ..Tally::default() }
    }

    /// Forward and both gradients: the same products, and the same three tensors in memory.
    #[test]
    fn a_convolution_is_three_calls_of_2_n_o_c_k_k_oh_ow() -> Result<()> {
        let (n, c, o, res) = (2, 3, 5, 8);
        let (x, w) = (zeros(&[n, c, res, res])?, zeros(&[o, c, 3, 3])?);
        let sum = || conv2d(&x, &w, 2, 1, 1.0)?.sum_all();
        let (_, account) = counted(|| grad(sum()?, &[x.clone(), w.clone()]))?;
        let plane = 4 * 4; // stride 2
        let bytes = 4 * (n * c * res * res + o * c * 9 + n * o * plane);
        let call = tally(1, bytes, 2 * n * o * c * 9 * plane);
        for name in ["conv2d", "conv2d-grad-input", "conv2d-grad-weight"] {
            let name = format!("{name} 3 x 8x8 to 5, 3x3 / 2");
            assert_eq!(account.entries[&name], call, "{name}");
        }
        Ok(())
    }

    /// One kernel forward; backward one, and two for the sums: over lanes, then over images.
    #[test]
    fn a_bias_act_is_four_launches() -> Result<()> {
        let (n, c, plane) = (2, 3, 64);
        let (x, b) = (zeros(&[n, c, 8, 8])?, zeros(&[c])?);
        let act = || bias_act(&x, Some(&b), Activation::LRELU, 1.0, None)?.sum_all();
        let (_, account) = counted(|| grad(act()?, &[x.clone(), b.clone()]))?;
        let (all, lanes) = (n * c * plane, 32);
        assert_eq!(account.entries["bias_act"], tally(1, 4 * (2 * all + c), 2 * all));
        let sums = n * c * lanes;
        assert_eq!(account.entries["bias_act_grad"], tally(1, 4 * (3 * all + sums), 2 * all));
        let terms = sums + n * c;
        assert_eq!(account.entries["sum"], tally(2, 4 * (terms + n * c + c), terms));
        // candle: the sum; its gradient is a view, which is copied for the kernel
        assert_eq!(account.entries["candle: sum"], tally(1, 2 * 4, 0));
        Ok(())
    }

    #[test]
    fn nothing_is_computed_or_noted_but_in_an_account() -> Result<()> {
        let (x, w) = (Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu)?, 2f32);
        let w = Tensor::full(w, (1, 1, 1, 1), &Device::Cpu)?;
        let sum = || {
            let y = conv2d(&(&x).into(), &(&w).into(), 1, 0, 1.0)?;
            y.value().sum_all()?.to_scalar::<f32>()
        };
        assert_eq!(sum()?, 8.0);
        let (inside, account) = counted(sum)?;
        assert_eq!((inside, account.entries.len()), (0.0, 1));
        assert!(counted(|| x.matmul(&w)).is_err());
        assert_eq!(sum()?, 8.0);
        Ok(())
    }

    #[test]
    fn time_is_that_of_the_slower_of_memory_and_arithmetic() {
        let gpu = Gpu::a100(19.5e12);
        let near = |tally: Tally, seconds: f64| {
            assert!((tally.seconds_on(&gpu) / seconds - 1.0).abs() < 1e-12, "{tally:?}");
        };
        near(tally(0, 3_000_000_000, 0), 2e-3);
        near(tally(2, 3_000_000_000, 39_000_000_000), 4e-3 + 1e-5);
    }
}
