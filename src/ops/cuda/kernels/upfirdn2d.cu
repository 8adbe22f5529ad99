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

// The first tap at or after 0 that meets an existing pixel, for an output whose tap 0 lies at
// upsampled coordinate `start`; `pixel` becomes the pixel that it meets.
__device__ inline int first_tap(int start, int up, int &pixel) {
  const int beyond = ((start % up) + up) % up;
  const int tap = beyond == 0 ? 0 : up - beyond;
  pixel = (start + tap) / up; // exact
  return tap;
}

template <typename T>
__device__ void upfirdn2d(const Upfirdn2dArgs<typename Compute<T>::type> &args, u64 index) {
  u64 ox, oy;
  const u64 plane = divide(divide(index, args.ow, ox), args.oh, oy);
  const T *x = memory<const T>(args.x) + plane * args.h * args.w;
  int first_row, first_col;
  const int first_y = first_tap(int(oy) * args.down_y - args.pad_y, args.up_y, first_row);
  const int first_x = first_tap(int(ox) * args.down_x - args.pad_x, args.up_x, first_col);
  typename Compute<T>::type sum = 0;
  for (int tap_y = first_y, row = first_row; tap_y < args.taps_y; tap_y += args.up_y, ++row) {
    if (row < 0 || row >= args.h) {
      continue;
    }
    for (int tap_x = first_x, col = first_col; tap_x < args.taps_x; tap_x += args.up_x, ++col) {
      if (col >= 0 && col < args.w) {
        sum += args.filter[tap_y * args.taps_x + tap_x] * load(x[u64(row) * args.w + col]);
      }
    }
  }
  memory<T>(args.y)[index] = store<T>(sum);
}

ENTRIES(upfirdn2d, Upfirdn2dArgs)
