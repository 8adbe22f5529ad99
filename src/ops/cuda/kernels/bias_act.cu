// Bias, piecewise linear activation, gain and clamp, forward and backward, in one pass each.
#include "common.cuh"

template <typename A> struct BiasActArgs {
  u64 x;           // [rows, plane], rows = N C
  u64 b;           // [channels]
  u64 y;           // [rows, plane]
  u64 channels, plane;
  A above, below; // slope times gain, of positive values and of others
  A limit;        // bound on the magnitude, may be infinite
};

template <typename T>
__device__ void bias_act(const BiasActArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 pixel, channel;
  divide(divide(index, args.plane, pixel), args.channels, channel);
  const A x = load(memory<const T>(args.x)[index]) + load(memory<const T>(args.b)[channel]);
  const A value = x * (x > A(0) ? args.above : args.below);
  // Comparisons, not min and max: those would turn NaN into the limit.
  const A y = value > args.limit ? args.limit : value < -args.limit ? -args.limit : value;
  memory<T>(args.y)[index] = store<T>(y);
}

ENTRIES(bias_act, BiasActArgs)

template <typename A> struct BiasActGradArgs {
  u64 dy;   // [rows, plane]
  u64 y;    // [rows, plane], the forward result: its sign tells the slope
  u64 dx;   // [rows, plane]
  u64 sums; // [rows, lanes] sums of dx, each over every `lanes`-th pixel of a row; 0: not wanted
  u64 plane, lanes;
  A above, below, limit;
};

// One thread for each (row, lane).
template <typename T>
__device__ void bias_act_grad(const BiasActGradArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 lane;
  const u64 row = divide(index, args.lanes, lane) * args.plane;
  A sum = 0;
  for (u64 pixel = lane; pixel < args.plane; pixel += args.lanes) {
    const A dy = load(memory<const T>(args.dy)[row + pixel]);
    const A y = load(memory<const T>(args.y)[row + pixel]);
    const bool is_inside = y < args.limit && -y < args.limit;
    const A dx = is_inside ? dy * (y > A(0) ? args.above : args.below) : A(0);
    memory<T>(args.dx)[row + pixel] = store<T>(dx);
    sum += dx;
  }
  if (args.sums != 0) {
    memory<A>(args.sums)[index] = sum;
  }
}

ENTRIES(bias_act_grad, BiasActGradArgs)
