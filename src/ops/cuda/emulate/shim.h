// What makes a .cu file C++: qualifiers that mean nothing here, and the list of kernels.
#pragma once

#include <cmath>
#include <cstring>

#define __device__
#define __global__

using std::cos;
using std::fabs;
using std::floor;
using std::log;
using std::sin;
using std::sqrt;

typedef void (*Kernel)(const void *args, unsigned long long num_threads);

// One kernel for one element type; all form a list.
struct Registered {
  const char *name;
  Kernel kernel;
  const Registered *next;
  static const Registered *&first() {
    static const Registered *head = nullptr;
    return head;
  }
  Registered(const char *name, Kernel kernel) : name(name), kernel(kernel), next(first()) {
    first() = this;
  }
};
