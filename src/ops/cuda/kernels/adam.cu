// Adam and the moving average of weights, element by element in one pass.
#include "common.cuh"

// Whether the number at an address, the gate, is not finite; 0: there is none.
__device__ inline bool is_shut(u64 gate) {
  if (gate == 0) {
    return false;
  }
  const double number = *memory<const double>(gate);
  return number - number != 0.0;
}

template <typename A> struct AdamArgs {
  u64 p;    // parameters
  u64 g;    // gradients
  u64 m, v; // moments
  u64 ema;  // average of the parameters before this step; 0: none
  u64 gate; // not finite: only the average moves
  A ema_beta;
  A beta1, beta2, eps;
  A step_size;       // learning rate over the first moment's bias correction
  A root_correction; // root of the second moment's bias correction
};

template <typename T> __device__ void adam(const AdamArgs<T> &args, u64 index) {
  T &p = memory<T>(args.p)[index];
  if (args.ema != 0) {
    T &e = memory<T>(args.ema)[index];
    e = p + args.ema_beta * (e - p);
  }
  if (is_shut(args.gate)) {
    return;
  }
  T g = memory<const T>(args.g)[index];
  if (g != g) {
    g = T(0);
  } else if (g - g != T(0)) { // infinite
    g = g > T(0) ? T(1e5) : T(-1e5);
  }
  T &m = memory<T>(args.m)[index];
  T &v = memory<T>(args.v)[index];
  m = args.beta1 * m + (T(1) - args.beta1) * g;
  v = args.beta2 * v + (T(1) - args.beta2) * g * g;
  p -= args.step_size * m / (sqrt(v) / args.root_correction + args.eps);
}

FULL_PRECISION_ENTRIES(adam, AdamArgs)

template <typename A> struct BlendArgs {
  u64 ema;   // moved in place
  u64 value; // what it moves towards
  u64 gate;  // not finite: it stays
  A beta;
};

template <typename T> __device__ void blend(const BlendArgs<T> &args, u64 index) {
  if (is_shut(args.gate)) {
    return;
  }
  const T value = memory<const T>(args.value)[index];
  T &e = memory<T>(args.ema)[index];
  e = value + args.beta * (e - value);
}

FULL_PRECISION_ENTRIES(blend, BlendArgs)
