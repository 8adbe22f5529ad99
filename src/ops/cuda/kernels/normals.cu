// Draws of N(0, 1): the generator of `ops::rng`, four values a thread.
//
// Reference: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (Philox4x32-10).
#include "common.cuh"

template <typename A> struct NormalsArgs {
  u64 y; // [count]
  u64 count;
  u64 first;                  // index of the first block of four
  u32 key_low, key_high;      // seed
  u32 step_low, step_high;
  u32 stream; // in the highest of four bytes
};

struct Block {
  u32 a, b, c, d;
};

__device__ inline Block philox(Block x, u32 key_low, u32 key_high) {
  for (int round = 0; round < 10; ++round) {
    const u64 first = u64(x.a) * 0xD2511F53u;
    const u64 second = u64(x.c) * 0xCD9E8D57u;
    x = Block{u32(second >> 32) ^ x.b ^ key_low, u32(second), u32(first >> 32) ^ x.d ^ key_high,
              u32(first)};
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return x;
}

// Uniform in (0, 1).
__device__ inline double uniform(u32 bits) { return (double(bits) + 0.5) / 4294967296.0; }

template <typename T>
__device__ void normals(const NormalsArgs<typename Compute<T>::type> &args, u64 index) {
  typedef typename Compute<T>::type A;
  const u64 block = args.first + index;
  const u32 last = args.stream << 24 | (u32(block >> 32) & 0xffffff);
  const Block bits = philox(Block{u32(block), args.step_low, args.step_high, last}, args.key_low,
                            args.key_high);
  const u32 pairs[4] = {bits.a, bits.b, bits.c, bits.d};
  for (u64 k = 0; k < 4 && index * 4 + k < args.count; ++k) {
    // Box and Muller: each pair of uniform numbers makes two normal ones.
    const double radius = sqrt(-2.0 * log(uniform(pairs[k / 2 * 2])));
    const double angle = 6.283185307179586476925 * uniform(pairs[k / 2 * 2 + 1]);
    const double value = radius * (k % 2 == 0 ? cos(angle) : sin(angle));
    memory<T>(args.y)[index * 4 + k] = store<T>(A(value));
  }
}

ENTRIES(normals, NormalsArgs)
