// Sums of regularly spaced values: one thread for each sum.
//
// Long sums are made in several launches (../sum.rs), so that many threads share the work and
// neighbours read neighbours.
#include "common.cuh"

template <typename A> struct SumArgs {
  u64 x; // values in the type that is computed in
  u64 y; // one result for each thread
  u64 inner, outer_step;
  u64 step, end;
};

// With index = (o, i), i < inner: the sum of x[o * outer_step + k], k = i, i + step, .. < end.
template <typename T>
__device__ void sum(const SumArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  u64 first;
  const A *x = memory<const A>(args.x) + divide(index, args.inner, first) * args.outer_step;
  A total = 0;
  for (u64 k = first; k < args.end; k += args.step) {
    total += x[k];
  }
  memory<T>(args.y)[index] = store<T>(total);
}

ENTRIES(sum, SumArgs)
