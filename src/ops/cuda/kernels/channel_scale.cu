// Planes times numbers, and the sums of products of planes.
#include "common.cuh"

template <typename A> struct ChannelScaleArgs {
  u64 x; // [rows, plane], rows = N C
  u64 s; // [rows]
  u64 y; // [rows, plane]
  u64 plane;
};

template <typename T>
__device__ void channel_scale(const ChannelScaleArgs<typename Compute<T>::type> &args, u64 index) {
  u64 pixel;
  const u64 row = divide(index, args.plane, pixel);
  const auto product = load(memory<const T>(args.x)[index]) * load(memory<const T>(args.s)[row]);
  memory<T>(args.y)[index] = store<T>(product);
}

ENTRIES(channel_scale, ChannelScaleArgs)

template <typename A> struct ChannelDotArgs {
  u64 a;    // [rows, plane]
  u64 b;    // [rows, plane]
  u64 sums; // [rows, lanes], each over every `lanes`-th pixel of a row
  u64 plane, lanes;
};

// One thread for each (row, lane).
template <typename T>
__device__ void channel_dot(const ChannelDotArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 lane;
  const u64 row = divide(index, args.lanes, lane) * args.plane;
  A sum = 0;
  for (u64 pixel = lane; pixel < args.plane; pixel += args.lanes) {
    const u64 at = row + pixel;
    sum += load(memory<const T>(args.a)[at]) * load(memory<const T>(args.b)[at]);
  }
  memory<A>(args.sums)[index] = sum;
}

ENTRIES(channel_dot, ChannelDotArgs)
