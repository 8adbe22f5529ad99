// Images read along affine maps, and the adjoint. One thread for each pixel of a result, which
// takes all channels: where it reads is the same for all.
//
// Coordinates are computed in double: in float they are off by 1e-4 pixels in large images.
#include "common.cuh"

#define MAX_MAPS 64

template <typename A> struct GridSampleArgs {
  u64 x; // [N, channels, h, w]
  u64 y; // [N, channels, oh, ow]
  int channels, h, w, oh, ow;
  int unused;
  double maps[MAX_MAPS][6]; // (a, b, c, d, e, f): x = a column + b row + c, y = d column + ..
};

// As the processor rounds it.
__device__ inline double along(const double *map, double row, double column) {
  return map[0] * column + (map[1] * row + map[2]);
}

template <typename T>
__device__ void grid_sample(const GridSampleArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 column, row;
  const u64 image = divide(divide(index, args.ow, column), args.oh, row);
  const double *map = args.maps[image];
  const double x = along(map, double(row), double(column));
  const double y = along(map + 3, double(row), double(column));
  const bool touches = x > -1 && x < args.w && y > -1 && y < args.h;
  const int left = touches ? int(floor(x)) : 0, top = touches ? int(floor(y)) : 0;
  const A right = A(x - left), down = A(y - top);
  const u64 plane = u64(args.h) * args.w, out_plane = u64(args.oh) * args.ow;
  const T *from = memory<const T>(args.x) + image * args.channels * plane;
  T *to = memory<T>(args.y) + image * args.channels * out_plane + row * args.ow + column;
  for (int channel = 0; channel < args.channels; ++channel) {
    A sum = 0;
    for (int corner = 0; touches && corner < 4; ++corner) {
      const int at_x = left + (corner & 1), at_y = top + (corner >> 1);
      if (at_x >= 0 && at_x < args.w && at_y >= 0 && at_y < args.h) {
        const A weight = (corner & 1 ? right : 1 - right) * (corner >> 1 ? down : 1 - down);
        sum += weight * load(from[u64(at_y) * args.w + at_x]);
      }
    }
    *to = store<T>(sum);
    from += plane;
    to += out_plane;
  }
}

ENTRIES(grid_sample, GridSampleArgs)

// The whole numbers from `first` to `last` within 0..len; all of them where the bounds are no
// numbers.
struct Span {
  int first, end;
};

__device__ inline Span span_of(double first, double last, int len) {
  Span span{0, len};
  if (first > 0) {
    span.first = first < len ? int(first) : len;
  }
  if (last < len - 1) {
    span.end = last < -1 ? 0 : int(last) + 1;
  }
  return span;
}

#define CHANNELS_AT_ONCE 4

// A pixel meets what is read within one pixel of it: a square, which the inverse map makes a
// parallelogram. Its bounding box is searched, and weights decide.
template <typename T>
__device__ void grid_splat(const GridSampleArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 px, py;
  const u64 image = divide(divide(index, args.w, px), args.h, py);
  const double *map = args.maps[image];
  const double a = map[0], b = map[1], d = map[3], e = map[4], det = a * e - b * d;
  const double x = double(px) - map[2], y = double(py) - map[5];
  // NaN or infinite where there is no inverse. The slack covers the rounding of both maps.
  const double column = (e * x - b * y) / det, row = (a * y - d * x) / det;
  const double reach_x = (fabs(e) + fabs(b)) / fabs(det) + 0.01;
  const double reach_y = (fabs(a) + fabs(d)) / fabs(det) + 0.01;
  const bool invertible = reach_x < 1e6 && reach_y < 1e6;
  const Span columns = invertible ? span_of(column - reach_x, column + reach_x, args.ow) : Span{0, args.ow};
  const Span rows = invertible ? span_of(row - reach_y, row + reach_y, args.oh) : Span{0, args.oh};
  const u64 plane = u64(args.h) * args.w, out_plane = u64(args.oh) * args.ow;
  const T *from = memory<const T>(args.y) + image * args.channels * out_plane;
  T *to = memory<T>(args.x) + image * args.channels * plane + py * args.w + px;
  for (int first = 0; first < args.channels; first += CHANNELS_AT_ONCE) {
    const int rest = args.channels - first;
    A sums[CHANNELS_AT_ONCE] = {0, 0, 0, 0};
    for (int i = rows.first; i < rows.end; ++i) {
      for (int j = columns.first; j < columns.end; ++j) {
        const double off_x = fabs(along(map, i, j) - double(px));
        const double off_y = fabs(along(map + 3, i, j) - double(py));
        if (off_x < 1 && off_y < 1) {
          const A weight = A(1 - off_x) * A(1 - off_y);
          for (int k = 0; k < CHANNELS_AT_ONCE && k < rest; ++k) {
            sums[k] += weight * load(from[(first + k) * out_plane + u64(i) * args.ow + j]);
          }
        }
      }
    }
    for (int k = 0; k < CHANNELS_AT_ONCE && k < rest; ++k) {
      to[(first + k) * plane] = store<T>(sums[k]);
    }
  }
}

ENTRIES(grid_splat, GridSampleArgs)
