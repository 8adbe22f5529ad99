//! A job within the limits of the owners of its pictures: what is read, and what is trained.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use tracing::{info, warn};

use super::params::Params;
use super::policy::{Limits, Policy, PolicyError};
use super::resume::Source;
use super::table::StateKind;
use crate::data::{Asset, AssetCounts, Dataset, KeepNames, LoadOptions, Scan, load, scan};

/// Reads the pictures of those assets that are large enough.
///
/// * `publisher` - limits that hold for every asset.
///
/// # Errors
/// Fails if there are no pictures, if they do not fit into memory, if labels are not as asked for,
/// if a policy is broken, or if policies refuse.
pub(super) fn read_allowed(
    assets: Vec<Asset>,
    options: &LoadOptions,
    publisher: Policy,
    stop: &AtomicBool,
) -> Result<(Dataset, Limits)> {
    let options = LoadOptions { class_names: KeepNames::IfThere, ..options.clone() };
    let scanned = scan(&assets, &options, stop)?;
    let policies = policies(&scanned, publisher)?;
    let (num_given, given) = (assets.len(), assets.into_iter().zip(policies));
    let (assets, policies) = large_enough(given, &scanned.report().assets);
    let scanned = if assets.len() < num_given { scan(&assets, &options, stop)? } else { scanned };
    let limits_of = |counts: &[AssetCounts]| {
        let assets: Vec<_> = counts.iter().zip(policies.iter().copied()).collect();
        Limits::of(&assets)
    };
    let keeps_names = limits_of(&scanned.report().assets)?.policy.class_names;
    let scanned = if keeps_names { scanned } else { scanned.without_class_names() };
    let dataset = load(&assets, &options, &scanned, stop)?;
    let limits = limits_of(&dataset.report().assets)?; // some pictures may be broken
    Ok((dataset, limits))
}

/// The policy of each asset.
///
/// # Errors
/// Fails if one is broken, or lies where none is read.
pub fn policies(scanned: &Scan, publisher: Policy) -> Result<Vec<Policy>, PolicyError> {
    if scanned.has_stray_policy() {
        return Err(PolicyError::Stray);
    }
    let of_asset = |(files, counts): (&Vec<Vec<u8>>, &AssetCounts)| {
        if counts.num_images == 0 && !files.is_empty() {
            warn!("a c2d-policy.json that lies beside the assets speaks for none of them");
            return Ok(Policy::DEFAULT);
        }
        let policies = files.iter().map(|file| Policy::of_file(file));
        let policies = policies.collect::<Result<Vec<_>, _>>()?;
        Ok(policies.into_iter().reduce(Policy::meet).unwrap_or(Policy::DEFAULT).meet(publisher))
    };
    scanned.policies().iter().zip(&scanned.report().assets).map(of_asset).collect()
}

/// Leaves out the assets that are too small, unless no other has pictures.
fn large_enough(
    assets: impl Iterator<Item = (Asset, Policy)>,
    counts: &[AssetCounts],
) -> (Vec<Asset>, Vec<Policy>) {
    let assets: Vec<_> = assets.zip(counts).collect();
    let is_small =
        |(_, policy): &(Asset, Policy), counts: &AssetCounts| policy.is_too_small(counts);
    let num_small = assets.iter().filter(|(asset, counts)| is_small(asset, counts)).count();
    let num_filled = counts.iter().filter(|counts| counts.num_images > 0).count();
    let leaves_out = (1..num_filled).contains(&num_small);
    if leaves_out {
        info!("assets left out: {num_small}, with fewer pictures than their owners' minimum");
    }
    assets
        .into_iter()
        .filter(|(asset, counts)| !(leaves_out && is_small(asset, counts)))
        .map(|(asset, _)| asset)
        .unzip()
}

/// What was asked for, as far as the owners allow it.
///
/// # Errors
/// Fails if the job would begin with a state, and an owner allows none.
pub(super) fn within(
    limits: &Limits,
    mut params: Params,
    source: Option<&Source>,
) -> Result<Params, PolicyError> {
    let policy = limits.policy;
    if !policy.sealed_state && matches!(source, Some(Source::State(_))) {
        return Err(PolicyError::State);
    }
    if policy.samples_only {
        info!("an owner allows samples only: no weights are written");
    }
    if params.state != StateKind::Off && (policy.samples_only || !policy.sealed_state) {
        info!("an owner does not allow states: none is written");
        params.state = StateKind::Off;
    }
    if let Some(max_kimg) = limits.max_kimg.filter(|max_kimg| *max_kimg < params.kimg) {
        info!("kimg is {max_kimg}: an owner does not allow more for so many pictures");
        params.kimg = max_kimg;
    }
    Ok(params)
}
