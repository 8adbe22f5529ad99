//! `inspect`: what a weights file says of itself.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};
use tracing::info;

use super::UsageError;
use super::pictures::must_be_a_file;
use super::weights::read;
use crate::home::plot::{Series, number, svg};
use crate::job::outputs::write_file;
use crate::latent::Model;
use crate::model::weights::ENTRY;

/// Blocks of a line of figures.
const LINE_WIDTH: usize = 40;
/// What statistics are counted by.
const TIME: &str = "nimg";

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// A generator.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// SVG file that receives the statistics as curves; its folder is made where missing.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let bytes = read(&args.weights)?;
    let refused = |error| UsageError(format!("{}: {error}", args.weights.display()));
    let model = Model::from_bytes(&bytes, &Device::Cpu).map_err(refused)?;
    let header = raw_header(&bytes)?;
    let all = series(header.get("statistics").unwrap_or(&Value::Null));
    if let Some(out) = &args.out {
        must_be_a_file(out, "statistics.svg")?;
        let title = format!("{} kimg, {}..", kimg(&model), &model.hash[..12]);
        write_file(out, svg(&title, &all).as_bytes())?;
        info!("{} curves written to {}", all.len(), out.display());
    }
    let text = if args.json {
        let file =
            json!({"bytes": bytes.len(), "blake3": model.hash, "parameters": num_params(&model)});
        let mut object = Map::from_iter([("file".to_owned(), file)]);
        object.extend(header);
        serde_json::to_string_pretty(&object)?
    } else {
        lines(&model, bytes.len(), &header, &all).join("\n")
    };
    writeln!(std::io::stdout().lock(), "{text}").context("stdout")
}

/// All that the header has, also what this version knows nothing of.
fn raw_header(bytes: &[u8]) -> Result<Map<String, Value>> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let entry = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
    Ok(serde_json::from_str(entry.context("expected a header")?)?)
}

fn lines(
    model: &Model,
    num_bytes: usize,
    header: &Map<String, Value>,
    all: &[Series],
) -> Vec<String> {
    let config = &model.header.model;
    let channels = |res: &usize| config.channels(*res).to_string();
    let channels: Vec<String> = config.block_resolutions().iter().map(channels).collect();
    let res = config.img_resolution;
    let color = if config.img_channels == 1 { "gray" } else { "RGB" };
    let classes = match (&model.header.class_names, config.c_dim) {
        (_, 0) => "no classes".to_owned(),
        (None, count) => format!("{count} classes"),
        (Some(names), count) => format!("{count} classes: {}", names.as_slice().join(", ")),
    };
    let mut lines = vec![
        format!("file        {:.1} MB, BLAKE3 {}", num_bytes as f64 / 1e6, model.hash),
        format!("written by  {} {}", env!("CARGO_PKG_NAME"), model.header.version),
        format!("pictures    {res} x {res}, {color}, {classes}"),
        format!(
            "network     {:.2} million parameters, z {}, w {}, mapping {}, channels {} from 4 px on, {:?}",
            num_params(model) as f64 / 1e6,
            config.z_dim,
            config.w_dim,
            config.mapping_layers,
            channels.join(" "),
            config.architecture
        ),
        format!("trained     {} kimg", kimg(model)),
    ];
    let training = header.get("training").and_then(Value::as_object);
    for (name, value) in training.into_iter().flatten() {
        lines.push(format!("{name:<11} {}", flat(value)));
    }
    let audit = header.get("audit").map_or("none in this file".to_owned(), flat);
    lines.push(format!("audit       {audit}"));
    let name_len = all.iter().map(|series| series.name.len()).max().unwrap_or(0);
    for series in all {
        let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else {
            continue;
        };
        lines.push(format!(
            "{:<name_len$}  {:<LINE_WIDTH$}  {} to {}",
            series.name,
            series.line(LINE_WIDTH),
            number(first.1),
            number(last.1)
        ));
    }
    lines
}

/// `name value, ..` for an object, without what is not set.
fn flat(value: &Value) -> String {
    let Some(object) = value.as_object() else { return value.to_string() };
    let set = object.iter().filter(|(_, value)| !value.is_null());
    let fields: Vec<String> = set.map(|(name, value)| format!("{name} {value}")).collect();
    fields.join(", ")
}

/// Every figure of the statistics that is a number more than once.
fn series(statistics: &Value) -> Vec<Series> {
    let entries = statistics.as_array().map_or(&[][..], Vec::as_slice);
    let mut all: Vec<Series> = Vec::new();
    for entry in entries.iter().filter_map(Value::as_object) {
        let Some(nimg) = entry.get(TIME).and_then(Value::as_f64) else { continue };
        for (name, value) in entry.iter().filter(|(name, _)| *name != TIME) {
            let Some(value) = value.as_f64() else { continue };
            let point = (nimg / 1000.0, value);
            match all.iter_mut().find(|series| series.name == *name) {
                Some(series) => series.points.push(point),
                None => all.push(Series { name: name.clone(), points: vec![point] }),
            }
        }
    }
    all.retain(|series| series.points.len() > 1);
    all
}

fn kimg(model: &Model) -> f64 {
    model.header.cur_nimg as f64 / 1000.0
}

fn num_params(model: &Model) -> usize {
    model.store.params().iter().map(|(_, var)| var.elem_count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_over_time_is_a_curve() {
        let statistics = json!([
            {"nimg": 1000, "swd": 9.5, "r1_penalty": null, "p": 0.1},
            {"nimg": 2000, "swd": 7.0, "r1_penalty": 1.0, "p": 0.2},
        ]);
        let all = series(&statistics);
        let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["swd", "p"]);
        assert_eq!(all[0].points, [(1.0, 9.5), (2.0, 7.0)]);
        assert!(series(&json!({})).is_empty());
    }
}
