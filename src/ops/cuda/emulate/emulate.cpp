// All kernels as one library for the processor.
#define EMULATE

#include "../kernels/all.cu"

// Runs a kernel; 1 if there is none of this name.
extern "C" int emulate_kernel(const char *name, const void *args, unsigned long long num_threads) {
  for (const Registered *entry = Registered::first(); entry != nullptr; entry = entry->next) {
    if (std::strcmp(entry->name, name) == 0) {
      entry->kernel(args, num_threads);
      return 0;
    }
  }
  return 1;
}
