//! Bilinear algorithms for short convolutions in one dimension, as linear maps.
//!
//! Toom-Cook: `r` taps over inputs `x` give `m` outputs. Read as polynomials, their product is
//! known from its values at as many points as it has coefficients, so that with the input, kernel
//! and output maps `B^T`, `G` and `A^T` (the names of Lavin & Gray)
//!
//! ```text
//! y = A^T ((G w) * (B^T x))            m + r - 1 products instead of m r
//! ```
//!
//! For points `p_j` and infinity: row j of `G` is `(1, p_j, p_j^2, ..) / N_j`, where `N_j` is the
//! product of `p_j - p_k` over the other finite points; column j of `A^T` is `(1, p_j, ..)`; row j
//! of `B^T` holds the coefficients of the product of `x - p_k` over the other finite points. The
//! row of infinity is the product over all finite points, and its `G` and `A^T` are the last unit
//! vectors. (Signs and factors may move from a row of `B^T` to the same row of `G`.) In two
//! dimensions the maps are applied to columns, then to rows. The algorithm of a gradient is that of
//! the convolution, transposed: its maps are `A`, `G^T` and `B`.
//!
//! Stride 2: `y[i] = w0 x[2i] + w1 x[2i + 1] + w2 x[2i + 2]` is a convolution of the even pixels
//! with two taps, and of the odd pixels with one, where nothing can be saved.
//!
//! Reference: Lavin & Gray 2015, arXiv:1509.09308.

use super::machine::Vector;

/// A linear map of `FROM` numbers to `TO` numbers, of whole vectors at a time.
pub(super) trait Map: Send + Sync {
    const FROM: usize;
    const TO: usize;

    /// Reads `x(0..FROM)` and writes `y(0..TO)`.
    fn map<T, V: Vector<T>>(x: impl Fn(usize) -> V, y: impl FnMut(usize, V));
}

/// The largest number of points, inputs or outputs of a map.
pub(super) const MOST: usize = 9;

/// `map!(Name: FROM -> TO, |x, y| ..)`: a map that reads `x(i)` and writes `y(i, value)`.
macro_rules! map {
    ($(#[$doc:meta])* $name:ident: $from:literal -> $to:literal, |$x:ident, $y:ident| $body:block) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Map for $name {
            const FROM: usize = $from;
            const TO: usize = $to;

            #[inline(always)]
            fn map<T, V: Vector<T>>($x: impl Fn(usize) -> V, mut $y: impl FnMut(usize, V)) $body
        }
    };
}

map! {
    /// F(2, 3), points 0, 1, -1: `B^T`.
    InputF2: 4 -> 4, |x, y| {
        let (x0, x1, x2, x3) = (x(0), x(1), x(2), x(3));
        y(0, x0 - x2);
        y(1, x1 + x2);
        y(2, x2 - x1);
        y(3, x1 - x3);
    }
}

map! {
    /// F(2, 3): `G`.
    KernelF2: 3 -> 4, |w, y| {
        let (even, odd) = ((w(0) + w(2)) * 0.5, w(1) * 0.5);
        y(0, w(0));
        y(1, even + odd);
        y(2, even - odd);
        y(3, w(2));
    }
}

map! {
    /// F(2, 3): `G^T`.
    KernelF2T: 4 -> 3, |u, y| {
        let even = (u(1) + u(2)) * 0.5;
        y(0, u(0) + even);
        y(1, (u(1) - u(2)) * 0.5);
        y(2, even + u(3));
    }
}

map! {
    /// F(2, 3): `A^T`.
    OutputF2: 4 -> 2, |m, y| {
        let (m1, m2) = (m(1), m(2));
        y(0, m(0) + m1 + m2);
        y(1, m1 - m2 - m(3));
    }
}

map! {
    /// F(2, 3): `A`.
    OutputF2T: 2 -> 4, |dy, y| {
        let (a, b) = (dy(0), dy(1));
        y(0, a);
        y(1, a + b);
        y(2, a - b);
        y(3, b * -1.0);
    }
}

map! {
    /// F(4, 3), points 0, 1, -1, 2, -2: `B^T`.
    InputF4: 6 -> 6, |x, y| {
        let (x0, x1, x2, x3, x4, x5) = (x(0), x(1), x(2), x(3), x(4), x(5));
        let (even, odd) = (x4 - x2 * 4.0, x3 - x1 * 4.0);
        y(0, x4 + x0 * 4.0 - x2 * 5.0);
        y(1, even + odd);
        y(2, even - odd);
        let (even, odd) = (x4 - x2, (x3 - x1) * 2.0);
        y(3, even + odd);
        y(4, even - odd);
        y(5, x5 + x1 * 4.0 - x3 * 5.0);
    }
}

map! {
    /// F(4, 3): `G`.
    KernelF4: 3 -> 6, |w, y| {
        let (w0, w1, w2) = (w(0), w(1), w(2));
        y(0, w0 * 0.25);
        let (even, odd) = ((w0 + w2) * (-1.0 / 6.0), w1 * (-1.0 / 6.0));
        y(1, even + odd);
        y(2, even - odd);
        let (even, odd) = (w0 * (1.0 / 24.0) + w2 * (1.0 / 6.0), w1 * (1.0 / 12.0));
        y(3, even + odd);
        y(4, even - odd);
        y(5, w2);
    }
}

map! {
    /// F(4, 3): `G^T`.
    KernelF4T: 6 -> 3, |u, y| {
        let (sum1, difference1) = (u(1) + u(2), u(1) - u(2));
        let (sum2, difference2) = (u(3) + u(4), u(3) - u(4));
        y(0, u(0) * 0.25 - sum1 * (1.0 / 6.0) + sum2 * (1.0 / 24.0));
        y(1, difference2 * (1.0 / 12.0) - difference1 * (1.0 / 6.0));
        y(2, (sum2 - sum1) * (1.0 / 6.0) + u(5));
    }
}

map! {
    /// F(4, 3): `A^T`.
    OutputF4: 6 -> 4, |m, y| {
        let (m1, m2, m3, m4) = (m(1), m(2), m(3), m(4));
        let (sum1, difference1) = (m1 + m2, m1 - m2);
        let (sum2, difference2) = (m3 + m4, m3 - m4);
        y(0, m(0) + sum1 + sum2);
        y(1, difference1 + difference2 * 2.0);
        y(2, sum1 + sum2 * 4.0);
        y(3, difference1 + difference2 * 8.0 + m(5));
    }
}

map! {
    /// F(4, 3): `A`.
    OutputF4T: 4 -> 6, |dy, y| {
        let (dy0, dy1, dy2, dy3) = (dy(0), dy(1), dy(2), dy(3));
        let (even, odd) = (dy0 + dy2, dy1 + dy3);
        y(0, dy0);
        y(1, even + odd);
        y(2, even - odd);
        let (even, odd) = (dy0 + dy2 * 4.0, dy1 * 2.0 + dy3 * 8.0);
        y(3, even + odd);
        y(4, even - odd);
        y(5, dy3);
    }
}

map! {
    /// Stride 2, F(2, 2) with points 0, 1 on the even pixels: `B^T`.
    InputS2: 5 -> 5, |x, y| {
        let x2 = x(2);
        y(0, x(0) - x2);
        y(1, x2);
        y(2, x(4) - x2);
        y(3, x(1));
        y(4, x(3));
    }
}

map! {
    /// Stride 2 by F(2, 2): `B`.
    InputS2T: 5 -> 5, |m, y| {
        y(0, m(0));
        y(1, m(3));
        y(2, m(1) - m(0) - m(2));
        y(3, m(4));
        y(4, m(2));
    }
}

map! {
    /// Stride 2 by F(2, 2): `G`; the last value belongs to both odd pixels.
    KernelS2: 3 -> 4, |w, y| {
        y(0, w(0));
        y(1, w(0) + w(2));
        y(2, w(2));
        y(3, w(1));
    }
}

map! {
    /// Stride 2 by F(2, 2): `G^T`.
    KernelS2T: 4 -> 3, |u, y| {
        y(0, u(0) + u(1));
        y(1, u(3));
        y(2, u(1) + u(2));
    }
}

map! {
    /// Stride 2 by F(2, 2): `A^T`.
    OutputS2: 5 -> 2, |m, y| {
        let m1 = m(1);
        y(0, m(0) + m1 + m(3));
        y(1, m1 + m(2) + m(4));
    }
}

map! {
    /// Stride 2 by F(2, 2): `A`.
    OutputS2T: 2 -> 5, |dy, y| {
        let (a, b) = (dy(0), dy(1));
        y(0, a);
        y(1, a + b);
        y(2, b);
        y(3, a);
        y(4, b);
    }
}

map! {
    /// Stride 2, F(4, 2) with points 0, 1, -1, 2 on the even pixels: `B^T`.
    InputS4: 9 -> 9, |x, y| {
        let (x0, x2, x4, x6, x8) = (x(0), x(2), x(4), x(6), x(8));
        let difference = x6 - x2;
        y(0, difference + (x0 - x4) * 2.0);
        y(1, x6 - x4 - x2 * 2.0);
        y(2, x6 - x4 * 3.0 + x2 * 2.0);
        y(3, difference);
        y(4, x8 - x4 - difference * 2.0);
        y(5, x(1));
        y(6, x(3));
        y(7, x(5));
        y(8, x(7));
    }
}

map! {
    /// Stride 2 by F(4, 2): `B`.
    InputS4T: 9 -> 9, |m, y| {
        let (m0, m1, m2, m3, m4) = (m(0), m(1), m(2), m(3), m(4));
        let inner = m0 + m3 - m4 * 2.0;
        y(0, m0 * 2.0);
        y(1, m(5));
        y(2, (m2 - m1) * 2.0 - inner);
        y(3, m(6));
        y(4, (m0 * -2.0) - m1 - m2 * 3.0 - m4);
        y(5, m(7));
        y(6, inner + m1 + m2);
        y(7, m(8));
        y(8, m4);
    }
}

map! {
    /// Stride 2 by F(4, 2): `G`; the last value belongs to all odd pixels.
    KernelS4: 3 -> 6, |w, y| {
        let (w0, w2) = (w(0), w(2));
        y(0, w0 * 0.5);
        y(1, (w0 + w2) * -0.5);
        y(2, (w2 - w0) * (1.0 / 6.0));
        y(3, (w0 + w2 * 2.0) * (1.0 / 6.0));
        y(4, w2);
        y(5, w(1));
    }
}

map! {
    /// Stride 2 by F(4, 2): `G^T`.
    KernelS4T: 6 -> 3, |u, y| {
        let (u1, u2, u3) = (u(1), u(2), u(3));
        y(0, (u(0) - u1) * 0.5 + (u3 - u2) * (1.0 / 6.0));
        y(1, u(5));
        y(2, (u2 + u3 * 2.0) * (1.0 / 6.0) - u1 * 0.5 + u(4));
    }
}

map! {
    /// Stride 2 by F(4, 2): `A^T`.
    OutputS4: 9 -> 4, |m, y| {
        let (m1, m2, m3) = (m(1), m(2), m(3));
        let (sum, difference) = (m1 + m2, m1 - m2);
        y(0, m(0) + sum + m3 + m(5));
        y(1, difference + m3 * 2.0 + m(6));
        y(2, sum + m3 * 4.0 + m(7));
        y(3, difference + m3 * 8.0 + m(4) + m(8));
    }
}

map! {
    /// Stride 2 by F(4, 2): `A`.
    OutputS4T: 4 -> 9, |dy, y| {
        let (dy0, dy1, dy2, dy3) = (dy(0), dy(1), dy(2), dy(3));
        let (even, odd) = (dy0 + dy2, dy1 + dy3);
        y(0, dy0);
        y(1, even + odd);
        y(2, even - odd);
        y(3, dy0 + dy1 * 2.0 + dy2 * 4.0 + dy3 * 8.0);
        y(4, dy3);
        y(5, dy0);
        y(6, dy1);
        y(7, dy2);
        y(8, dy3);
    }
}
