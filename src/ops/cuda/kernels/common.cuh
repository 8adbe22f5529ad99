// What all kernels share: element types, and how a kernel is entered.
//
// A kernel is a function of its arguments and one index: thread `index` of `num_threads` computes
// what no other thread computes, alone, so the order of every sum is fixed and no memory is shared.
// Therefore the same source also runs on the processor (../emulate), one index after the other.
//
// Arguments are one plain struct per kernel; its twin stands in the Rust file of the same name.
#pragma once

#ifdef EMULATE
#include "shim.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

typedef unsigned int u32;
typedef unsigned long long u64;

// The type that a kernel computes in: 16-bit types are for storage only.
template <typename T> struct Compute { typedef T type; };

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }

template <typename T> __device__ inline T store(typename Compute<T>::type x) { return T(x); }

#ifdef EMULATE

// The types that the emulation covers; the 16-bit ones differ in loads and stores only.
#define ENTRY(kernel, ARGS, SUFFIX, T)                                                             \
  static void kernel##_##SUFFIX(const void *args, u64 num_threads) {                               \
    for (u64 index = 0; index < num_threads; ++index) {                                            \
      kernel<T>(*static_cast<const ARGS<Compute<T>::type> *>(args), index);                        \
    }                                                                                              \
  }                                                                                                \
  static const Registered registered_##kernel##_##SUFFIX(#kernel "_" #SUFFIX, kernel##_##SUFFIX);

#define ENTRIES(kernel, ARGS)                                                                      \
  ENTRY(kernel, ARGS, f32, float)                                                                  \
  ENTRY(kernel, ARGS, f64, double)

#define FULL_PRECISION_ENTRIES(kernel, ARGS) ENTRIES(kernel, ARGS)

#else

template <> struct Compute<__half> { typedef float type; };
template <> struct Compute<__nv_bfloat16> { typedef float type; };

__device__ inline float load(__half x) { return __half2float(x); }
__device__ inline float load(__nv_bfloat16 x) { return __bfloat162float(x); }

template <> __device__ inline __half store<__half>(float x) { return __float2half_rn(x); }
template <> __device__ inline __nv_bfloat16 store<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

#define ENTRY(kernel, ARGS, SUFFIX, T)                                                             \
  extern "C" __global__ void __launch_bounds__(256)                                                \
      kernel##_##SUFFIX(const ARGS<Compute<T>::type> args, const u64 num_threads) {                \
    const u64 index = u64(blockIdx.x) * blockDim.x + threadIdx.x;                                  \
    if (index < num_threads) {                                                                     \
      kernel<T>(args, index);                                                                      \
    }                                                                                              \
  }

#define FULL_PRECISION_ENTRIES(kernel, ARGS)                                                       \
  ENTRY(kernel, ARGS, f32, float)                                                                  \
  ENTRY(kernel, ARGS, f64, double)

#define ENTRIES(kernel, ARGS)                                                                      \
  FULL_PRECISION_ENTRIES(kernel, ARGS)                                                             \
  ENTRY(kernel, ARGS, f16, __half)                                                                 \
  ENTRY(kernel, ARGS, bf16, __nv_bfloat16)

#endif

// Memory is passed as an address, since Rust has no type for a pointer of another machine.
template <typename T> __device__ inline T *memory(u64 address) {
  return reinterpret_cast<T *>(address);
}

// Quotient and remainder; a division of 64 bits is slow on a GPU and seldom needed.
__device__ inline u64 divide(u64 value, u64 divisor, u64 &remainder) {
  if ((value | divisor) >> 32 == 0) {
    remainder = u32(value) % u32(divisor);
    return u32(value) / u32(divisor);
  }
  remainder = value % divisor;
  return value / divisor;
}
