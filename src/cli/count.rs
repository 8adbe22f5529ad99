//! `estimate --count`: what a training step asks of a GPU, and the time that this implies.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result};
use serde_json::json;

use crate::ops::cost::{Account, Gpu, Tally};
use crate::train::config::TrainConfig;
use crate::train::cost::{PARTS, StepCost, step_cost};

/// Terms that are shown.
const NUM_TERMS: usize = 12;

/// An A100 at half of its peaks, by the type that is multiplied in. With 16 bits everything moves
/// half of the bytes, which the optimizer does not quite do.
const GPUS: [(&str, Gpu); 3] = [
    ("f32", Gpu::a100(19.5e12)),
    ("TF32", Gpu::a100(156e12)),
    ("16-bit", Gpu { share_of_bytes: 0.5, ..Gpu::a100(312e12) }),
];

/// Seconds per thousand images that the published trainer takes on an A100 with 16 bits, by
/// resolution.
const PUBLISHED: [(usize, f64); 2] = [(128, 6.8), (256, 12.5)];

pub(super) fn run(config: &TrainConfig, as_json: bool) -> Result<()> {
    let cost = step_cost(config)?;
    let res = config.g.img_resolution;
    let published = PUBLISHED.iter().find(|(at, _)| *at == res).map(|(_, seconds)| *seconds);
    let out = io::stdout().lock();
    let written =
        if as_json { print_json(out, &cost, published) } else { print(out, &cost, published, res) };
    written.context("stdout")
}

/// Rows of the table: the parts of a step, and its mean over a cycle.
fn rows(cost: &StepCost) -> Vec<(&'static str, Account)> {
    let parts = PARTS.into_iter().zip(cost.parts.iter().cloned());
    parts.chain([("mean", cost.mean())]).collect()
}

/// Implied seconds: what memory and arithmetic take side by side, and one launch after the other.
fn seconds(account: &Account) -> [[f64; 2]; 3] {
    GPUS.map(|(_, gpu)| [account.total().seconds_on(&gpu), account.serial_seconds(&gpu)])
}

/// The mean step's terms by op, the largest of [`GPUS`]' second first; convolutions as one.
fn terms(mean: &Account) -> Vec<(String, Tally, [f64; 3])> {
    let mut terms: BTreeMap<&str, Account> = BTreeMap::new();
    for (name, tally) in &mean.entries {
        let is_conv = name.starts_with("conv2d");
        let op = if is_conv { name.split(' ').next().unwrap_or(name) } else { name };
        let part = Account { entries: [(name.clone(), *tally)].into() };
        terms.entry(op).or_default().add(&part, 1.0);
    }
    let term = |(op, account): (&str, Account)| {
        (op.to_owned(), account.total(), GPUS.map(|(_, gpu)| account.serial_seconds(&gpu)))
    };
    let mut terms: Vec<_> = terms.into_iter().map(term).collect();
    terms.sort_by(|a, b| b.2[1].total_cmp(&a.2[1]));
    terms
}

fn print(
    mut out: impl Write,
    cost: &StepCost,
    published: Option<f64>,
    res: usize,
) -> io::Result<()> {
    writeln!(
        out,
        "A step of {} images of {res} px; an A100 at 1.5 TB/s, half of its peak",
        cost.batch
    )?;
    writeln!(
        out,
        "FLOP/s and 5 us a launch; ms, memory beside arithmetic / one after the other\n"
    )?;
    writeln!(
        out,
        "{:27} {:>8} {:>6} {:>7} {:>7} {:>17} {:>17} {:>17}",
        "", "launches", "copies", "GB", "TFLOP", "f32", "TF32", "16-bit"
    )?;
    let line = |out: &mut dyn Write, name: &str, tally: &Tally, ms: [String; 3]| {
        let Tally { launches, copies, bytes, flop, .. } = tally;
        let (gb, tflop) = (bytes / 1e9, flop / 1e12);
        let [f32, tf32, half] = ms;
        writeln!(
            out,
            "{name:27} {launches:8.0} {copies:6.0} {gb:7.2} {tflop:7.3} {f32:>17} {tf32:>17} {half:>17}"
        )
    };
    for (name, account) in rows(cost) {
        let both = |[side, serial]: [f64; 2]| format!("{:.2} / {:.2}", side * 1e3, serial * 1e3);
        line(&mut out, name, &account.total(), seconds(&account).map(both))?;
    }
    let mean = cost.mean();
    writeln!(out, "\nthe mean step's terms, one after the other, by their time with TF32:")?;
    for (op, tally, ms) in terms(&mean).iter().take(NUM_TERMS) {
        line(&mut out, op, tally, ms.map(|seconds| format!("{:.2}", seconds * 1e3)))?;
    }
    let kimg = 1000.0 / cost.batch as f64;
    writeln!(
        out,
        "\n{:.0} GFLOP per image; s per kimg:",
        mean.total().flop / cost.batch as f64 / 1e9
    )?;
    for ((name, _), [side, serial]) in GPUS.into_iter().zip(seconds(&mean)) {
        writeln!(out, "{name:>7}: {:.2} / {:.2}", side * kimg, serial * kimg)?;
    }
    match published {
        Some(seconds) => writeln!(out, "the published trainer, 16-bit: {seconds}"),
        None => Ok(()),
    }
}

fn print_json(mut out: impl Write, cost: &StepCost, published: Option<f64>) -> io::Result<()> {
    let tally = |tally: &Tally| {
        let Tally { launches, copies, bytes, flop, .. } = tally;
        json!({"launches": launches, "copies": copies, "bytes": bytes, "flop": flop})
    };
    let row = |(name, account): (&'static str, Account)| {
        let entries: BTreeMap<&String, _> =
            account.entries.iter().map(|(name, entry)| (name, tally(entry))).collect();
        let times: BTreeMap<&str, _> = GPUS
            .into_iter()
            .zip(seconds(&account))
            .map(|((name, _), [side, serial])| (name, json!({"beside": side, "serial": serial})))
            .collect();
        let value = json!({"total": tally(&account.total()), "seconds": times, "entries": entries});
        (name, value)
    };
    let parts: BTreeMap<_, _> = rows(cost).into_iter().map(row).collect();
    let kimg = 1000.0 / cost.batch as f64;
    let per_kimg: BTreeMap<&str, _> = GPUS
        .into_iter()
        .zip(seconds(&cost.mean()))
        .map(|((name, _), [side, serial])| {
            (name, json!({"beside": side * kimg, "serial": serial * kimg}))
        })
        .collect();
    let value = json!({
        "batch": cost.batch,
        "parts": parts,
        "sec_per_kimg": per_kimg,
        "published_sec_per_kimg": published,
    });
    writeln!(out, "{value}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    #[test]
    fn both_forms_show_every_part_and_the_same_speed() -> Result<()> {
        let config = train_config(Cfg::Tiny, 8, 0, &Overrides::default());
        let cost = step_cost(&config)?;
        let (mut json, mut text) = (Vec::new(), Vec::new());
        print_json(&mut json, &cost, None)?;
        print(&mut text, &cost, Some(6.8), 8)?;
        let (json, text): (Value, _) = (serde_json::from_slice(&json)?, String::from_utf8(text)?);
        for part in PARTS {
            assert!(json["parts"][part]["total"]["launches"].as_f64().unwrap() >= 1.0, "{part}");
            assert!(text.contains(&format!("\n{part:27} ")), "{text}");
        }
        let speed = &json["sec_per_kimg"]["TF32"];
        let [side, serial] = ["beside", "serial"].map(|form| speed[form].as_f64().unwrap());
        assert!(0.0 < side && side < serial, "{speed}");
        assert!(text.contains(&format!("   TF32: {side:.2} / {serial:.2}\n")), "{text}");
        assert!(text.ends_with("the published trainer, 16-bit: 6.8\n"), "{text}");
        Ok(())
    }
}
