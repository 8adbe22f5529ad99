//! `metadata`: ERC-721 JSON beside pictures, for those who mint them.
//!
//! What a picture says of itself becomes attributes; with weights it is verified first, and classes
//! have their names.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tracing::info;

use super::UsageError;
use super::pictures::make_folder;
use super::weights::read;
use crate::home::provenance::Provenance;
use crate::home::verify::{Verdict, verify};
use crate::job::outputs::write_file;
use crate::latent::recipe::{Latent, NoiseMode, Source, Style};
use crate::latent::{Model, Recipe};
use crate::ops::device::{DeviceChoice, open};

/// Flags of `metadata`.
#[derive(Debug, clap::Args)]
pub(super) struct MetadataArgs {
    /// Pictures that generate has written.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The generator.safetensors that they are of: each is made again and compared first, and classes
    /// get their names.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Name of each; {seed}, {class} and {file} are filled in.
    #[arg(long, value_name = "TEXT", default_value = "#{seed}")]
    name: String,
    /// Description of each.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// What goes before the name of the file in "image", such as `ipfs://CID/`.
    #[arg(long, value_name = "URL", default_value = "")]
    image_base: String,
    /// Folder that receives NAME.json for each NAME.png; absent: beside it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &MetadataArgs) -> Result<()> {
    let model = args.weights.as_deref().map(|path| -> Result<Model> {
        let opened = open(DeviceChoice::Cpu)?;
        let refused = |error| UsageError(format!("{}: {error}", path.display()));
        Ok(Model::from_bytes(&read(path)?, &opened.device).map_err(refused)?)
    });
    let model = model.transpose()?;
    // all before the first is written
    let mut all = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let refused = |error: anyhow::Error| UsageError(format!("{}: {error:#}", file.display()));
        all.push((target(args, file)?, token(args, file, model.as_ref()).map_err(refused)?));
    }
    if let Some(out) = &args.out {
        make_folder(out)?;
    }
    for (path, token) in &all {
        write_file(path, format!("{token:#}\n").as_bytes())?;
    }
    info!("{} files written", all.len());
    Ok(())
}

/// Where the JSON of a picture goes.
fn target(args: &MetadataArgs, file: &Path) -> Result<PathBuf, UsageError> {
    let beside = file.with_extension("json");
    match (&args.out, beside.file_name()) {
        (None, Some(_)) => Ok(beside),
        (Some(out), Some(name)) => Ok(out.join(name)),
        (_, None) => Err(UsageError(format!("{}: expected a PNG file", file.display()))),
    }
}

/// The JSON of a picture.
fn token(args: &MetadataArgs, file: &Path, model: Option<&Model>) -> Result<Value> {
    let Some(Provenance { version, model: hash, pictures, .. }) = Provenance::read(file)? else {
        anyhow::bail!(
            "expected a picture that says where it comes from; write it without --no-provenance"
        );
    };
    let [Some(recipe)] = pictures.as_slice() else {
        anyhow::bail!("expected one picture, came a sheet or an animation");
    };
    if let Some(model) = model {
        let verdict = verify(file, model, None)?;
        anyhow::ensure!(verdict == Verdict::Exact, "not what these weights make; see verify");
    }
    let names = model.and_then(|model| model.header.class_names.as_ref());
    let class = recipe.class.map(|class| {
        let name = names.and_then(|names| names.as_slice().get(class));
        name.map_or(json!(class), |name| json!(name))
    });
    let mut attributes = latent_attributes(&recipe.latent);
    attributes.push(attribute("Truncation psi", recipe.trunc));
    attributes.extend(class.as_ref().map(|class| attribute("Class", class.clone())));
    attributes.push(attribute("Noise", noise_name(recipe.noise_mode)));
    attributes.push(attribute("Model (BLAKE3)", hash));
    attributes.push(attribute("Program", format!("{} {version}", env!("CARGO_PKG_NAME"))));
    let base = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let class = class.map(|class| class.as_str().map_or(class.to_string(), ToOwned::to_owned));
    let name = args
        .name
        .replace("{seed}", &seed_of(recipe).map_or(stem.clone(), |seed| seed.to_string()))
        .replace("{class}", &class.unwrap_or_default())
        .replace("{file}", &stem);
    Ok(json!({
        "name": name,
        "description": args.description,
        "image": format!("{}{base}", args.image_base),
        "attributes": attributes,
    }))
}

fn attribute(name: &str, value: impl Into<Value>) -> Value {
    let value: Value = value.into();
    json!({"trait_type": name, "value": value})
}

fn seed_of(recipe: &Recipe) -> Option<u32> {
    match &recipe.latent {
        Latent::Of(Source::Seed(seed))
        | Latent::Mix { base: seed, .. }
        | Latent::Between { from: seed, .. }
        | Latent::Moved { from: Source::Seed(seed), .. }
        | Latent::Shaped { base: Source::Seed(seed), .. } => Some(*seed),
        Latent::Of(Source::File(_))
        | Latent::Moved { from: Source::File(_), .. }
        | Latent::Shaped { base: Source::File(_), .. } => None,
    }
}

fn latent_attributes(latent: &Latent) -> Vec<Value> {
    let source = |source: &Source| match source {
        Source::Seed(seed) => attribute("Seed", *seed),
        Source::File(hash) => attribute("Latents (BLAKE3)", hash.as_str()),
    };
    match latent {
        Latent::Of(of) => vec![source(of)],
        Latent::Between { from, to, at, .. } => vec![
            attribute("Seed", *from),
            attribute("Second seed", *to),
            attribute("Position", *at),
        ],
        Latent::Mix { base, style, layers } => vec![
            attribute("Seed", *base),
            attribute("Second seed", *style),
            attribute("Layers", format!("{layers:?}")),
        ],
        Latent::Moved { from, direction, by, .. } => {
            vec![source(from), attribute("Direction", *direction), attribute("Distance", *by)]
        }
        Latent::Shaped { base, style, moves } => {
            let mut attributes = vec![source(base)];
            if let Some(Style { of: Source::Seed(seed), layers, share }) = style {
                attributes.push(attribute("Second seed", *seed));
                attributes.push(attribute("Layers", format!("{layers:?}")));
                attributes.push(attribute("Share", *share));
            }
            for step in moves {
                attributes.push(attribute("Direction", step.direction));
                attributes.push(attribute("Distance", step.by));
            }
            attributes
        }
    }
}

fn noise_name(noise: NoiseMode) -> &'static str {
    match noise {
        NoiseMode::Const => "const",
        NoiseMode::None => "none",
        NoiseMode::Random(_) => "random",
        NoiseMode::Turned { .. } => "loop",
    }
}
