// Upsample, pad, filter, downsample: one thread for each output pixel.
//
// Of the taps only those are visited that meet a pixel of the input; the zeros between upsampled
// pixels are never built.
#include "common.cuh"

#define MAX_TAPS 256

template <typename A> struct Upfirdn2dArgs {
  u64 x; // [planes, h, w]
  u64 y; // [planes, oh, ow]
  int h, w, oh, ow;
  int up_y, down_y, pad_y; // zeros above the first row; negative: rows cut off
  int up_x, down_x, pad_x;
  int taps_y, taps_x;
  A filter[MAX_TAPS]; // [taps_y, taps_x], correlated with the padded image, with the gain
};

// The taps of one axis that meet pixels: `tap`, `tap + up`, .. below `end`, at `pixel`, `pixel + 1`, ..
struct Taps {
  int tap, end, pixel;
};

// For an output whose tap 0 lies at upsampled coordinate `start`, and `len` pixels.
__device__ inline Taps taps_of(int start, int up, int len, int num_taps) {
  int tap = 0, pixel = start;
  if (up > 1) {
    const int beyond = ((start % up) + up) % up;
    tap = beyond == 0 ? 0 : up - beyond;
    pixel = (start + tap) / up; // exact
  }
  if (pixel < 0) {
    tap -= pixel * up;
    pixel = 0;
  }
  const int last = tap + (len - pixel) * up; // the first tap beyond the last pixel
  return Taps{tap, last < num_taps ? last : num_taps, pixel};
}

template <typename T>
__device__ void upfirdn2d(const Upfirdn2dArgs<typename Compute<T>::type> &args, u64 index) {
  u64 ox, oy;
  const u64 plane = divide(divide(index, args.ow, ox), args.oh, oy);
  const Taps y = taps_of(int(oy) * args.down_y - args.pad_y, args.up_y, args.h, args.taps_y);
  const Taps x = taps_of(int(ox) * args.down_x - args.pad_x, args.up_x, args.w, args.taps_x);
  const T *row = memory<const T>(args.x) + (plane * args.h + y.pixel) * args.w + x.pixel;
  typename Compute<T>::type sum = 0;
  for (int tap_y = y.tap; tap_y < y.end; tap_y += args.up_y, row += args.w) {
    const typename Compute<T>::type *filter = args.filter + tap_y * args.taps_x;
    const T *pixel = row;
    for (int tap_x = x.tap; tap_x < x.end; tap_x += args.up_x, ++pixel) {
      sum += filter[tap_x] * load(*pixel);
    }
  }
  memory<T>(args.y)[index] = store<T>(sum);
}

ENTRIES(upfirdn2d, Upfirdn2dArgs)
