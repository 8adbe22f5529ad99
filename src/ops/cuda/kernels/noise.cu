// Adding one image of noise to every channel, and its adjoint.
#include "common.cuh"

template <typename A> struct AddNoiseArgs {
  u64 x;        // [N, channels, plane]; 0: zeros
  u64 noise;    // [N or 1, plane]
  u64 strength; // one value
  u64 y;        // [N, channels, plane]
  u64 channels, plane;
  u64 noise_step; // elements from one image's noise to the next; 0: all share one
};

template <typename T>
__device__ void add_noise(const AddNoiseArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 pixel, channel;
  const u64 n = divide(divide(index, args.plane, pixel), args.channels, channel);
  const A noise = load(memory<const T>(args.noise)[n * args.noise_step + pixel]);
  const A x = args.x == 0 ? A(0) : A(load(memory<const T>(args.x)[index]));
  memory<T>(args.y)[index] = store<T>(x + load(memory<const T>(args.strength)[0]) * noise);
}

ENTRIES(add_noise, AddNoiseArgs)

template <typename A> struct NoiseDotArgs {
  u64 x;     // [rows, plane], rows = N channels
  u64 noise; // [N or 1, plane]
  u64 sums;  // [rows, lanes], each over every `lanes`-th pixel of a row
  u64 channels, plane, lanes;
  u64 noise_step;
};

// One thread for each (row, lane).
template <typename T>
__device__ void noise_dot(const NoiseDotArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 lane, channel;
  const u64 row = divide(index, args.lanes, lane);
  const u64 noise = divide(row, args.channels, channel) * args.noise_step;
  A sum = 0;
  for (u64 pixel = lane; pixel < args.plane; pixel += args.lanes) {
    sum += load(memory<const T>(args.x)[row * args.plane + pixel]) *
           load(memory<const T>(args.noise)[noise + pixel]);
  }
  memory<A>(args.sums)[index] = sum;
}

ENTRIES(noise_dot, NoiseDotArgs)
