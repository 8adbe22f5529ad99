//! The stream against the sum over terms, which sums in the same order: equal to the bit.

use super::*;

/// Four taps of which no two are equal.
const TAPS: [f64; 4] = [0.5, -1.25, 2.0, 0.75];

/// Twelve of them.
const LONG: [f64; 12] = [0.5, -1.25, 2.0, 0.75, 1.5, -0.25, 3.0, 1.75, -2.5, 0.25, -0.75, 1.25];

fn axis_of<T: Element>(
    taps: &[f64],
    len: usize,
    (up, down): (usize, usize),
    pad: [isize; 2],
) -> Option<(Polyphase<T>, usize)> {
    let axis = Axis { up, down, pad };
    let out_len = usize::try_from(axis.out_len(len, taps.len())).ok().filter(|len| *len > 0)?;
    Some((Polyphase::new(&axis, taps, 1.5), out_len))
}

/// Whether both paths agree for `count` planes, if anything is left of them.
fn check<T: Element>(
    taps: &[f64],
    count: usize,
    [h, w]: [usize; 2],
    [y_factors, x_factors]: [(usize, usize); 2],
    [y_pad, x_pad]: [[isize; 2]; 2],
) -> bool {
    let (y, x) = (axis_of::<T>(taps, h, y_factors, y_pad), axis_of::<T>(taps, w, x_factors, x_pad));
    let (Some((column, oh)), Some((row, ow))) = (y, x) else { return false };
    let value = |i: usize| T::from_f64((i * i % 127) as f64 - 60.0);
    let x: Vec<T> = (0..count * h * w).map(value).collect();
    let planes = Planes { count, h, w, oh, ow };
    let streamed = streamed::apply(&x, planes, (&column, &row)).unwrap();
    let what = format!("{count}x{h}x{w}, {y_factors:?} {x_factors:?}, {y_pad:?} {x_pad:?}");
    assert!(streamed == add_terms(&x, planes, &[(column, row)]), "{what}");
    true
}

const FACTORS: [(usize, usize); 3] = [(1, 1), (2, 1), (1, 2)];

/// Pads and crops of either side, also such that no input is met at all.
const PADS: [[isize; 2]; 10] =
    [[1, 1], [2, 1], [2, 2], [0, 0], [3, 0], [0, 5], [-1, 2], [4, -3], [-2, -2], [9, 9]];

#[test]
fn rows_of_any_length() {
    let mut num_checked = 0;
    for w in 1..=40 {
        for factors in FACTORS {
            for pad in PADS {
                let of = |taps, y_pad, count| {
                    check::<f32>(taps, count, [3, w], [(1, 1), factors], [y_pad, pad])
                };
                num_checked +=
                    usize::from(of(&TAPS, [2, 1], 1)) + usize::from(of(&TAPS, [2, 1], 3));
                num_checked += usize::from(of(&LONG, [5, 5], 2));
            }
        }
    }
    assert!(num_checked > 3000, "{num_checked}");
}

#[test]
fn columns_of_any_length() {
    let mut num_checked = 0;
    for h in 1..=20 {
        for factors in FACTORS {
            for pad in PADS {
                for x_factors in FACTORS {
                    let sizes = [h, 7];
                    let factors = [factors, x_factors];
                    let of = |taps, x_pad| check::<f64>(taps, 2, sizes, factors, [pad, x_pad]);
                    num_checked += usize::from(of(&TAPS, [2, 1])) + usize::from(of(&LONG, [6, 5]));
                }
            }
        }
    }
    assert!(num_checked > 2500, "{num_checked}");
}

/// More than one task, and the sizes of a network.
#[test]
fn many_planes() {
    for (size, factors, pad) in
        [(65, (1, 1), [1, 1]), (32, (2, 1), [2, 1]), (64, (1, 2), [1, 1]), (4, (2, 1), [2, 1])]
    {
        assert!(check::<f32>(&TAPS, 99, [size; 2], [factors; 2], [pad; 2]));
    }
    for (size, factors, pad) in [(65, (2, 1), [6, 5]), (130, (1, 2), [0, 0])] {
        assert!(check::<f32>(&LONG, 9, [size; 2], [factors; 2], [pad; 2]));
    }
}

#[test]
fn other_filters_and_factors_are_not_streamed() {
    let plain = Axis { up: 1, down: 1, pad: [0, 0] };
    let four = Polyphase::new(&plain, &TAPS, 1.0);
    let others = [
        (plain, &TAPS[..3]),
        (plain, &[1.0, 0.0, 2.0, 1.0]), // a tap that is left out
        (plain, &LONG),                 // beside one of four taps
        (Axis { up: 3, ..plain }, &TAPS),
        (Axis { down: 3, ..plain }, &TAPS),
        (Axis { up: 2, down: 2, ..plain }, &TAPS),
        (Axis { up: 2, down: 3, ..plain }, &TAPS),
    ];
    let planes = Planes { count: 1, h: 9, w: 9, oh: 1, ow: 1 };
    for (axis, taps) in others {
        let other = Polyphase::new(&axis, taps, 1.0);
        for axes in [(&four, &other), (&other, &four)] {
            assert!(streamed::apply(&[0f64; 81], planes, axes).is_none(), "{axis:?}, {taps:?}");
        }
    }
}
