//! Planes read along affine maps, and the adjoint.
//!
//! A map goes along an output row in a straight line: where it crosses the inside of the plane,
//! which is one range of columns, no neighbour needs to be asked whether it exists.

use std::ops::Range;

use super::Element;
use super::tasks::{fill, for_rows};
use crate::ops::grid_sample::Affine;

/// Sizes of an image and of what is read from it.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Planes {
    pub(in crate::ops) channels: usize,
    pub(in crate::ops) h: usize,
    pub(in crate::ops) w: usize,
    pub(in crate::ops) oh: usize,
    pub(in crate::ops) ow: usize,
}

/// `x [N, channels, h, w]` to `[N, channels, oh, ow]`.
pub(in crate::ops) fn sample<T: Element>(x: &[T], maps: &[Affine], planes: Planes) -> Vec<T> {
    let Planes { channels, h, w, oh, ow } = planes;
    fill(
        maps.len() * channels * oh,
        ow,
        #[inline(always)]
        |rows, y| {
            let mut line = Line::new(planes);
            let mut out = vec![T::zero(); ow];
            for row in rows {
                let plane = row / oh;
                line.follow(&maps[plane / channels], row % oh);
                line.read(&x[plane * h * w..][..h * w], &mut out);
                y.write(ow, out.iter().copied());
            }
        },
    )
}

/// `dy [N, channels, oh, ow]` to `[N, channels, h, w]`; one task for a plane, row after row.
pub(in crate::ops) fn splat<T: Element>(dy: &[T], maps: &[Affine], planes: Planes) -> Vec<T> {
    let Planes { channels, h, w, oh, ow } = planes;
    let mut x = vec![T::zero(); maps.len() * channels * h * w];
    let mut outputs: Vec<&mut [T]> = x.chunks_exact_mut((h * w).max(1)).collect();
    for_rows(
        &mut outputs,
        (h * w).max(oh * ow),
        #[inline(always)]
        |first, outputs| {
            let mut line = Line::new(planes);
            for (plane, x) in (first..).zip(outputs) {
                let dy = dy[plane * oh * ow..][..oh * ow].chunks_exact(ow.max(1));
                for (row, dy) in dy.enumerate() {
                    line.follow(&maps[plane / channels], row);
                    line.add(dy, x);
                }
            }
        },
    );
    x
}

/// The way of one output row through a plane.
struct Line<T> {
    planes: Planes,
    map: Affine,
    row: f64,
    /// Columns that read anything.
    touching: Range<usize>,
    /// Columns whose four neighbours all exist.
    inside: Range<usize>,
    /// For those inside: the upper left neighbour, and how far to the right and down of it.
    at: Vec<u32>,
    right: Vec<T>,
    down: Vec<T>,
}

impl<T: Element> Line<T> {
    fn new(planes: Planes) -> Self {
        let (map, empty) = (Affine { x: [0.0; 3], y: [0.0; 3] }, 0..0);
        let (touching, inside) = (empty.clone(), empty);
        let (at, right, down) = (Vec::new(), Vec::new(), Vec::new());
        Self { planes, map, row: 0.0, touching, inside, at, right, down }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn follow(&mut self, map: &Affine, row: usize) {
        let Planes { h, w, ow, .. } = self.planes;
        let ([right, bottom], row) = ([w, h].map(|len| len as f64), row as f64);
        self.row = row;
        self.map = *map;
        self.touching = self.columns(ow, |x, y| x > -1.0 && x < right && y > -1.0 && y < bottom);
        self.inside =
            self.columns(ow, |x, y| x >= 0.0 && x < right - 1.0 && y >= 0.0 && y < bottom - 1.0);
        if self.inside.is_empty() {
            self.inside = self.touching.end..self.touching.end;
        }
        let len = self.inside.len();
        self.at.resize(len, 0);
        self.right.resize(len, T::zero());
        self.down.resize(len, T::zero());
        let first = self.inside.start as u32;
        let targets = self.at.iter_mut().zip(self.right.iter_mut().zip(&mut self.down));
        for (i, (at, (right, down))) in (first..).zip(targets) {
            let (x, y) = map.at(row, f64::from(i));
            let (left, top) = (x as i32, y as i32);
            *at = (top * w as i32 + left) as u32;
            *right = T::constant(x - f64::from(left));
            *down = T::constant(y - f64::from(top));
        }
    }

    /// The columns below `count` where `is_in` holds for what they read at. It must hold for a
    /// rectangle within one pixel around the plane, so for one range: a line crosses it once.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn columns(&self, count: usize, is_in: impl Fn(f64, f64) -> bool) -> Range<usize> {
        let mut range = 0..count;
        let start = self.map.at(self.row, 0.0);
        let sizes = [self.planes.w, self.planes.h];
        for ((slope, start), len) in
            [(self.map.x[0], start.0), (self.map.y[0], start.1)].into_iter().zip(sizes)
        {
            let (a, b) = ((-1.0 - start) / slope, (len as f64 - start) / slope);
            if !(a.is_nan() || b.is_nan()) {
                range.start = range.start.max((a.min(b) - 1.0) as usize);
                range.end = range.end.min((a.max(b) + 2.0) as usize);
            }
        }
        let holds = |column: usize| {
            let (x, y) = self.map.at(self.row, column as f64);
            is_in(x, y)
        };
        while range.start < range.end && !holds(range.start) {
            range.start += 1;
        }
        while range.start < range.end && !holds(range.end - 1) {
            range.end -= 1;
        }
        if range.start < range.end { range } else { 0..0 }
    }

    /// Columns that read at least one neighbour, and miss at least one.
    fn edges(&self) -> impl Iterator<Item = usize> + use<T> {
        let (touching, inside) = (self.touching.clone(), self.inside.clone());
        (touching.start..inside.start).chain(inside.end..touching.end)
    }

    /// The neighbours that a column reads, by their index, and their weights.
    fn neighbours(&self, column: usize) -> impl Iterator<Item = (usize, T)> + use<T> {
        let (x, y) = self.map.at(self.row, column as f64);
        let Planes { h, w, .. } = self.planes;
        let corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)];
        corners.into_iter().filter_map(move |(dx, dy)| {
            let (left, top) = (x.floor() + dx, y.floor() + dy);
            let exists = left >= 0.0 && top >= 0.0 && left < w as f64 && top < h as f64;
            let weight = (1.0 - (x - left).abs()) * (1.0 - (y - top).abs());
            exists.then(|| (top as usize * w + left as usize, T::constant(weight)))
        })
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn read(&self, x: &[T], out: &mut [T]) {
        let w = self.planes.w;
        out.fill(T::zero());
        for column in self.edges() {
            for (at, weight) in self.neighbours(column) {
                out[column] += weight * x[at];
            }
        }
        let points = self.at.iter().zip(self.right.iter().zip(&self.down));
        for (out, (&at, (&right, &down))) in out[self.inside.clone()].iter_mut().zip(points) {
            let x = &x[at as usize..][..w + 2];
            let upper = x[0] + right * (x[1] - x[0]);
            let lower = x[w] + right * (x[w + 1] - x[w]);
            *out = upper + down * (lower - upper);
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn add(&self, dy: &[T], x: &mut [T]) {
        let w = self.planes.w;
        for column in self.edges() {
            for (at, weight) in self.neighbours(column) {
                x[at] += weight * dy[column];
            }
        }
        let points = self.at.iter().zip(self.right.iter().zip(&self.down));
        for (&dy, (&at, (&right, &down))) in dy[self.inside.clone()].iter().zip(points) {
            let x = &mut x[at as usize..][..w + 2];
            let lower = dy * down;
            let upper = dy - lower;
            let (upper_right, lower_right) = (upper * right, lower * right);
            x[0] += upper - upper_right;
            x[1] += upper_right;
            x[w] += lower - lower_right;
            x[w + 1] += lower_right;
        }
    }
}
