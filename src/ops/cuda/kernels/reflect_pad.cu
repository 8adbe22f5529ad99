// A mirror at each edge of an image, and the adjoint: one thread for each pixel of a result.
#include "common.cuh"

template <typename A> struct ReflectPadArgs {
  u64 x; // [planes, h, w]
  u64 y; // [planes, padded_h, padded_w]
  int h, w, padded_h, padded_w;
  int top, left;
  int unused[2];
};

// Where padded index `at` comes from, of `len` pixels after `before`.
__device__ inline int mirrored(int at, int before, int len) {
  const int i = at < before ? before - at : at - before;
  return i < len ? i : 2 * (len - 1) - i;
}

template <typename T>
__device__ void reflect_pad(const ReflectPadArgs<typename Compute<T>::type> &args, u64 index) {
  u64 column, row;
  const u64 plane = divide(divide(index, args.padded_w, column), args.padded_h, row);
  const int y = mirrored(int(row), args.top, args.h);
  const int x = mirrored(int(column), args.left, args.w);
  memory<T>(args.y)[index] = memory<const T>(args.x)[(plane * args.h + y) * args.w + x];
}

ENTRIES(reflect_pad, ReflectPadArgs)

// The padded indices that mirror index `i`: itself, before the first and after the last pixel.
struct Mirrors {
  int at[3];
};

// Those that do not exist are -1.
__device__ inline Mirrors mirrors_of(int i, int before, int len, int padded_len) {
  Mirrors mirrors{{before + i, -1, -1}};
  if (i > 0) {
    mirrors.at[1] = before - i; // negative: beyond the margin
  }
  const int after = before + 2 * (len - 1) - i;
  if (i < len - 1 && after < padded_len) {
    mirrors.at[2] = after;
  }
  return mirrors;
}

template <typename T>
__device__ void reflect_fold(const ReflectPadArgs<typename Compute<T>::type> &args, u64 index) {
  u64 column, row;
  const u64 plane = divide(divide(index, args.w, column), args.h, row);
  const Mirrors rows = mirrors_of(int(row), args.top, args.h, args.padded_h);
  const Mirrors columns = mirrors_of(int(column), args.left, args.w, args.padded_w);
  typename Compute<T>::type sum = 0;
  for (int y : rows.at) {
    for (int x : columns.at) {
      if (y >= 0 && x >= 0) {
        sum += load(memory<const T>(args.y)[(plane * args.padded_h + y) * args.padded_w + x]);
      }
    }
  }
  memory<T>(args.x)[index] = store<T>(sum);
}

ENTRIES(reflect_fold, ReflectPadArgs)
