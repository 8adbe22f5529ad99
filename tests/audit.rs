//! The audit finds what gives pictures back, and nothing in what does not.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use stylegan2_c2d::audit::{Auditor, Finding, Verdict};
use stylegan2_c2d::data::{Asset, Batches, Cond, Dataset, LoadOptions, load, scan};
use stylegan2_c2d::model::{Noise, Truncation, generator};
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::train::config::TrainConfig;
use stylegan2_c2d::train::phases::Reals;
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use stylegan2_c2d::train::trainer::Trainer;

/// Share of near-copies that is let through.
const LIMIT: f64 = 0.005;
/// Samples that can tell that share.
const SAMPLES: usize = 600;

/// A picture `[3, res, res]` of six figures on a ground, discs and bars of any place, size and color.
fn drawing(res: usize, seed: u64) -> Vec<u8> {
    let rng = Rng::new(seed, Stream::Pictures, 1);
    let color = |i: u64| [0, 1, 2].map(|channel| rng.uniform(i * 16 + channel) * 255.0);
    let mut picture = vec![0u8; 3 * res * res];
    for i in 0..res * res {
        let at = [i / res, i % res].map(|pixel| (pixel as f64 + 0.5) / res as f64);
        let mut seen = color(0);
        for figure in 1..7u64 {
            let draw = |k: u64| rng.uniform(figure * 16 + 4 + k);
            let [dy, dx] = [at[0] - draw(0), at[1] - draw(1)];
            let (sin, cos) = (draw(2) * std::f64::consts::PI).sin_cos();
            let [along, across] = [dy * cos + dx * sin, dx * cos - dy * sin];
            let size = 0.08 + 0.2 * draw(3);
            let is_inside = if draw(4) < 0.5 {
                along.hypot(across) < size
            } else {
                along.abs() < 2.0 * size && across.abs() < size / 2.0
            };
            if is_inside {
                seen = color(figure);
            }
        }
        for (channel, value) in seen.into_iter().enumerate() {
            picture[channel * res * res + i] = value as u8;
        }
    }
    picture
}

fn drawings(res: usize, seeds: std::ops::Range<u64>) -> Dataset {
    let pictures = seeds.flat_map(|seed| drawing(res, seed)).collect();
    Dataset::from_raw(res, pictures, 0, Vec::new()).unwrap()
}

/// Pictures as a generator gives them, `[N, 3, res, res]` in [-1, 1].
fn images<'a>(res: usize, pictures: impl Iterator<Item = &'a [u8]>) -> Tensor {
    let values: Vec<f32> = pictures.flatten().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
    Tensor::from_vec(values, ((), 3, res, res), &Device::Cpu).unwrap()
}

/// What a generator that learned its pictures by heart might make of one of them: mirrored or not,
/// moved by a pixel, in other light.
fn augmented(picture: &[u8], res: usize, seed: u64) -> Vec<u8> {
    let rng = Rng::new(seed, Stream::Samples, 2);
    let is_mirrored = rng.uniform(0) < 0.5;
    let [dy, dx] = [1, 2].map(|i| rng.below(i, 3));
    let gains = [3, 4, 5].map(|i| 0.85 + 0.3 * rng.uniform(i));
    let value = |i: usize| {
        let (plane, y, x) = (i / (res * res), i / res % res, i % res);
        let x = if is_mirrored { res - 1 - x } else { x };
        let [y, x] = [(y, dy), (x, dx)].map(|(at, d)| (at + d).saturating_sub(1).min(res - 1));
        (f64::from(picture[(plane * res + y) * res + x]) * gains[plane]).min(255.0) as u8
    };
    (0..picture.len()).map(value).collect()
}

/// The finding on samples of which every `period`-th is a copy and the rest are new drawings.
fn finding(auditor: &Auditor, dataset: &Dataset, period: u64) -> Finding {
    let res = dataset.resolution();
    let sample = |i: u64| {
        if i.is_multiple_of(period) {
            let idx = Rng::new(4, Stream::Samples, 3).below(i, dataset.len());
            augmented(dataset.image(idx).expose(), res, i)
        } else {
            drawing(res, 1_000_000 + i)
        }
    };
    let mut audit = auditor.begin();
    for start in (0..SAMPLES as u64).step_by(100) {
        let pictures: Vec<_> = (start..start + 100).map(sample).collect();
        audit.add(&images(res, pictures.iter().map(Vec::as_slice))).unwrap();
    }
    audit.finding(LIMIT)
}

/// Every set: planted copies are found, works are told from copies, new drawings pass, a copycat
/// does not, and neither does a generator with one copy in a hundred samples.
#[test]
fn copies_are_found_and_new_drawings_are_none() {
    for (res, num_pictures) in [(16, 60), (32, 1), (32, 8), (32, 600), (64, 200)] {
        let dataset = drawings(res, 0..num_pictures);
        let auditor = Auditor::new(&dataset, 0).unwrap();
        let calibration = auditor.calibration();
        assert!(calibration.power() >= 0.99, "{res}, {num_pictures}: {calibration:?}");
        assert!(calibration.is_separable(), "{res}, {num_pictures}: {calibration:?}");
        let never = finding(&auditor, &dataset, 1 << 32);
        // sample 0 is always a copy, so one is found
        assert_eq!((never.near_copies, never.samples), (1, SAMPLES), "{res}, {num_pictures}");
        let copycat = finding(&auditor, &dataset, 1);
        assert_eq!(copycat.verdict, Verdict::Withhold, "{res}, {num_pictures}: {copycat}");
        assert!(copycat.near_copies >= SAMPLES * 97 / 100, "{res}, {num_pictures}: {copycat}");
        let one_percent = finding(&auditor, &dataset, 100);
        assert_eq!(one_percent.verdict, Verdict::Withhold, "{res}, {num_pictures}: {one_percent}");
    }
}

/// A set of pictures of 16 pixels in folders, one per class if `cond` says so.
fn set_of_classes(pictures: impl Iterator<Item = (&'static str, Vec<u8>)>, cond: Cond) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    for (i, (class, planar)) in pictures.enumerate() {
        let class = folder.path().join(class);
        fs::create_dir_all(&class).unwrap();
        let pixel =
            |x: u32, y: u32| image::Rgb([0, 1, 2].map(|c| planar[c * 256 + (y * 16 + x) as usize]));
        let picture = image::RgbImage::from_fn(16, 16, pixel);
        picture.save(class.join(format!("{i}.png"))).unwrap();
    }
    let assets = [Asset { roots: vec![folder.path().to_owned()] }];
    let options = LoadOptions { resolution: Some(16), cond, ..LoadOptions::default() };
    let stop = AtomicBool::new(false);
    let scanned = scan(&assets, &options, &stop).unwrap();
    load(&assets, &options, &scanned, &stop).unwrap()
}

/// What the audit says of `samples` of 16 pixels.
fn finding_among(auditor: &Auditor, samples: impl Iterator<Item = Vec<u8>>) -> Finding {
    let mut audit = auditor.begin();
    let samples: Vec<_> = samples.collect();
    for samples in samples.chunks(100) {
        audit.add(&images(16, samples.iter().map(Vec::as_slice))).unwrap();
    }
    audit.finding(LIMIT)
}

/// Six of 3,000 samples give back a picture of the small class: few among all, and many among
/// those that are near that class.
#[test]
fn a_small_class_is_judged_by_itself() {
    for (cond, verdict) in [(Cond::Folders, Verdict::Withhold), (Cond::Off, Verdict::Pass)] {
        let class = |seed| if seed < 10 { "few" } else { "many" };
        let dataset = set_of_classes((0..100).map(|seed| (class(seed), drawing(16, seed))), cond);
        let auditor = Auditor::new(&dataset, 0).unwrap();
        let sample = |i| {
            let copied = drawing(16, i % 10);
            if i % 500 == 0 { augmented(&copied, 16, i) } else { drawing(16, 1_000_000 + i) }
        };
        let finding = finding_among(&auditor, (0..3000).map(sample));
        assert_eq!((finding.near_copies, finding.verdict), (6, verdict), "{finding}");
    }
}

/// A disc of one of few sizes and places: a set that is as much like itself as copies are.
fn disc(seed: u64) -> Vec<u8> {
    let rng = Rng::new(seed, Stream::Pictures, 2);
    let [y, x, radius] = [(0, 6.0, 4.0), (1, 6.0, 4.0), (2, 3.0, 3.0)]
        .map(|(i, least, range)| least + range * rng.uniform(i));
    let value = |i: usize| {
        let distance = ((i / 16 % 16) as f64 - y).hypot((i % 16) as f64 - x);
        (40.0 + 180.0 * (radius - distance + 0.5).clamp(0.0, 1.0)) as u8
    };
    (0..3 * 256).map(value).collect()
}

/// In a set of discs that cannot be told apart, new discs are no reason to withhold, nor to pass.
#[test]
fn a_set_that_is_like_itself_is_inconclusive() {
    let dataset = Dataset::from_raw(16, (0..300).flat_map(disc).collect(), 0, Vec::new()).unwrap();
    let auditor = Auditor::new(&dataset, 0).unwrap();
    assert!(!auditor.calibration().is_separable(), "{:?}", auditor.calibration());
    let finding = finding_among(&auditor, (10_000..10_600).map(disc));
    assert_eq!(finding.verdict, Verdict::Inconclusive, "{finding}");
    assert!(auditor.begin().add(&images(32, std::iter::once(drawing(32, 0).as_slice()))).is_err());
}

/// A class of discs among drawings: new discs are as much like discs as these are like each other,
/// however few of the whole set are alike. Drawings that are given back are found beside them.
#[test]
fn a_class_that_is_like_itself_hides_nothing_and_is_no_alarm() {
    let discs = (0..150).map(|seed| ("discs", disc(seed)));
    let drawings = (0..600).map(|seed| ("drawings", drawing(16, seed)));
    let auditor = Auditor::new(&set_of_classes(discs.chain(drawings), Cond::Folders), 0).unwrap();
    assert!(!auditor.calibration().is_separable(), "{:?}", auditor.calibration());
    for (gives_back, verdict) in [(false, Verdict::Inconclusive), (true, Verdict::Withhold)] {
        let sample = |i: u64| match i % 5 {
            0 => disc(10_000 + i),
            _ if gives_back => augmented(&drawing(16, i % 600), 16, i),
            _ => drawing(16, 1_000_000 + i),
        };
        let finding = finding_among(&auditor, (0..600).map(sample));
        assert_eq!(finding.verdict, verdict, "{finding}");
    }
}

/// A third of a set are discs. A generator that draws discs half of the time, which is more than the
/// set does, has copied nothing; one that gives back two pictures of three has.
#[test]
fn what_is_more_usual_than_the_set_is_no_alarm() {
    let picture = |i: u64| if i.is_multiple_of(3) { disc(i) } else { drawing(16, i) };
    let dataset = Dataset::from_raw(16, (0..600).flat_map(picture).collect(), 0, Vec::new());
    let auditor = Auditor::new(&dataset.unwrap(), 0).unwrap();
    let usual =
        |i: u64| if i.is_multiple_of(2) { disc(10_000 + i) } else { drawing(16, 10_000 + i) };
    let copied = |i: u64| {
        if i.is_multiple_of(3) {
            drawing(16, 10_000 + i)
        } else {
            augmented(&picture(i % 600), 16, i)
        }
    };
    let of_usual = finding_among(&auditor, (0..600).map(usual));
    assert_eq!(of_usual.verdict, Verdict::Inconclusive, "{of_usual}");
    let of_copied = finding_among(&auditor, (0..600).map(copied));
    assert_eq!(of_copied.verdict, Verdict::Withhold, "{of_copied}");
}

/// What the audit says of so many samples of 32 pixels.
fn judged(auditor: &Auditor, sample: impl Fn(u64) -> Vec<u8>) -> Finding {
    let samples: Vec<_> = (0..SAMPLES as u64).map(sample).collect();
    let mut audit = auditor.begin();
    audit.add(&images(32, samples.iter().map(Vec::as_slice))).unwrap();
    audit.finding(LIMIT)
}

/// A picture of 32 pixels without its details.
fn smooth(planar: &[u8], deviation: f32) -> Vec<u8> {
    let pixel =
        |x: u32, y: u32| image::Rgb([0, 1, 2].map(|c| planar[c * 1024 + (y * 32 + x) as usize]));
    let picture = image::imageops::blur(&image::RgbImage::from_fn(32, 32, pixel), deviation);
    let value = |i: usize| picture.as_raw()[i % 1024 * 3 + i / 1024];
    (0..3 * 1024).map(value).collect()
}

/// Early pictures of a generator are smooth, and so nearer to others than these are to each other:
/// that is no copying. Pictures of the set that are given back without their details are.
#[test]
fn what_is_smooth_is_no_copy_unless_of_a_picture() {
    let dataset = drawings(32, 0..400);
    let auditor = Auditor::new(&dataset, 0).unwrap();
    for (first, verdict) in [(20_000, Verdict::Pass), (0, Verdict::Withhold)] {
        for deviation in [1.0, 2.0, 3.0, 4.0] {
            let sample = |i: u64| smooth(&drawing(32, first + i % (first + 400)), deviation);
            let finding = judged(&auditor, sample);
            assert_eq!(finding.verdict, verdict, "{deviation}: {finding}");
        }
    }
}

/// What is mixed of three pictures is a copy of none, and yet nearer to them than mixtures of new
/// drawings are.
#[test]
fn mixtures_of_pictures_are_too_near_as_a_whole() {
    let dataset = drawings(32, 0..400);
    let auditor = Auditor::new(&dataset, 0).unwrap();
    for (first, verdict) in [(20_000, Verdict::Pass), (0, Verdict::Withhold)] {
        let sample = |i: u64| {
            let parts =
                [i, 7 * i + 1, 11 * i + 2].map(|seed| drawing(32, first + seed % (first + 400)));
            let mean = |k: usize| parts.iter().map(|part| u32::from(part[k])).sum::<u32>() / 3;
            (0..3 * 1024).map(|k| mean(k) as u8).collect()
        };
        let finding = judged(&auditor, sample);
        assert_eq!((finding.near_copies, finding.verdict), (0, verdict), "{finding}");
        assert_eq!(finding.is_near, verdict == Verdict::Withhold);
    }
}

/// Held-out pictures are no copies; against them a copycat's samples are seen as a whole, too.
#[test]
fn few_samples_say_nothing_and_near_copies_are_named() {
    let dataset = drawings(32, 0..150);
    let mut auditor = Auditor::new(&dataset, 0).unwrap();
    auditor.hold_out(&drawings(32, 5000..5120)).unwrap();
    let copy = augmented(dataset.image(7).expose(), 32, 1);
    let new = drawing(32, 9000);
    let both = images(32, [copy.as_slice(), &new].into_iter());
    assert_eq!(auditor.near_copies(&both).unwrap(), [true, false]);
    let mut audit = auditor.begin();
    audit.add(&both.narrow(0, 1, 1).unwrap()).unwrap();
    assert_eq!(audit.finding(LIMIT).verdict, Verdict::Inconclusive);
    let fresh: Vec<_> = (20_000..20_600).map(|seed| drawing(32, seed)).collect();
    let mut audit = auditor.begin();
    audit.add(&images(32, fresh.iter().map(Vec::as_slice))).unwrap();
    assert_eq!(audit.finding(LIMIT).verdict, Verdict::Pass, "{}", audit.finding(LIMIT));
}

/// A small network that learns pictures of 16 pixels by heart, if they are few.
struct Learner {
    trainer: Trainer,
    batches: Batches,
}

impl Learner {
    fn new(seed: u64, dataset: &Dataset) -> Self {
        let overrides =
            Overrides { batch: Some(8), seed, ema_kimg: Some(0.5), ..Overrides::default() };
        let mut config: TrainConfig = train_config(Cfg::Tiny, 16, 0, &overrides);
        (config.g.z_dim, config.g.w_dim) = (16, 32);
        (config.g.channel_max, config.d.channel_max) = (32, 32);
        config.pl_weight = 0.0;
        config.style_mixing_prob = 0.0;
        config.r1_gamma = 0.1;
        let pictures =
            (0..dataset.len()).flat_map(|idx| dataset.image(idx).expose().to_vec()).collect();
        let pictures = Dataset::from_raw(dataset.resolution(), pictures, 0, Vec::new()).unwrap();
        let trainer = Trainer::new(config, &Device::Cpu).unwrap();
        Self { trainer, batches: Batches::new(pictures, seed) }
    }

    fn steps(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            let at = self.trainer.cur_nimg();
            let (img, c) = self.batches.next(at, 8, &Device::Cpu).unwrap();
            let rounds = self.trainer.draw(&Reals { img, c }, None).unwrap();
            self.trainer.step(&rounds).unwrap();
        }
        self
    }
}

/// The finding on samples of the averaged generator, half of them truncated.
fn finding_of(trainer: &mut Trainer, auditor: &Auditor) -> Finding {
    let config = trainer.config().g.clone();
    let g = generator(&config, &trainer.g_ema().unwrap().frozen()).unwrap();
    let mut audit = auditor.begin();
    for (part, psi) in [(0, 1.0), (1, 0.7)] {
        let z = Rng::new(part, Stream::Samples, 4).normals(SAMPLES / 2 * config.z_dim);
        let z = Tensor::from_vec(z, (SAMPLES / 2, config.z_dim), &Device::Cpu).unwrap();
        let z = z.to_dtype(candle_core::DType::F32).unwrap();
        let truncation = Truncation { psi, cutoff: None };
        audit.add(&g.forward(&z, None, truncation, Noise::Const).unwrap()).unwrap();
    }
    audit.finding(LIMIT)
}

/// Networks that are trained on eight pictures until they give them back, at most 4,000 steps: one, or
/// as many as `NETWORKS` says, up to 20 in ten minutes.
#[test]
fn networks_that_learned_eight_pictures_by_heart_are_withheld() {
    let count = std::env::var("NETWORKS").map_or(1, |count| count.parse().unwrap());
    for seed in (10..20).chain(0..10).take(count) {
        let dataset = drawings(16, 100 * seed..100 * seed + 8);
        let auditor = Auditor::new(&dataset, seed).unwrap();
        let mut learner = Learner::new(seed, &dataset);
        let fresh = finding_of(&mut learner.steps(1).trainer, &auditor);
        assert_eq!(fresh.verdict, Verdict::Pass, "seed {seed}: {fresh}");
        let mut findings = (0..8).map(|_| finding_of(&mut learner.steps(500).trainer, &auditor));
        let is_withheld = findings.any(|finding| finding.verdict == Verdict::Withhold);
        assert!(is_withheld, "seed {seed}: never withheld");
    }
}
