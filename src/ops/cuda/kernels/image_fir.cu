// Images filtered along one axis by taps of their own: one thread for each output pixel.
#include "common.cuh"

template <typename A> struct ImageFirArgs {
  u64 x;    // [N, channels, h, w]
  u64 taps; // [N, num_taps], correlated with the image
  u64 y;    // [N, channels, oh, ow]
  int channels, h, w, oh, ow;
  int num_taps, pad; // zeros at either end of the axis
  int is_down;       // along the columns, else along the rows
};

template <typename T>
__device__ void image_fir(const ImageFirArgs<typename Compute<T>::type> &args, u64 index) {
  u64 column, row, channel;
  const u64 plane = divide(divide(index, args.ow, column), args.oh, row);
  const T *taps = memory<const T>(args.taps) + divide(plane, args.channels, channel) * args.num_taps;
  const int start = int(args.is_down ? row : column) - args.pad;
  const int len = args.is_down ? args.h : args.w, step = args.is_down ? args.w : 1;
  const T *x = memory<const T>(args.x) + plane * args.h * args.w;
  x += args.is_down ? column : row * args.w;
  const int first = start < 0 ? -start : 0;
  const int end = len - start < args.num_taps ? len - start : args.num_taps;
  typename Compute<T>::type sum = 0;
  for (int tap = first; tap < end; ++tap) {
    sum += load(taps[tap]) * load(x[u64(start + tap) * step]);
  }
  memory<T>(args.y)[index] = store<T>(sum);
}

ENTRIES(image_fir, ImageFirArgs)
