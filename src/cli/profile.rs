//! `estimate --profile`: where a training step's time goes, op by op, and how far each op is from
//! what the machine's matrix product and its memory would allow.
//!
//! What an op moves and computes is counted ([`crate::train::cost`]), convolutions as if they were
//! done directly: an algorithm with fewer products can exceed the speed of the matrix product. The
//! bound counts the products that are left, or the bytes, and no transform.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use serde_json::json;

use super::estimate::{best_seconds, rounds};
use crate::ops::cost::{Account, Tally};
use crate::train::cost::step_cost;
use crate::train::trainer::Trainer;

/// Elements of the tensor that is copied to learn the memory's speed.
const COPY: usize = 1 << 24;

/// What the machine can do.
struct Machine {
    flop_per_s: f64,
    bytes_per_s: f64,
}

/// A row of the table: ops of one kind in the mean step.
#[derive(Default)]
struct Row {
    seconds: f64,
    /// What was asked for.
    flop: f64,
    bytes: f64,
    /// What is left of `flop` where products are saved.
    made: f64,
}

impl Row {
    /// The least time that the machine needs for what is left to do.
    fn bound(&self, machine: &Machine) -> f64 {
        (self.made / machine.flop_per_s).max(self.bytes / machine.bytes_per_s)
    }
}

pub(super) fn run(
    trainer: &mut Trainer,
    images: &Tensor,
    gemm_gflops: f64,
    as_json: bool,
) -> Result<()> {
    let x = Tensor::ones(COPY, DType::F32, trainer.device())?;
    let seconds = best_seconds(trainer.device(), || Ok(x.copy()?))?;
    let bytes_per_s = (2 * COPY * size_of::<f32>()) as f64 / seconds;
    let machine = Machine { flop_per_s: gemm_gflops * 1e9, bytes_per_s };
    let rounds = rounds(trainer, images)?;
    trainer.clock(&rounds)?; // pages and caches are there when it counts
    let clocked = trainer.clock(&rounds)?.mean();
    let rows = rows(&clocked, &step_cost(trainer.config())?.mean());
    let out = io::stdout().lock();
    let written =
        if as_json { print_json(out, &rows, &machine) } else { print(out, &rows, &machine) };
    written.context("stdout")
}

/// Measured and counted entries by kind of op, the longest first.
fn rows(clocked: &Account, counted: &Account) -> Vec<(String, Row)> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (name, Tally { seconds, flop: made, .. }) in &clocked.entries {
        let row = rows.entry(kind_of(name)).or_default();
        row.seconds += seconds;
        if let Some(Tally { flop, bytes, .. }) = counted.entries.get(name) {
            row.flop += flop;
            row.bytes += bytes;
            row.made += if *made > 0.0 { made } else { flop };
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    rows
}

/// A convolution's name without its sizes: `conv2d 3x3 / 2` of `conv2d 64 x 33x33 to 128, 3x3 / 2`.
fn kind_of(name: &str) -> String {
    match (name.split_once(' '), name.split_once(", ")) {
        (Some((kind, _)), Some((_, kernel))) => format!("{kind} {kernel}"),
        _ => name.to_owned(),
    }
}

fn print(mut out: impl Write, rows: &[(String, Row)], machine: &Machine) -> io::Result<()> {
    let Machine { flop_per_s, bytes_per_s } = *machine;
    writeln!(
        out,
        "matrix product {:.0} GFLOP/s, copy {:.1} GB/s read and written; the mean step:",
        flop_per_s / 1e9,
        bytes_per_s / 1e9
    )?;
    let header = ["ms", "share", "GFLOP/s", "GB/s", "time / bound"];
    let [ms, share, gflops, gbs, bound] = header;
    writeln!(out, "{:27} {ms:>8} {share:>6} {gflops:>8} {gbs:>6} {bound:>13}", "")?;
    let total: f64 = rows.iter().map(|(_, row)| row.seconds).sum();
    for (name, row) in rows {
        let Row { seconds, flop, bytes, .. } = row;
        let (ms, share, gbs) = (seconds * 1e3, 100.0 * seconds / total, bytes / seconds / 1e9);
        let gflops = flop / seconds / 1e9;
        let ratio = seconds / row.bound(machine).max(f64::MIN_POSITIVE);
        writeln!(out, "{name:27} {ms:8.1} {share:5.1}% {gflops:8.1} {gbs:6.1} {ratio:13.2}")?;
    }
    writeln!(out, "{:27} {:8.1}", "ops together", total * 1e3)
}

fn print_json(mut out: impl Write, rows: &[(String, Row)], machine: &Machine) -> io::Result<()> {
    let ops: BTreeMap<&str, _> = rows
        .iter()
        .map(|(name, row)| {
            let Row { seconds, flop, bytes, made } = row;
            let value =
                json!({"seconds": seconds, "flop": flop, "bytes": bytes, "flop_made": made});
            (name.as_str(), value)
        })
        .collect();
    let Machine { flop_per_s, bytes_per_s } = machine;
    writeln!(out, "{}", json!({"ops": ops, "flop_per_s": flop_per_s, "bytes_per_s": bytes_per_s}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kinds_of_ops_the_longest_first() {
        let account = |entries: &[(&str, Tally)]| Account {
            entries: entries.iter().map(|(name, tally)| ((*name).to_owned(), *tally)).collect(),
        };
        let seconds = |seconds: f64| Tally { seconds, ..Tally::default() };
        let (a, b) = ("conv2d 3 x 8x8 to 5, 3x3 / 1", "conv2d 5 x 4x4 to 6, 3x3 / 1");
        let saved = Tally { flop: 0.5e9, ..seconds(0.25) };
        let clocked = account(&[(a, saved), (b, seconds(0.25)), ("bias_act", seconds(1.0))]);
        let work = |flop: f64, bytes: f64| Tally { bytes, flop, ..Tally::default() };
        let counted = account(&[(a, work(1e9, 8.0)), (b, work(2e9, 8.0)), ("sum", work(1.0, 1.0))]);
        let rows = rows(&clocked, &counted);
        let names: Vec<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["bias_act", "conv2d 3x3 / 1"]);
        let conv = &rows[1].1;
        assert_eq!((conv.seconds, conv.flop, conv.bytes), (0.5, 3e9, 16.0));
        let machine = Machine { flop_per_s: 5e9, bytes_per_s: 1e9 };
        assert_eq!(conv.bound(&machine), 0.5);

        let (mut text, mut json) = (Vec::new(), Vec::new());
        print(&mut text, &rows, &machine).unwrap();
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find(|line| line.starts_with("conv2d 3x3 / 1")).unwrap();
        let columns: Vec<_> = line.split_whitespace().skip(4).collect();
        assert_eq!(columns, ["500.0", "33.3%", "6.0", "0.0", "1.00"], "{text}");
        print_json(&mut json, &rows, &machine).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["ops"]["bias_act"]["seconds"], 1.0);
    }
}
